using System.Text;
using System.Text.Json.Nodes;
using IptNative.Model.Decoding;
using IptNative.Tuning.Inference;
using Xunit;

namespace IptNative.Server.Tests;

/// <summary>Answers over HTTP, against the same texts generated alone.</summary>
public sealed class CompletionTests
{
    private static readonly string[] Inputs =
    [
        "[clinc150-domain] what is my balance", "[words-first] green apples on a tree", "[poem_sentiment] and that is why, the lonesome day,",
        "[wiki_split] The cat sat on the mat and then it went home because it was hungry and cold .", "x", "[words-longest] a bb ccc dddd eeeee",
    ];

    // Minutes by itself (attention reads all that was written): a client surely leaves, or a queue surely fills, before it ends, however late they are.
    private const int Longest = 50_000;

    private static JsonObject Endless(string model = "p0") => new() { ["model"] = model, ["prompt"] = "[wiki_split] a", ["temperature"] = 2, ["seed"] = 3, ["max_tokens"] = Longest, ["min_tokens"] = Longest - 1 };

    // One thread is one lane; three are three, and meet in one queue.
    [Theory]
    [InlineData(1, 5)]
    [InlineData(3, 5)]
    [InlineData(2, 32)]
    public async Task SixteenClientsOfDifferentPromptsGetTheirOwnAnswers(int threads, int batch)
    {
        await using RunningServer running = await RunningServer.Start(prompts: 7, o => o with { MaxBatch = batch, MaxChoices = 5, Threads = threads });
        string[] models = ["t5-gym-tiny", .. Enumerable.Range(0, 7).Select(i => $"p{i}")];
        var expected = new Dictionary<(string, string), string>();
        foreach (string model in models)
        {
            using var generator = TextGenerator.Open(RunningServer.Model, model.StartsWith('p') ? Path.Combine(running.Folder, model + ".npy") : null, threads: 1);
            foreach (GeneratedText answer in generator.Generate(Inputs, new GenerationOptions { MaxLength = 24 }, 1, TestContext.Current.CancellationToken).SelectMany(b => b))
                expected.Add((model, answer.Input), answer.Output);
        }
        Assert.True(expected.Values.Distinct().Count() > 10, "the prompts must differ for this to show anything");

        await Parallel.ForEachAsync(Enumerable.Range(0, 16), new ParallelOptions { MaxDegreeOfParallelism = 16, CancellationToken = TestContext.Current.CancellationToken }, async (client, _) =>
        {
            var random = new Random(client);
            for (int i = 0; i < 12; i++)
            {
                string model = models[random.Next(models.Length)], input = Inputs[random.Next(Inputs.Length)];
                JsonNode body = await running.Complete(new JsonObject { ["model"] = model, ["prompt"] = input, ["max_tokens"] = 24 });
                Assert.Equal(model, (string?)body["model"]);
                Assert.Equal(expected[(model, input)], (string?)body["choices"]![0]!["text"]);
            }
        });
        Assert.Equal(0, await running.Figure("iptnative_failed_passes_total"));
        Assert.Equal(16 * 12, await running.Figure("iptnative_request_seconds_count"));
    }

    [Fact]
    public async Task AStreamIsTheWholeAnswerInParts()
    {
        await using RunningServer running = await RunningServer.Start();
        JsonObject request = new() { ["model"] = "p1", ["prompt"] = new JsonArray(Inputs[3], Inputs[0]), ["n"] = 2, ["temperature"] = 0.8, ["seed"] = 11, ["max_tokens"] = 30, ["logprobs"] = 2 };
        JsonNode whole = await running.Complete(request);
        var texts = new StringBuilder[4];
        for (int i = 0; i < 4; i++) texts[i] = new StringBuilder();
        var pieces = new List<string>[4];
        for (int i = 0; i < 4; i++) pieces[i] = [];
        string?[] finish = new string?[4];
        JsonNode? usage = null;
        string last = "";
        request["stream_options"] = new JsonObject { ["include_usage"] = true };
        using HttpResponseMessage response = await running.Stream(request, TestContext.Current.CancellationToken);
        await foreach (string part in RunningServer.Parts(response))
        {
            last = part;
            if (part == "[DONE]") continue;
            JsonNode json = JsonNode.Parse(part)!;
            Assert.Equal("text_completion", (string?)json["object"]);
            usage = json["usage"] ?? usage;
            foreach (JsonNode? choice in json["choices"]!.AsArray())
            {
                int index = (int)choice!["index"]!;
                Assert.Null(finish[index]);
                texts[index].Append((string?)choice["text"]);
                pieces[index].AddRange(choice["logprobs"]!["tokens"]!.AsArray().Select(t => (string)t!));
                finish[index] = (string?)choice["finish_reason"];
            }
        }
        Assert.Equal("[DONE]", last);
        Assert.Equal(whole["usage"]!.ToJsonString(), usage!.ToJsonString());
        for (int i = 0; i < 4; i++)
        {
            JsonNode choice = whole["choices"]![i]!;
            Assert.Equal(i, (int)choice["index"]!);
            Assert.Equal((string?)choice["text"], texts[i].ToString());
            Assert.Equal((string?)choice["finish_reason"], finish[i]);
            Assert.Equal(choice["logprobs"]!["tokens"]!.AsArray().Select(t => (string)t!), pieces[i]);
        }
        Assert.True(texts.Select(t => t.ToString()).Distinct().Count() > 2, "samples differ");
    }

    [Fact]
    public async Task LogProbabilitiesAreTheModels()
    {
        await using RunningServer running = await RunningServer.Start();
        JsonNode choice = (await running.Complete(new JsonObject { ["model"] = "p0", ["prompt"] = Inputs[3], ["max_tokens"] = 12, ["logprobs"] = 3 }))["choices"]![0]!;
        JsonNode logProbs = choice["logprobs"]!;
        int count = logProbs["tokens"]!.AsArray().Count;
        Assert.InRange(count, 1, 12);
        Assert.Equal(0, (int)logProbs["text_offset"]![0]!);
        for (int i = 0; i < count; i++)
        {
            double own = (double)logProbs["token_logprobs"]![i]!;
            JsonObject top = logProbs["top_logprobs"]![i]!.AsObject();
            Assert.InRange(own, -20, 0);
            // Greedy: the token is the likeliest of three.
            Assert.Equal(own, top.Max(t => (double)t.Value!));
            Assert.True(top.ContainsKey((string)logProbs["tokens"]![i]!));
        }
        // Drawn from all tokens, beside the likeliest one: its own log probability is there as well.
        JsonNode drawn = (await running.Complete(new JsonObject { ["model"] = "p0", ["prompt"] = Inputs[3], ["max_tokens"] = 12, ["logprobs"] = 1, ["temperature"] = 2, ["seed"] = 3 }))["choices"]![0]!["logprobs"]!;
        Assert.Contains(drawn["top_logprobs"]!.AsArray(), t => t!.AsObject().Count == 2);
        for (int i = 0; i < drawn["tokens"]!.AsArray().Count; i++)
            Assert.Equal((double)drawn["token_logprobs"]![i]!, (double)drawn["top_logprobs"]![i]![(string)drawn["tokens"]![i]!]!);
        JsonNode without = (await running.Complete(new JsonObject { ["model"] = "p0", ["prompt"] = "x", ["max_tokens"] = 2, ["logprobs"] = null }))["choices"]![0]!;
        Assert.Null(without["logprobs"]);
    }

    [Fact]
    public async Task TextsEndBeforeAStopStringAndAtTheMostTokens()
    {
        await using RunningServer running = await RunningServer.Start();
        JsonObject request = new() { ["model"] = "t5-gym-tiny", ["prompt"] = Inputs[3], ["max_tokens"] = 40 };
        string full = (string)(await running.Complete(request))["choices"]![0]!["text"]!;
        Assert.True(full.Length > 12, full);
        // Across a border of pieces most likely: the middle of the text.
        string stop = full[(full.Length / 2 - 2)..(full.Length / 2 + 2)];
        request["stop"] = new JsonArray("never in there", stop);
        JsonNode stopped = (await running.Complete(request))["choices"]![0]!;
        Assert.Equal(full[..full.IndexOf(stop, StringComparison.Ordinal)], (string?)stopped["text"]);
        Assert.Equal("stop", (string?)stopped["finish_reason"]);

        JsonNode cut = (await running.Complete(new JsonObject { ["model"] = "t5-gym-tiny", ["prompt"] = Inputs[3], ["max_tokens"] = 2 }));
        Assert.Equal("length", (string?)cut["choices"]![0]!["finish_reason"]);
        Assert.Equal(2, (int)cut["usage"]!["completion_tokens"]!);
        Assert.StartsWith((string)cut["choices"]![0]!["text"]!, full, StringComparison.Ordinal);
    }

    [Fact]
    public async Task SamplesDependOnTheSeedAlone()
    {
        await using RunningServer running = await RunningServer.Start();
        JsonObject request = new() { ["model"] = "p2", ["prompt"] = Inputs[1], ["n"] = 3, ["temperature"] = 1.5, ["top_p"] = 0.9, ["top_k"] = 200, ["max_tokens"] = 10, ["seed"] = 5 };
        string first = await Texts(request);
        Task<string>[] crowd = [.. Enumerable.Range(0, 8).Select(i => Texts(new JsonObject { ["model"] = "p1", ["prompt"] = Inputs[i % 6], ["temperature"] = 1, ["seed"] = i }))];
        Assert.Equal(first, await Texts(request));
        await Task.WhenAll(crowd);
        request["seed"] = 6;
        Assert.NotEqual(first, await Texts(request));

        async Task<string> Texts(JsonObject body) => string.Join('|', (await running.Complete(body.DeepClone().AsObject()))["choices"]!.AsArray().Select(c => (string)c!["text"]!));
    }

    [Fact]
    public async Task TokenIdsAreAnInputToo()
    {
        await using RunningServer running = await RunningServer.Start();
        using var generator = TextGenerator.Open(RunningServer.Model, null, threads: 1);
        int[] ids = IptNative.Model.Tokenizer.T5Tokenizer.Load(RunningServer.Model).Encode(Inputs[0], addEos: false);
        JsonNode body = await running.Complete(new JsonObject { ["model"] = "t5-gym-tiny", ["prompt"] = new JsonArray([.. ids.Select(i => JsonValue.Create(i))]) });
        Assert.Equal(generator.Generate([Inputs[0]], new GenerationOptions(), 1, TestContext.Current.CancellationToken).Single()[0].Output, (string?)body["choices"]![0]!["text"]);
        Assert.Equal(ids.Length + 1, (int)body["usage"]!["prompt_tokens"]!);
    }

    [Fact]
    public async Task AFullQueueSaysWhenToComeBackAndALeavingClientMakesRoom()
    {
        await using RunningServer running = await RunningServer.Start(change: o => o with { MaxBatch = 1, MaxChoices = 1, MaxQueue = 1, MaxTokens = Longest });
        using var leave = new CancellationTokenSource();
        HttpResponseMessage first = await running.Stream(Endless(), leave.Token);
        await RunningServer.Until(async () => await running.Figure("iptnative_running_texts") == 1, "the first runs");
        Task<JsonNode> second = running.Complete(new JsonObject { ["model"] = "p1", ["prompt"] = "b", ["max_tokens"] = 3 });
        await RunningServer.Until(async () => await running.Figure("iptnative_waiting_texts") == 1, "the second waits");

        (int status, JsonNode body, HttpResponseMessage refused) = await running.Post("""{"model": "p1", "prompt": "c"}""");
        Assert.Equal(429, status);
        Assert.Equal("queue_full", (string?)body["error"]!["code"]);
        Assert.InRange(refused.Headers.RetryAfter?.Delta?.TotalSeconds ?? 0, 1, 60);
        Assert.False(second.IsCompleted);

        await leave.CancelAsync();
        first.Dispose();
        Assert.NotNull((await second)["choices"]);
        await RunningServer.Until(async () => await running.Figure("iptnative_abandoned_total") == 1, "the first counts as abandoned");
    }

    [Fact]
    public async Task AClientThatLeavesTheQueueMakesRoomInIt()
    {
        await using RunningServer running = await RunningServer.Start(change: o => o with { MaxBatch = 1, MaxChoices = 1, MaxQueue = 1, MaxTokens = Longest });
        using CancellationTokenSource leaveFirst = new(), leaveSecond = new();
        using HttpResponseMessage first = await running.Stream(Endless(), leaveFirst.Token);
        await RunningServer.Until(async () => await running.Figure("iptnative_running_texts") == 1, "the first runs");
        HttpResponseMessage second = await running.Stream(Endless("p1"), leaveSecond.Token);
        Assert.Equal(1, await running.Figure("iptnative_waiting_texts"));
        await leaveSecond.CancelAsync();
        second.Dispose();
        await RunningServer.Until(async () => await running.Figure("iptnative_waiting_texts") == 0, "the second has left the queue");
        Assert.Equal(1, await running.Figure("iptnative_running_texts"));
        Task<JsonNode> third = running.Complete(new JsonObject { ["model"] = "p1", ["prompt"] = "b", ["max_tokens"] = 3 });
        await RunningServer.Until(async () => await running.Figure("iptnative_waiting_texts") == 1, "the third waits");
        await leaveFirst.CancelAsync();
        first.Dispose();
        Assert.NotNull((await third)["choices"]);
        await RunningServer.Until(async () => await running.Figure("iptnative_running_texts") == 0, "nothing runs any more");
    }

    [Fact]
    public async Task AnInputOfManyTextsIsAnsweredWholeByLanesTogether()
    {
        await using RunningServer running = await RunningServer.Start(change: o => o with { Threads = 4 });
        JsonNode many = await running.Complete(new JsonObject { ["model"] = "p2", ["prompt"] = new JsonArray([.. Inputs.Select(i => JsonValue.Create(i))]), ["n"] = 2, ["temperature"] = 1, ["seed"] = 7, ["max_tokens"] = 12 });
        await using RunningServer alone = await RunningServer.Start();
        JsonNode same = await alone.Complete(new JsonObject { ["model"] = "p2", ["prompt"] = new JsonArray([.. Inputs.Select(i => JsonValue.Create(i))]), ["n"] = 2, ["temperature"] = 1, ["seed"] = 7, ["max_tokens"] = 12 });
        Assert.Equal(same["choices"]!.ToJsonString(), many["choices"]!.ToJsonString());
        Assert.Equal(12, many["choices"]!.AsArray().Count);
    }

    [Fact]
    public async Task StoppingLetsWhatRunsEnd()
    {
        await using RunningServer running = await RunningServer.Start();
        JsonObject request = Endless();
        (request["max_tokens"], request["min_tokens"]) = (250, 249);
        JsonNode whole = await running.Complete(request);
        using HttpResponseMessage response = await running.Stream(request, TestContext.Current.CancellationToken);
        Task drained = running.Server.DrainAsync(TimeSpan.FromMinutes(10));
        var text = new StringBuilder();
        string last = "";
        await foreach (string part in RunningServer.Parts(response))
        {
            if (part != "[DONE]") text.Append((string?)JsonNode.Parse(part)!["choices"]![0]!["text"]);
            last = part;
        }
        Assert.Equal("[DONE]", last);
        Assert.Equal((string?)whole["choices"]![0]!["text"], text.ToString());
        await drained;
        using var other = new HttpClient { BaseAddress = running.Server.Address };
        await Assert.ThrowsAsync<HttpRequestException>(() => other.GetAsync(new Uri("healthz", UriKind.Relative), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task StoppingWithoutPatienceFailsWhatRuns()
    {
        RunningServer running = await RunningServer.Start(change: o => o with { MaxTokens = Longest });
        await using (running)
        {
            HttpResponseMessage response = await running.Stream(Endless(), TestContext.Current.CancellationToken);
            await running.Server.DrainAsync(TimeSpan.Zero);
            // Cut off or told: the end is never taken for a whole answer.
            string last = "";
            try
            {
                await foreach (string part in RunningServer.Parts(response)) last = part;
            }
            catch (Exception e) when (e is IOException or HttpRequestException)
            {
                last = e.Message;
            }
            Assert.NotEqual("[DONE]", last);
        }
    }
}
