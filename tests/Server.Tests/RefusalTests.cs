using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using Xunit;

namespace IptNative.Server.Tests;

/// <summary>What must not be answered, and how that is said.</summary>
public sealed class RefusalTests
{
    public static TheoryData<string, int, string> BadBodies => new()
    {
        { "", 400, "The body is no JSON object" },
        { "{", 400, "The body is no JSON object" },
        { "[1]", 400, "The body is a JSON array, expected an object" },
        { """{"model": "p0", "model": "p1", "prompt": "x"}""", 400, "model" },
        { """{"prompt": "x"}""", 400, "'model' is missing" },
        { """{"model": null, "prompt": "x"}""", 400, "'model' is null, expected a text" },
        { """{"model": "p0"}""", 400, "'prompt' is missing" },
        { """{"model": "p0", "prompt": 3}""", 400, "'prompt' is 3, expected a text, an array" },
        { """{"model": "p0", "prompt": []}""", 400, "'prompt' is [], expected" },
        { """{"model": "p0", "prompt": ["a", 1]}""", 400, "expected a text, an array" },
        { """{"model": "p0", "prompt": [1, 8192]}""", 400, "Input 0 has token 8192 at 1, expected 0 to 8191." },
        { """{"model": "p0", "prompt": "\ud800"}""", 400, "half a surrogate pair" },
        { """{"model": "nobody", "prompt": "x"}""", 404, "The prompt 'nobody' does not exist" },
        { """{"model": "../p0", "prompt": "x"}""", 404, "does not exist" },
        { """{"model": "/etc/passwd", "prompt": "x"}""", 404, "does not exist" },
        { """{"model": "t5-gym-tiny", "prompt": ""}""", 400, "there is nothing to answer" },
        { """{"model": "p0", "prompt": "x", "max_tokens": 0}""", 400, "'max_tokens' is 0, expected a whole number from 1 to 256." },
        { """{"model": "p0", "prompt": "x", "max_tokens": 1e9}""", 400, "'max_tokens' is 1e9" },
        { """{"model": "p0", "prompt": "x", "max_tokens": 3, "min_tokens": 3}""", 400, "'min_tokens' is 3 and max_tokens is 3, expected fewer." },
        { """{"model": "p0", "prompt": "x", "n": 33}""", 400, "'n' is 33, expected a whole number from 1 to 32." },
        { """{"model": "p0", "prompt": ["x", "y"], "n": 17}""", 400, "2 inputs with n = 17 are 34 texts, expected at most 32" },
        { """{"model": "p0", "prompt": "x", "best_of": 3}""", 400, "'best_of' is 3 and n is 1" },
        { """{"model": "p0", "prompt": "x", "temperature": -1}""", 400, "'temperature' is -1, expected a number from 0 to 2." },
        { """{"model": "p0", "prompt": "x", "temperature": "hot"}""", 400, "'temperature' is \"hot\"" },
        { """{"model": "p0", "prompt": "x", "top_p": 0}""", 400, "'top_p' is 0" },
        { """{"model": "p0", "prompt": "x", "logprobs": 6}""", 400, "'logprobs' is 6, expected a whole number from 0 to 5." },
        { """{"model": "p0", "prompt": "x", "stop": ""}""", 400, "'stop' is \"\"" },
        { """{"model": "p0", "prompt": "x", "stop": ["a","b","c","d","e"]}""", 400, "'stop' is" },
        { """{"model": "p0", "prompt": "x", "stream": "yes"}""", 400, "'stream' is \"yes\", expected true or false." },
        { """{"model": "p0", "prompt": "x", "stream_options": {}}""", 400, "'stream_options' was given without" },
        { """{"model": "p0", "prompt": "x", "echo": true}""", 400, "'echo' is true, expected false" },
        { """{"model": "p0", "prompt": "x", "presence_penalty": 0.5}""", 400, "'presence_penalty' is 0.5, expected 0." },
        { """{"model": "p0", "prompt": "x", "logit_bias": {"5": 1}}""", 400, "'logit_bias' is" },
        { """{"model": "p0", "prompt": "x", "seed": 1.5}""", 400, "'seed' is 1.5" },
        { """{"model": "p0", "prompt": "x", "max_token": 5}""", 400, "'max_token' is no field of a completion request." },
        { "{\"model\": \"p0\", \"prompt\": " + new string('[', 100_000), 400, "The body is no JSON object" },
    };

    [Fact]
    public async Task EveryBadBodyHasItsStatusAndMessage()
    {
        await using RunningServer running = await RunningServer.Start();
        foreach ((string body, int status, string message) in BadBodies.Select(row => row.Data))
        {
            (int found, JsonNode answer, _) = await running.Post(body);
            string told = (string?)answer["error"]?["message"] ?? "";
            Assert.True(found == status && told.Contains(message, StringComparison.Ordinal), $"{body[..Math.Min(body.Length, 90)]}: {found} {told}");
            Assert.NotNull((string?)answer["error"]?["type"]);
        }
        // And it still answers.
        await running.Complete(new JsonObject { ["model"] = "p0", ["prompt"] = "x", ["max_tokens"] = 1, ["suffix"] = null, ["user"] = "u", ["echo"] = false, ["presence_penalty"] = 0, ["best_of"] = 1 });
        Assert.Empty(running.Log);
    }

    [Fact]
    public async Task OversizedAndMistypedBodiesAreRefused()
    {
        await using RunningServer running = await RunningServer.Start();
        // Raw, because a client that is refused in the middle of sending may never read why: refused by the length it announces, and by what it sends where it announces none.
        const string Head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        string announced = await Answer($"{Head}Content-Length: {10 << 20}\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 413", announced, StringComparison.Ordinal);
        string chunk = new('x', 0x10000);
        string sent = await Answer($"{Head}Transfer-Encoding: chunked\r\n\r\n" + string.Concat(Enumerable.Repeat($"10000\r\n{chunk}\r\n", 17)));
        Assert.StartsWith("HTTP/1.1 413", sent, StringComparison.Ordinal);
        Assert.Equal(2, await Refused(running, 413));
        try
        {
            (int tooLarge, JsonNode body, _) = await running.Post($$"""{"model": "p0", "prompt": "{{new string('x', 10 << 20)}}"}""");
            Assert.Equal(413, tooLarge);
            Assert.Contains("1048576 bytes", (string?)body["error"]!["message"], StringComparison.Ordinal);
        }
        catch (HttpRequestException)
        {
            // The server closed while the client was still sending; it may not have read the answer. The count below tells.
            Assert.NotNull(running.Client);
        }
        Assert.Equal(3, await Refused(running, 413));
        (int tooLong, JsonNode length, _) = await running.Post($$"""{"model": "p0", "prompt": "{{string.Concat(Enumerable.Repeat("word ", 600))}}"}""");
        Assert.Equal(400, tooLong);
        Assert.Equal("context_length_exceeded", (string?)length["error"]!["code"]);
        (int form, JsonNode wrongType, _) = await running.Post("""{"model": "p0", "prompt": "x"}""", "text/plain");
        Assert.Equal(415, form);
        Assert.Contains("expected 'application/json'", (string?)wrongType["error"]!["message"], StringComparison.Ordinal);

        async Task<string> Answer(string request)
        {
            using var client = new TcpClient();
            await client.ConnectAsync(IPAddress.Loopback, running.Server.Address.Port, TestContext.Current.CancellationToken);
            await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(request), TestContext.Current.CancellationToken);
            using var reader = new StreamReader(client.GetStream());
            return await reader.ReadLineAsync(TestContext.Current.CancellationToken) ?? "";
        }
    }

    [Fact]
    public async Task ASilentConnectionMakesRoom()
    {
        await using RunningServer running = await RunningServer.Start(prompts: 1, o => o with { Silence = TimeSpan.FromMilliseconds(300) });
        using var silent = new TcpClient();
        await silent.ConnectAsync(IPAddress.Loopback, running.Server.Address.Port, TestContext.Current.CancellationToken);
        Assert.Equal(0, await silent.GetStream().ReadAsync(new byte[1], TestContext.Current.CancellationToken)); // closed by the server
    }

    private static async Task<int> Refused(RunningServer running, int status)
    {
        string text = await running.Client.GetStringAsync(new Uri("metrics", UriKind.Relative));
        return text.Split('\n').Where(l => l.Contains($"status=\"{status}\"", StringComparison.Ordinal)).Sum(l => int.Parse(l.Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture));
    }

    [Fact]
    public async Task PathsAndMethodsThatAreNotThere()
    {
        await using RunningServer running = await RunningServer.Start();
        HttpResponseMessage missing = await running.Client.GetAsync(new Uri("v2/nothing", UriKind.Relative), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.NotFound, missing.StatusCode);
        HttpResponseMessage wrong = await running.Client.GetAsync(new Uri("v1/completions", UriKind.Relative), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.MethodNotAllowed, wrong.StatusCode);
        Assert.Equal(["POST"], wrong.Content.Headers.Allow);
        using var head = new HttpRequestMessage(HttpMethod.Head, new Uri("healthz", UriKind.Relative));
        HttpResponseMessage health = await running.Client.SendAsync(head, TestContext.Current.CancellationToken);
        Assert.Equal((HttpStatusCode.OK, 3L, 0), (health.StatusCode, health.Content.Headers.ContentLength, (await health.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken)).Length)); // "ok\n", announced and left out
        HttpResponseMessage unknown = await running.Client.GetAsync(new Uri("v1/models/..%2F..%2Fetc%2Fpasswd", UriKind.Relative), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.NotFound, unknown.StatusCode);
    }

    [Fact]
    public async Task TheTokenOpensTheDoor()
    {
        const string token = "0123456789abcdef";
        await using RunningServer running = await RunningServer.Start(change: o => o with { Token = token });
        foreach (string? given in (string?[])[null, "Bearer wrong", "Bearer " + token[..15], "Bearer " + token + "0", "Basic " + token])
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "v1/models");
            if (given is not null) request.Headers.TryAddWithoutValidation("Authorization", given);
            HttpResponseMessage refused = await running.Client.SendAsync(request, TestContext.Current.CancellationToken);
            Assert.Equal(HttpStatusCode.Unauthorized, refused.StatusCode);
            Assert.Equal("Bearer", refused.Headers.WwwAuthenticate.ToString());
        }
        Assert.Equal("ok\n", await running.Client.GetStringAsync(new Uri("healthz", UriKind.Relative)));
        Assert.Contains("<title>", await running.Client.GetStringAsync(new Uri("/", UriKind.Relative)), StringComparison.Ordinal);
        running.Client.DefaultRequestHeaders.Authorization = new("Bearer", token);
        Assert.Contains("\"p0\"", await running.Client.GetStringAsync(new Uri("v1/models", UriKind.Relative)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task AnotherSitesNameDoesNotReachTheLoopback()
    {
        await using RunningServer running = await RunningServer.Start();
        using var request = new HttpRequestMessage(HttpMethod.Get, "v1/models");
        request.Headers.Host = "evil.example";
        Assert.Equal(HttpStatusCode.Forbidden, (await running.Client.SendAsync(request, TestContext.Current.CancellationToken)).StatusCode);
    }

    [Fact]
    public async Task SlowAndSilentClientsAreLetGoAndOthersAreAnswered()
    {
        await using RunningServer running = await RunningServer.Start(change: o => o with { Patience = TimeSpan.FromSeconds(1.5), MaxConnections = 400 });
        // Kestrel's clock of these limits ticks once a second.
        var silent = new List<TcpClient>();
        for (int i = 0; i < 300; i++)
        {
            var client = new TcpClient();
            await client.ConnectAsync(IPAddress.Loopback, running.Server.Address.Port, TestContext.Current.CancellationToken);
            await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"), TestContext.Current.CancellationToken);
            silent.Add(client);
        }
        using var slow = new TcpClient();
        await slow.ConnectAsync(IPAddress.Loopback, running.Server.Address.Port, TestContext.Current.CancellationToken);
        await slow.GetStream().WriteAsync(Encoding.ASCII.GetBytes("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"), TestContext.Current.CancellationToken);
        await running.Complete(new JsonObject { ["model"] = "p0", ["prompt"] = "x", ["max_tokens"] = 2 });
        using var reader = new StreamReader(slow.GetStream());
        string answer = await reader.ReadToEndAsync(TestContext.Current.CancellationToken);
        Assert.StartsWith("HTTP/1.1 408", answer, StringComparison.Ordinal);
        foreach (TcpClient client in silent)
        {
            using var rest = new StreamReader(client.GetStream());
            Assert.StartsWith("HTTP/1.1 408", await rest.ReadToEndAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
            client.Dispose();
        }
    }

    [Fact]
    public async Task ThousandsOfConnectionsDoNotShutOthersOut()
    {
        await using RunningServer running = await RunningServer.Start(change: o => o with { MaxConnections = 200 });
        await running.Complete(new JsonObject { ["model"] = "p0", ["prompt"] = "x", ["max_tokens"] = 2 });
        var idle = new List<TcpClient>();
        int closed = 0;
        for (int i = 0; i < 2000; i++)
        {
            var client = new TcpClient();
            await client.ConnectAsync(IPAddress.Loopback, running.Server.Address.Port, TestContext.Current.CancellationToken);
            idle.Add(client);
        }
        byte[] one = new byte[1];
        foreach (TcpClient client in idle.Skip(200))
        {
            // Beyond the limit a connection is closed at once, before anything is read.
            try
            {
                closed += await client.GetStream().ReadAsync(one, TestContext.Current.CancellationToken) == 0 ? 1 : 0;
            }
            catch (IOException)
            {
                closed++;
            }
        }
        Assert.Equal(1800, closed);
        // The one that was there before goes on.
        await running.Complete(new JsonObject { ["model"] = "p0", ["prompt"] = "x", ["max_tokens"] = 2 });
        foreach (TcpClient client in idle)
            client.Dispose();
        using var late = new HttpClient { BaseAddress = running.Server.Address };
        await RunningServer.Until(async () => await Answers(late), "room again");

        static async Task<bool> Answers(HttpClient client)
        {
            try
            {
                return (await client.GetAsync(new Uri("healthz", UriKind.Relative), TestContext.Current.CancellationToken)).IsSuccessStatusCode;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        }
    }

    [Theory]
    [InlineData(70000, "port is 70000, expected 0 (any free one) to 65535")]
    public async Task ImpossibleOptionsAreNamed(int port, string message)
    {
        var e = await Assert.ThrowsAsync<ArgumentException>(() => CompletionServer.StartAsync(new ServerOptions { Model = RunningServer.Model, Port = port }, _ => { }, TestContext.Current.CancellationToken));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ATakenPortIsSaid()
    {
        await using RunningServer running = await RunningServer.Start();
        var e = await Assert.ThrowsAsync<IOException>(() => CompletionServer.StartAsync(new ServerOptions { Model = RunningServer.Model, Port = running.Server.Address.Port }, _ => { }, TestContext.Current.CancellationToken));
        Assert.Contains("Take another --port", e.Message, StringComparison.Ordinal);
    }
}
