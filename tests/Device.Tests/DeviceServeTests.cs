// `serve` on a device with memory of its own: answers as on the CPU, whoever stands beside them and whatever comes and goes; memory that ends, a device that fails.
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Checkpoints;
using IptNative.Server;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class DeviceServeTests : IDisposable
{
    private const int DModel = 16;

    private readonly SmallModel _model = new(pieces: 92);
    private readonly string _prompts;
    private readonly List<string> _log = [];

    public DeviceServeTests()
    {
        _prompts = Directory.CreateDirectory(Path.Combine(_model.Folder, "prompts")).FullName;
        for (int i = 0; i < 2; i++)
            File.WriteAllBytes(Path.Combine(_prompts, $"p{i}.npy"), PromptOf(2 + i, seed: i));
    }

    /// <summary>Different prompts, lengths, samples, a stream and a prompt that is deleted under it: each client gets what it gets alone on the CPU.</summary>
    [Fact]
    public async Task AnswersAreTheCpusWhoeverStandsBesideThem()
    {
        JsonObject[] requests =
        [
            Ask("p0", "the first of it", 3),
            Ask("p1", "and a second that is longer", 5),
            Ask("model", "the same for all", 2),
            Ask("p1", "the first of it", 2, r => (r["n"], r["temperature"], r["seed"]) = (2, 1.0, 7)),
            Ask("late", "a text for a prompt that came", 4),
        ];
        byte[] late = PromptOf(4, seed: 9);
        string[] expected;
        await using (CompletionServer cpu = await Start(null))
        {
            using HttpClient client = Client(cpu);
            Assert.Equal(HttpStatusCode.Created, await Put(client, late));
            expected = await Task.WhenAll(requests.Select(r => Text(client, r)));
            Assert.Equal(HttpStatusCode.OK, (await client.DeleteAsync(new Uri("v1/prompts/late", UriKind.Relative), Cancel)).StatusCode);
        }
        await using CompletionServer server = await Start(() => HostAcceleratorDevice.Create());
        Assert.StartsWith("computing on ilgpu, ", Assert.Single(_log, l => l.StartsWith("computing", StringComparison.Ordinal)), StringComparison.Ordinal);
        using HttpClient there = Client(server);
        Assert.Equal(404, (await Post(there, requests[^1])).Status);
        Assert.Equal(HttpStatusCode.Created, await Put(there, late));
        Task<string>[] answers = [.. requests.Select(r => Text(there, r))];
        // Whoever holds the prompt keeps it.
        await Task.WhenAny(answers);
        Assert.Equal(HttpStatusCode.OK, (await there.DeleteAsync(new Uri("v1/prompts/late", UriKind.Relative), Cancel)).StatusCode);
        Assert.Equal(expected[..^1], (await Task.WhenAll(answers[..^1])));
        Assert.Equal(expected[^1], await answers[^1]);
        Assert.Equal(404, (await Post(there, requests[^1])).Status);
    }

    /// <summary>503 in OpenAI's form for whom there is no room; the server goes on, and everything is given back.</summary>
    [Fact]
    public async Task MemoryThatEndsIsSaidAndTheServerLives()
    {
        HostAcceleratorDevice? device = null;
        await using (CompletionServer server = await Start(() => device = HostAcceleratorDevice.Create()))
        {
            using HttpClient client = Client(server);
            string before = await Text(client, Ask("p0", "the first", 2));
            long room = device!.Memory; // opened by the start
            device.Memory = 0;
            // Longer than what there is scratch memory for.
            JsonObject longer = Ask("p1", string.Concat(Enumerable.Repeat("and the other of it ", 12)), 2);
            (int status, JsonNode body, int? retry) = await Post(client, longer);
            Assert.Equal((503, "out_of_memory", "server_error", 5), (status, (string?)body["error"]!["code"], (string?)body["error"]!["type"], retry));
            Assert.Contains("bytes on ilgpu failed; ", (string?)body["error"]!["message"], StringComparison.Ordinal);
            longer["stream"] = true;
            string stream = await Body(client, longer);
            Assert.Contains("\"code\":\"out_of_memory\"", stream, StringComparison.Ordinal);
            Assert.DoesNotContain("[DONE]", stream, StringComparison.Ordinal);
            longer.Remove("stream");
            device.Memory = room;
            Assert.Equal(200, (await Post(client, longer)).Status);
            Assert.Equal(before, await Text(client, Ask("p0", "the first", 2)));
            Assert.False(server.Failed.IsCompleted);
        }
        Assert.Equal(device.Memory, device.FreeBytes);
    }

    [Fact]
    public async Task ADeviceThatFailsForGoodEndsTheServerInWords()
    {
        HostAcceleratorDevice? device = null;
        await using CompletionServer server = await Start(() => device = HostAcceleratorDevice.Create());
        using HttpClient client = Client(server);
        device!.Failure = new InvalidOperationException("the device is lost"); // opened by the start
        Assert.Equal((500, "model_failed"), await Refused());
        Exception reason = await server.Failed.WaitAsync(TimeSpan.FromMinutes(1), Cancel);
        Assert.Equal("serving on ilgpu: a pass failed (the device is lost), and the next one cannot be begun: the device is lost", reason.Message);
        Assert.Equal((503, "server_failed"), await Refused());
        using HttpResponseMessage health = await client.GetAsync(new Uri("healthz", UriKind.Relative), Cancel);
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "failed\n"), (health.StatusCode, await health.Content.ReadAsStringAsync(Cancel)));

        async Task<(int, string?)> Refused()
        {
            (int status, JsonNode body, _) = await Post(client, Ask("p0", "the first", 2));
            return (status, (string?)body["error"]!["code"]);
        }
    }

    /// <summary>The plan comes before the weights: fewer texts where those that were asked for do not fit, a refusal where not even one does.</summary>
    [Fact]
    public async Task TheBatchIsWhatFits()
    {
        var e = await Assert.ThrowsAsync<InsufficientMemoryException>(() => Start(() => HostAcceleratorDevice.Create(memory: 250_000_000)));
        Assert.Matches(@"^an answer does not fit into 250 MB of ilgpu: weights of .+ and a text of 515 positions take \d+ MB", e.Message);
        HostAcceleratorDevice? device = null;
        // 256 MB of it are the plan's allowance for code, a tenth is kept to spare.
        await using CompletionServer server = await Start(() => device = HostAcceleratorDevice.Create(memory: 288_000_000));
        Assert.Matches(@"^computing on ilgpu, 288 MB free: weights of .+, up to (2|4|8|16) texts of \d+ positions together; --max-batch 32 and 16384 positions do not fit\.", Assert.Single(_log));
        using HttpClient client = Client(server);
        (int status, JsonNode body, _) = await Post(client, Ask("p0", "the first", 2, r => r["n"] = 32));
        Assert.Equal(400, status);
        Assert.Contains("expected", (string?)body["error"]!["message"], StringComparison.Ordinal);
    }

    public void Dispose() => _model.Dispose();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private Task<CompletionServer> Start(Func<ComputeDevice>? open) =>
        CompletionServer.StartOn(open, new ServerOptions { Model = _model.Model, Prompts = _prompts, Threads = 1, Editable = true }, line =>
        {
            lock (_log)
                _log.Add(line);
        }, Cancel);

    private static HttpClient Client(CompletionServer server) => new() { BaseAddress = server.Address, Timeout = TimeSpan.FromMinutes(5) };

    private static JsonObject Ask(string model, string prompt, int tokens, Action<JsonObject>? more = null)
    {
        // min_tokens: with random weights the end may come at once.
        var request = new JsonObject { ["model"] = model, ["prompt"] = prompt, ["max_tokens"] = tokens, ["min_tokens"] = tokens - 1 };
        more?.Invoke(request);
        return request;
    }

    private static async Task<(int Status, JsonNode Body, int? Retry)> Post(HttpClient client, JsonObject request)
    {
        using HttpResponseMessage response = await Send(client, request);
        return ((int)response.StatusCode, JsonNode.Parse(await response.Content.ReadAsStringAsync(Cancel))!, (int?)response.Headers.RetryAfter?.Delta?.TotalSeconds); // every answer is an object
    }

    private static async Task<string> Body(HttpClient client, JsonObject request)
    {
        using HttpResponseMessage response = await Send(client, request);
        return await response.Content.ReadAsStringAsync(Cancel);
    }

    private static async Task<string> Text(HttpClient client, JsonObject request)
    {
        (int status, JsonNode body, _) = await Post(client, request);
        Assert.True(status == 200, body.ToJsonString());
        return string.Join('|', body["choices"]!.AsArray().Select(c => $"{c!["text"]} ({c["finish_reason"]})"));
    }

    private static Task<HttpResponseMessage> Send(HttpClient client, JsonObject request) =>
        client.PostAsync(new Uri("v1/completions", UriKind.Relative), new StringContent(request.ToJsonString(), Encoding.UTF8, "application/json"), Cancel);

    private static async Task<HttpStatusCode> Put(HttpClient client, byte[] prompt)
    {
        using var body = new ByteArrayContent(prompt);
        using HttpResponseMessage response = await client.PutAsync(new Uri("v1/prompts/late", UriKind.Relative), body, Cancel);
        return response.StatusCode;
    }

    private byte[] PromptOf(int length, int seed)
    {
        var random = new Random(seed);
        string path = Path.Combine(_model.Folder, "scratch.npy");
        NumpyFile.Write(path, new TensorShape(length, DModel), [.. Enumerable.Range(0, length * DModel).Select(_ => (float)(2 * random.NextDouble() - 1))]);
        return File.ReadAllBytes(path);
    }
}
