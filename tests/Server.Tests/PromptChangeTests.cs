using System.Net;
using System.Text.Json.Nodes;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Server.Tests;

/// <summary>Prompts that come and go while the server runs.</summary>
public sealed class PromptChangeTests
{
    [Fact]
    public async Task TheFolderIsFollowed()
    {
        await using RunningServer running = await RunningServer.Start(prompts: 1);
        Assert.Equal(["t5-gym-tiny", "p0"], running.Server.Names);
        RunningServer.WritePrompt(Path.Combine(running.Folder, "late.npy"), 4, 9);
        PeftPrompt.Write(Path.Combine(running.Folder, "adapter"), new Prompt(new float[RunningServer.DModel], 1, RunningServer.DModel));
        PeftPrompt.Write(Path.Combine(running.Folder, "run", "best"), new Prompt(new float[RunningServer.DModel], 1, RunningServer.DModel));
        File.WriteAllText(Path.Combine(running.Folder, "notes.txt"), "no prompt");
        await RunningServer.Until(() => Task.FromResult(running.Server.Names.Count == 5), "three prompts came");
        Assert.Equal(["t5-gym-tiny", "adapter", "late", "p0", "run"], running.Server.Names);
        await running.Complete(new JsonObject { ["model"] = "run", ["prompt"] = "x", ["max_tokens"] = 1 });

        // Out of order: told once, and the others stay.
        RunningServer.WritePrompt(Path.Combine(running.Folder, "wide.npy"), 1, 1, dModel: 64);
        File.WriteAllText(Path.Combine(running.Folder, "broken.safetensors"), "nothing");
        RunningServer.WritePrompt(Path.Combine(running.Folder, "bad name.npy"), 1, 1);
        RunningServer.WritePrompt(Path.Combine(running.Folder, "run.npy"), 1, 1);
        await RunningServer.Until(() => Task.FromResult(running.Log.Length == 4), "four complaints");
        Assert.Contains(running.Log, l => l.Contains("wide.npy: the prompt has shape [1, 64], the model has d_model=128", StringComparison.Ordinal));
        Assert.Contains(running.Log, l => l.Contains("broken.safetensors", StringComparison.Ordinal));
        Assert.Contains(running.Log, l => l.Contains("'bad name' cannot name one", StringComparison.Ordinal));
        Assert.Contains(running.Log, l => l.Contains("the name 'run' is taken by another entry", StringComparison.Ordinal));

        File.Delete(Path.Combine(running.Folder, "late.npy"));
        RunningServer.WritePrompt(Path.Combine(running.Folder, "wide.npy"), 1, 1);
        await RunningServer.Until(() => Task.FromResult(running.Server.Names.Contains("wide") && !running.Server.Names.Contains("late")), "one was mended, one went");
        Assert.Equal(4, running.Log.Length);
    }

    [Theory]
    [InlineData("[P:1] {txt}", "'{txt}' is no slot, expected {text}, [P:n] for n virtual tokens, or [slot]")]
    [InlineData("[P:2] {text}", "has 2 virtual tokens, the prompt has 1 rows")]
    [InlineData("[P:1] text", "{text} is there 0 times, expected once")]
    public async Task ATemplateInDisorderIsToldOfAndNotServed(string template, string message)
    {
        await using RunningServer running = await RunningServer.Start(prompts: 1);
        string adapter = Path.Combine(running.Folder, "adapter");
        Assert.Contains(message, await Complaint(running, () => WriteAside(adapter, new Prompt(new float[RunningServer.DModel], 1, RunningServer.DModel), template: template)), StringComparison.Ordinal);
        Assert.Equal(404, (await running.Post("""{"model": "adapter", "prompt": "x"}""")).Status);
        Assert.Equal(["t5-gym-tiny", "p0"], running.Server.Names);
    }

    [Theory]
    [InlineData(6, null, "num_layers=6, this one has 4")]
    [InlineData(4, 8, "num_heads=8, this one has 4")]
    public async Task APromptOfAnotherModelOfTheSameWidthIsNotServed(int layers, int? heads, string message)
    {
        await using RunningServer running = await RunningServer.Start(prompts: 1);
        string adapter = Path.Combine(running.Folder, "adapter");
        Assert.Contains($"the prompt was trained on a model with {message}", await Complaint(running, () => WriteAside(adapter, new Prompt(new float[RunningServer.DModel], 1, RunningServer.DModel), layers, heads)), StringComparison.Ordinal);
        Assert.Equal(404, (await running.Post("""{"model": "adapter", "prompt": "x"}""")).Status);

        WriteAside(Path.Combine(running.Folder, "right"), new Prompt(new float[RunningServer.DModel], 1, RunningServer.DModel), 4, 4);
        await RunningServer.Until(() => Task.FromResult(running.Server.Names.Contains("right")), "the right model's came");
    }

    // A folder that is there at once: one that is written file by file may be looked at in between.
    private static void WriteAside(string folder, Prompt prompt, int? layers = null, int? heads = null, string? template = null)
    {
        string aside = Directory.CreateTempSubdirectory("iptnative-serve-").FullName;
        PeftPrompt.Write(aside, prompt, numLayers: layers, numHeads: heads);
        if (template is not null)
            File.WriteAllText(Path.Combine(aside, "prompt_template.txt"), template);
        Directory.Move(aside, folder);
    }

    private static async Task<string> Complaint(RunningServer running, Action write)
    {
        write();
        await RunningServer.Until(() => Task.FromResult(running.Log.Length == 1), "a complaint");
        return running.Log[0];
    }

    [Fact]
    public async Task ClientsAddAndDeleteWhereTheyMay()
    {
        await using RunningServer running = await RunningServer.Start(prompts: 1, o => o with { Editable = true });
        string scratch = Path.Combine(running.Folder, ".scratch.npy"), wide = Path.Combine(running.Folder, ".wide.npy");
        RunningServer.WritePrompt(scratch, 3, 77);
        RunningServer.WritePrompt(wide, 3, 77, dModel: 130);
        byte[] good = File.ReadAllBytes(scratch);
        Assert.Equal(201, await Put("new-one", good));
        Assert.Equal(good, File.ReadAllBytes(Path.Combine(running.Folder, "new-one.npy")));
        await running.Complete(new JsonObject { ["model"] = "new-one", ["prompt"] = "x", ["max_tokens"] = 1 });

        Assert.Equal(409, await Put("new-one", good));
        Assert.Equal(409, await Put("t5-gym-tiny", good));
        Assert.Equal(400, await Put("wide", File.ReadAllBytes(wide)));
        Assert.Equal(400, await Put("garbage", [1, 2, 3]));
        Assert.Equal(400, await Put("cut", good[..^5]));
        Assert.Equal(400, await Put("..%2F..%2Fescaped", good));
        Assert.Equal(400, await Put("%2e%2e%5cescaped", good));
        Assert.Equal(400, await Put(".hidden", good));
        Assert.Equal(400, await Put(new string('a', 101), good));
        Assert.Equal(["p0.npy", "new-one.npy", ".wide.npy", ".scratch.npy"], Directory.GetFileSystemEntries(running.Folder).Select(Path.GetFileName).OrderDescending(StringComparer.Ordinal));
        Assert.False(File.Exists(Path.Combine(running.Folder, "..", "escaped.npy")));

        Assert.Equal(HttpStatusCode.OK, (await Delete("v1/models/new-one")).StatusCode);
        Assert.Equal(HttpStatusCode.NotFound, (await Delete("v1/models/new-one")).StatusCode);
        Assert.Equal(HttpStatusCode.Conflict, (await Delete("v1/prompts/t5-gym-tiny")).StatusCode);
        Assert.False(File.Exists(Path.Combine(running.Folder, "new-one.npy")));

        async Task<int> Put(string name, byte[] content)
        {
            using var body = new ByteArrayContent(content);
            return (int)(await running.Client.PutAsync("v1/prompts/" + name, body, TestContext.Current.CancellationToken)).StatusCode;
        }

        Task<HttpResponseMessage> Delete(string path) => running.Client.DeleteAsync(path, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task APromptThatFillsABatchByItselfIsRefused()
    {
        await using RunningServer running = await RunningServer.Start(prompts: 1, o => o with { Editable = true, MaxBatchPositions = 60, MaxSourceLength = 50 });
        string scratch = Path.Combine(running.Folder, ".scratch.npy");
        Assert.Equal(HttpStatusCode.Created, (await Put("fits", 10)).Status);
        (HttpStatusCode status, string body) = await Put("long", 11);
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains("long: serving a prompt; it has 11 rows, expected at most 10", body, StringComparison.Ordinal);
        Assert.Equal(["t5-gym-tiny", "fits", "p0"], running.Server.Names);

        async Task<(HttpStatusCode Status, string Body)> Put(string name, int rows)
        {
            RunningServer.WritePrompt(scratch, rows, 1);
            using var content = new ByteArrayContent(File.ReadAllBytes(scratch));
            HttpResponseMessage answer = await running.Client.PutAsync("v1/prompts/" + name, content, TestContext.Current.CancellationToken);
            return (answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        }
    }

    [Fact]
    public async Task AFolderWhoseFilesGoOneByOneStopsNothing()
    {
        await using RunningServer running = await RunningServer.Start(prompts: 1);
        string adapter = Path.Combine(running.Folder, "adapter");
        WriteAside(adapter, new Prompt(new float[RunningServer.DModel], 1, RunningServer.DModel));
        await RunningServer.Until(() => Task.FromResult(running.Server.Names.Contains("adapter")), "the adapter came");
        // As rm -r does it, with the server looking on: the weights, the configuration, the folder.
        foreach (string file in Directory.GetFiles(adapter).OrderByDescending(f => f, StringComparer.Ordinal))
            File.Delete(file);
        Directory.Delete(adapter);
        RunningServer.WritePrompt(Path.Combine(running.Folder, "after.npy"), 1, 1);
        await RunningServer.Until(() => Task.FromResult(running.Server.Names.SequenceEqual(["t5-gym-tiny", "after", "p0"])), "one went, one came");
    }

    [Fact]
    public async Task OthersMayNotChangePrompts()
    {
        await using RunningServer running = await RunningServer.Start(prompts: 1);
        using var body = new ByteArrayContent([1]);
        HttpResponseMessage refused = await running.Client.PutAsync("v1/prompts/x", body, TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.Forbidden, refused.StatusCode);
        Assert.Equal("permission_error", (string?)JsonNode.Parse(await refused.Content.ReadAsStringAsync(TestContext.Current.CancellationToken))!["error"]!["type"]);
        Assert.Equal(HttpStatusCode.Forbidden, (await running.Client.DeleteAsync("v1/models/p0", TestContext.Current.CancellationToken)).StatusCode);
        Assert.Contains("p0", running.Server.Names);
    }

    [Theory]
    [InlineData("twice.safetensors", "the name 'twice' is taken by another entry")]
    [InlineData("t5-gym-tiny.npy", "the name 't5-gym-tiny' is taken by the model itself")]
    [InlineData("ünïcode.npy", "cannot name one")]
    public async Task AFolderInDisorderDoesNotStart(string file, string message)
    {
        string folder = Directory.CreateTempSubdirectory("iptnative-serve-").FullName;
        try
        {
            RunningServer.WritePrompt(Path.Combine(folder, "twice.npy"), 1, 1);
            RunningServer.WritePrompt(Path.Combine(folder, file), 1, 1);
            var e = await Assert.ThrowsAsync<InvalidDataException>(() => CompletionServer.StartAsync(new ServerOptions { Model = RunningServer.Model, Prompts = folder }, _ => { }, TestContext.Current.CancellationToken));
            Assert.Contains(message, e.Message, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
