// A server on the shipped model with prompts in a folder of its own, and a real client over HTTP.
using System.Diagnostics;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using Xunit;

namespace IptNative.Server.Tests;

internal sealed class RunningServer : IAsyncDisposable
{
    public const int DModel = 128;

    private readonly List<string> _log = [];

    private RunningServer(string folder) => Folder = folder;

    public static string Root { get; } = FindRoot();

    public static string Model { get; } = Path.Combine(Root, "models", "t5-gym-tiny");

    public string Folder { get; }

    public CompletionServer Server { get; private set; } = null!; // set by Start, before anyone sees the object

    // Far above what an answer takes on a machine that others use too: only a hang is to be ended. A connection that is there stays.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(10);

    public HttpClient Client { get; } = new(new SocketsHttpHandler { PooledConnectionIdleTimeout = Patience }) { Timeout = Patience };

    public string[] Log
    {
        get
        {
            lock (_log)
                return [.. _log];
        }
    }

    public static async Task<RunningServer> Start(int prompts = 3, Func<ServerOptions, ServerOptions>? change = null)
    {
        string folder = Directory.CreateTempSubdirectory("iptnative-serve-").FullName;
        for (int i = 0; i < prompts; i++)
            WritePrompt(Path.Combine(folder, $"p{i}.npy"), length: 2 + i, seed: i);
        var running = new RunningServer(folder);
        var options = new ServerOptions { Model = Model, Prompts = folder, Threads = 1, RescanEvery = TimeSpan.FromMilliseconds(50) };
        running.Server = await CompletionServer.StartAsync(change?.Invoke(options) ?? options, line =>
        {
            lock (running._log)
                running._log.Add(line);
        }, TestContext.Current.CancellationToken);
        running.Client.BaseAddress = running.Server.Address;
        return running;
    }

    public static void WritePrompt(string path, int length, int seed, int dModel = DModel)
    {
        var random = new Random(seed);
        float[] values = [.. Enumerable.Range(0, length * dModel).Select(_ => (float)(random.NextDouble() - 0.5))];
        NumpyFile.Write(path, new TensorShape(length, dModel), values);
    }

    public async Task<(int Status, JsonNode Body, HttpResponseMessage Response)> Post(string body, string type = "application/json")
    {
        using var content = new StringContent(body, Encoding.UTF8);
        content.Headers.ContentType = MediaTypeHeaderValue.Parse(type);
        HttpResponseMessage response = await Client.PostAsync("v1/completions", content, TestContext.Current.CancellationToken);
        return ((int)response.StatusCode, JsonNode.Parse(await response.Content.ReadAsStringAsync())!, response); // every answer is an object
    }

    /// <summary>An answer that has to be one.</summary>
    public async Task<JsonNode> Complete(JsonObject request)
    {
        (int status, JsonNode body, _) = await Post(request.ToJsonString());
        Assert.True(status == 200, body.ToJsonString());
        return body;
    }

    /// <summary>Starts a stream; the parts come as they are sent.</summary>
    public async Task<HttpResponseMessage> Stream(JsonObject request, CancellationToken cancel)
    {
        request["stream"] = true;
        var message = new HttpRequestMessage(HttpMethod.Post, "v1/completions") { Content = new StringContent(request.ToJsonString(), Encoding.UTF8, "application/json") };
        HttpResponseMessage response = await Client.SendAsync(message, HttpCompletionOption.ResponseHeadersRead, cancel);
        Assert.Equal(200, (int)response.StatusCode);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        return response;
    }

    public static async IAsyncEnumerable<string> Parts(HttpResponseMessage response)
    {
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
        while (await reader.ReadLineAsync() is { } line)
        {
            if (line.Length == 0)
                continue;
            Assert.StartsWith("data: ", line, StringComparison.Ordinal);
            yield return line["data: ".Length..];
        }
    }

    /// <summary>One figure of /metrics.</summary>
    public async Task<double> Figure(string name)
    {
        string text = await Client.GetStringAsync(new Uri("metrics", UriKind.Relative));
        string line = text.Split('\n').Single(l => l.StartsWith(name + " ", StringComparison.Ordinal));
        return double.Parse(line[(name.Length + 1)..], System.Globalization.CultureInfo.InvariantCulture);
    }

    /// <summary>Asks until something is so, and lets others work between two questions: what is waited for may need this very thread.</summary>
    public static async Task Until(Func<Task<bool>> isSo, string what)
    {
        long began = Stopwatch.GetTimestamp();
        while (!await isSo())
        {
            Assert.True(Stopwatch.GetElapsedTime(began) < Patience, $"not within {Patience.TotalMinutes} minutes: {what}");
            await Task.Yield();
        }
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await Server.DisposeAsync();
        Directory.Delete(Folder, recursive: true);
    }

    private static string FindRoot()
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "IptNative.sln")))
            folder = Path.GetDirectoryName(folder)!; // the tests lie inside the repository
        return folder;
    }
}
