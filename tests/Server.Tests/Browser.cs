// A real browser without a window, driven through its own debugging protocol. Deliberately no driver package: navigate and evaluate are all that is needed.
using System.Diagnostics;
using System.Net.WebSockets;
using System.Text;
using System.Text.Json.Nodes;
using Xunit;

namespace IptNative.Server.Tests;

internal sealed class Browser : IAsyncDisposable
{
    private static readonly string[] Programs = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

    private readonly Process _process;
    private readonly string _profile;
    private readonly ClientWebSocket _socket = new();
    private Task _rest = Task.CompletedTask;
    private int _number;

    private Browser(Process process, string profile) => (_process, _profile) = (process, profile);

    /// <summary>The program; null where none is installed.</summary>
    public static string? Program { get; } = Programs.FirstOrDefault(File.Exists);

    public static async Task<Browser> Open(Uri page)
    {
        string profile = Directory.CreateTempSubdirectory("iptnative-browser-").FullName;
        // No sandbox: tests run as root in containers, and the page is our own.
        var start = new ProcessStartInfo(Program!, ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--remote-debugging-port=0", $"--user-data-dir={profile}", "about:blank"])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        Process process = Process.Start(start) ?? throw new InvalidOperationException("the browser did not start.");
        var browser = new Browser(process, profile);
        const string Announced = "DevTools listening on ";
        string? line;
        do
        {
            line = await process.StandardError.ReadLineAsync(TestContext.Current.CancellationToken);
        }
        while (line is not null && !line.StartsWith(Announced, StringComparison.Ordinal));
        Assert.NotNull(line);
        // What it says from now on is read and thrown away: a full pipe would stop it.
        browser._rest = Task.WhenAll(process.StandardOutput.ReadToEndAsync(CancellationToken.None), process.StandardError.ReadToEndAsync(CancellationToken.None));
        using var http = new HttpClient();
        string address = $"http://127.0.0.1:{new Uri(line[Announced.Length..]).Port}/json/new?{Uri.EscapeDataString(page.ToString())}";
        HttpResponseMessage opened = await http.PutAsync(new Uri(address), null, TestContext.Current.CancellationToken);
        JsonNode target = JsonNode.Parse(await opened.Content.ReadAsStringAsync(TestContext.Current.CancellationToken))!; // an object
        await browser._socket.ConnectAsync(new Uri((string)target["webSocketDebuggerUrl"]!), TestContext.Current.CancellationToken);
        return browser;
    }

    /// <summary>Evaluates an expression in the page, waiting for it where it is a promise.</summary>
    public async Task<JsonNode?> Evaluate(string expression)
    {
        JsonNode answer = await Call("Runtime.evaluate", new JsonObject { ["expression"] = expression, ["awaitPromise"] = true, ["returnByValue"] = true });
        Assert.True(answer["exceptionDetails"] is null, $"{expression}: {answer["exceptionDetails"]?.ToJsonString()}");
        return answer["result"]?["value"];
    }

    /// <summary>Asks until an expression is true.</summary>
    public Task Until(string expression) => RunningServer.Until(async () => (bool?)await Evaluate($"!!({expression})") == true, expression);

    public async ValueTask DisposeAsync()
    {
        _socket.Dispose();
        _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync();
        await _rest;
        _process.Dispose();
        Directory.Delete(_profile, recursive: true);
    }

    private async Task<JsonNode> Call(string method, JsonObject parameters)
    {
        int number = ++_number;
        byte[] message = Encoding.UTF8.GetBytes(new JsonObject { ["id"] = number, ["method"] = method, ["params"] = parameters }.ToJsonString());
        await _socket.SendAsync(message, WebSocketMessageType.Text, endOfMessage: true, TestContext.Current.CancellationToken);
        byte[] buffer = new byte[1 << 16];
        while (true)
        {
            var text = new StringBuilder();
            WebSocketReceiveResult part;
            do
            {
                part = await _socket.ReceiveAsync(buffer, TestContext.Current.CancellationToken);
                text.Append(Encoding.UTF8.GetString(buffer, 0, part.Count));
            }
            while (!part.EndOfMessage);
            JsonNode told = JsonNode.Parse(text.ToString())!; // the protocol's messages are objects
            if ((int?)told["id"] == number)
                return told["result"] ?? throw new InvalidOperationException($"{method}: {told["error"]?.ToJsonString()}");
        }
    }
}
