// 'iptnative train' as a user meets it: what is wrong is said, nothing is lost, and a run that was killed goes on.
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Xunit;

namespace IptNative.Cli.Tests.Commands;

public sealed class TrainCommandTests : IDisposable
{
    // Far above what a step takes on a busy machine.
    private const int LimitMs = 600_000;

    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string At(params ReadOnlySpan<string> parts) => Path.Combine([_folder, .. parts]);

    private string WriteRun(string name = "run.json", string task = "", string extra = "", int steps = 3)
    {
        string path = At(name);
        string gym = Path.Combine(CliProgram.Root, "examples", "gym");
        var json = new JsonObject
        {
            ["model"] = CliProgram.Model,
            ["tasks"] = new JsonArray(JsonNode.Parse(task.Length > 0 ? task : $$"""{ "name": "words-second", "data": {{JsonSerializer.Serialize(gym)}}, "train_limit": 10, "dev_limit": 4, "test_limit": 5 }""")),
            ["prompt"] = new JsonObject { ["length"] = 3, ["init"] = "vocab" },
            ["training"] = new JsonObject { ["steps"] = steps, ["batch_size"] = 3, ["eval_every"] = 5 },
            ["output"] = At("out"),
            ["threads"] = 2,
        };
        if (extra.Length > 0)
        {
            foreach ((string key, JsonNode? value) in JsonNode.Parse(extra)!.AsObject().ToArray()) // the tests' own text
                json[key] = value?.DeepClone();
        }
        File.WriteAllText(path, json.ToJsonString());
        return path;
    }

    // A task of one's own: a folder with train.tsv and whatever else there is.
    private string WriteTask(string train, string dev = "", string metric = "em")
    {
        string folder = Directory.CreateDirectory(At("mine")).FullName;
        File.WriteAllText(Path.Combine(folder, "train.tsv"), train);
        if (dev.Length > 0)
            File.WriteAllText(Path.Combine(folder, "dev.tsv"), dev);
        return $$"""{ "data": {{JsonSerializer.Serialize(folder)}}, "metric": "{{metric}}" }""";
    }

    private static string[] Log(string folder, bool timings = false) => [.. File.ReadLines(Path.Combine(folder, "log.jsonl")).Select(line =>
    {
        JsonObject o = JsonNode.Parse(line)!.AsObject(); // a line is an object
        if (!timings)
        {
            o.Remove("tokens_per_s");
            o.Remove("seconds");
        }
        return o.ToJsonString();
    })];

    [Theory]
    [InlineData("no tab here\n", "train.tsv, line 1: no tab in \"no tab here\"; expected input TAB answer [TAB answer ...].")]
    [InlineData("a\tb\nc\t\n", "train.tsv, line 2: answer 1 is empty")]
    [InlineData("a\tb\n\tb\n", "train.tsv, line 2: the input is empty")]
    [InlineData("a\tb\r\nc\td\r\n", "Windows")]
    [InlineData("", "train.tsv: ")]
    public void AMalformedTaskFileIsNamedWithItsLine(string train, string message)
    {
        CliProgram.Run("train", WriteRun(task: WriteTask(train))).Returned(1).Says(message);
        // Before anything else was done.
        Assert.False(Directory.Exists(At("out")));
    }

    [Fact]
    public void OneExampleIsEnoughAndUnseenLabelsAreTold()
    {
        string task = WriteTask("a cat\tanimal\n", "a dog\tanimal\na rose\tplant\n");
        CliRun run = CliProgram.Run("train", WriteRun(task: task), "--set", "task.classification=true").Returned(0);
        run.Says("mine: 1 of the labels in dev or test never occur in training (plant); no prompt can learn them, their examples count as they are.");
        run.Says("mine: 1 training, 2 development, 0 test examples; scored by em.");
        Assert.True(File.Exists(At("out", "best", "prompt.npy")));
        Assert.Contains("mine", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void ThePromptMayNotBeLongerThanAllowed()
    {
        CliProgram.Run("train", WriteRun(), "--set", "prompt.length=65537").Returned(1).Says("length is 65537, expected 1 to 65536 rows");
        CliProgram.Run("train", WriteRun(), "--set", "prompt.length=0", "--output", At("other")).Returned(2).Says("prompt.length");
    }

    [Theory]
    [InlineData("{ \"prompt\": { \"lenght\": 5 } }", "'prompt.lenght' is unknown; the nearest is 'length'. 'prompt' has: length, init, init_text, ")]
    [InlineData("{ \"trainng\": { \"steps\": 5 } }", "'trainng' is unknown; the nearest is 'training'. There are: model, method, tasks, ")]
    public void AnUnknownKeyIsNamedWithTheNearest(string extra, string message)
    {
        CliProgram.Run("train", WriteRun(extra: extra)).Returned(1).Says(message);
        Assert.False(Directory.Exists(At("out")));
    }

    [Fact]
    public void WhatIsMissingIsSaid()
    {
        CliProgram.Run("train").Returned(2).Says("train: no run file was given, expected one, for example examples/quickstart.json.");
        CliProgram.Run("train", At("absent.json")).Returned(1).Says("absent.json: reading a run's options; there is no such file.");
        CliProgram.Run("train", WriteRun(), "--set", "optimizer.learnin_rate=1").Returned(2).Says("'optimizer.learnin_rate' is unknown; the nearest is 'learning_rate'.");
        CliProgram.Run("train", WriteRun(extra: """{ "model": "no/such/model" }""")).Returned(1).Says("no/such/model");
    }

    [Fact]
    public void EveryOptionIsListed()
    {
        CliRun run = CliProgram.Run("train", "--options").Returned(0);
        foreach (string option in (string[])["model", "tasks.0.data", "prompt.length", "optimizer.learning_rate", "training.steps", "training.patience", "loss.z_loss", "evaluation.baselines", "device", "activations", "forward", "output"])
            Assert.Contains(run.Lines, line => line.StartsWith(option + " ", StringComparison.Ordinal));
        Assert.All(run.Lines, line => Assert.True(line.Length > 52, line));
    }

    [Fact]
    public void AFolderThatHoldsSomethingElseIsRefusedAndUntouched()
    {
        Directory.CreateDirectory(At("out"));
        File.WriteAllText(At("out", "thesis.tex"), "years of work");
        foreach (string[] more in (string[][])[[], ["--resume"]])
            CliProgram.Run(["train", WriteRun(), .. more]).Returned(1).Says("it holds thesis.tex and no run.json, expected an empty or missing folder. Give another 'output'.");
        Assert.Equal("years of work", File.ReadAllText(At("out", "thesis.tex")));
        Assert.Single(Directory.GetFileSystemEntries(At("out")));
    }

    [Fact]
    public void AFinishedRunIsNeitherOverwrittenNorMixedWithAnother()
    {
        string file = WriteRun();
        CliRun run = CliProgram.Run("train", file, "--json").Returned(0);
        JsonElement json = JsonDocument.Parse(run.Output).RootElement;
        Assert.Equal(JsonValueKind.Object, json.ValueKind);
        Assert.Equal(File.ReadAllText(At("out", "result.json")).TrimEnd(), run.Output.TrimEnd());
        string[] log = Log(At("out"), timings: true);
        byte[] prompt = File.ReadAllBytes(At("out", "best", "prompt.npy"));
        CliProgram.Run("train", file).Returned(1).Says("a run is there already. Go on with it by --resume, or give another 'output'.");
        CliProgram.Run("train", file, "--resume", "--set", "optimizer.learning_rate=0.7").Returned(1).Says("optimizer.learning_rate");
        CliProgram.Run("train", file, "--resume", "--set", "tasks.0.name=words-first").Returned(1).Says("words-first");
        Assert.Equal(log, Log(At("out"), timings: true));
        Assert.Equal(prompt, File.ReadAllBytes(At("out", "best", "prompt.npy")));
        // Going on where nothing is left to do scores again and says the same.
        CliRun again = CliProgram.Run("train", file, "--resume").Returned(0);
        Assert.Contains("words-second", again.Output, StringComparison.Ordinal);
        Assert.Equal(log, Log(At("out"), timings: true));
    }

    [Fact]
    public void WhereNoRunStaysFiniteItFailsAndSaysWhy()
    {
        CliRun run = CliProgram.Run("train", WriteRun(), "--runs", "2", "--set", "optimizer.learning_rate=1e39");
        Assert.Equal(1, run.Code);
        run.Says("words-second-seed42: stopped at step 1 (step 1, update of words-second-seed42").Says("words-second-seed43: stopped at step 1")
            .Says("iptnative: train: no run stayed finite");
        Assert.DoesNotContain("   at ", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void KilledAtAnyMomentItGoesOnBitForBit()
    {
        string file = WriteRun(steps: 500), whole = At("whole"), parts = At("parts");
        CliProgram.Run("train", file, "--output", whole, "--runs", "2").Returned(0);
        // Among the first steps, opening what the first process left, and behind evaluations. 90 evaluations of over 100 bytes follow the last, more than the pipe and
        // its reader take in: none of these runs can end before it is killed, however late that is.
        foreach (string said in (string[])["forward by our own kernels", "memory plan: ", "step 20/500 ", "step 45/500 "])
            KillAt(said, "train", file, "--output", parts, "--runs", "2", "--resume");
        CliProgram.Run("train", file, "--output", parts, "--runs", "2", "--resume").Returned(0);
        Assert.Equal(Log(whole), Log(parts));
        foreach (string seed in (string[])["words-second-seed42", "words-second-seed43"])
            Assert.Equal(File.ReadAllBytes(Path.Combine(whole, "best", seed, "prompt.npy")), File.ReadAllBytes(Path.Combine(parts, "best", seed, "prompt.npy")));
        Assert.Equal(File.ReadAllText(Path.Combine(whole, "predictions.tsv")), File.ReadAllText(Path.Combine(parts, "predictions.tsv")));
    }

    [Fact]
    public void ASecondProcessIsRefusedAndCtrlCSavesACheckpoint()
    {
        if (OperatingSystem.IsWindows())
            Assert.Skip("there is no SIGINT for one process on Windows");
        CliProgram.HearInterrupts();
        string file = WriteRun(steps: 100_000);
        using Process first = Said("step 5/", ["train", file]);
        Task<string> output = first.StandardOutput.ReadToEndAsync(), error = first.StandardError.ReadToEndAsync();
        CliProgram.Run("train", file, "--resume").Returned(1).Says($"process {first.Id} on ").Says("is writing it, expected nobody. Wait until that run ends, or give this one another 'output'.");
        using (Process kill = Process.Start("kill", ["-INT", $"{first.Id}"]))
            kill.WaitForExit(LimitMs);
        CliRun interrupted = CliProgram.Ended(first, output, error).Says("stopping: ").Says($"interrupted. Nothing is lost: the same command with --resume goes on with the run in {At("out")}.");
        Assert.True(File.Exists(At("out", "checkpoint", "state.safetensors")));
        Assert.Equal((130, ""), (interrupted.Code, interrupted.Output));
        // What the log holds is what the checkpoint holds: going on, no step is done again.
        string[] log = Log(At("out"), timings: true);
        KillAt("step ", "train", file, "--resume");
        Assert.True(Log(At("out")).Length > log.Length);
        Assert.Equal(log, Log(At("out"), timings: true)[..log.Length]);
    }

    [Fact]
    public void AWeightFileThatIsCutUnderARunEndsItInWords()
    {
        if (OperatingSystem.IsWindows())
            Assert.Skip("Windows does not let a mapped file be truncated");
        string package = At("package");
        CliProgram.Run("export", "--checkpoint", CliProgram.Model, "--out", package, "--dtype", "int8").Returned(0);
        string file = WriteRun(extra: $$"""{ "model": {{JsonSerializer.Serialize(package)}}, "weights": "mapped" }""", steps: 100_000);
        using Process run = Said("step 5/", ["train", file]);
        Task<string> output = run.StandardOutput.ReadToEndAsync(), error = run.StandardError.ReadToEndAsync();
        using (var data = new FileStream(Path.Combine(package, "model.onnx_data"), FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            data.SetLength(1 << 20);
        // Found before a step, or in the middle of one: that is not ours to choose.
        CliProgram.Ended(run, output, error).Returned(1, afterNotes: true).Says("while it was in use").Says("start anew");
    }

    [Fact]
    public void APageThatIsLostIsSaid()
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
            Assert.Skip("elsewhere than on Linux on x86-64 the runtime aborts with a stack");
        using Process run = Said("step 5/", ["train", WriteRun(steps: 100_000)]);
        Task<string> output = run.StandardOutput.ReadToEndAsync(), error = run.StandardError.ReadToEndAsync();
        using (Process kill = Process.Start("kill", ["-BUS", $"{run.Id}"]))
            kill.WaitForExit(LimitMs);
        CliRun ended = CliProgram.Ended(run, output, error).Returned(1, afterNotes: true);
        Assert.EndsWith(Program.PageLost, ended.Error, StringComparison.Ordinal);
    }

    // Kills the program once it has said a line that begins so.
    private static void KillAt(string said, params string[] args)
    {
        using Process process = Said(said, args);
        Assert.False(process.HasExited, "the run ended before it could be killed");
        process.Kill(); // SIGKILL
        Assert.True(process.WaitForExit(LimitMs));
    }

    // Starts the program and comes back when it has said a line that begins so: told by its own pipe, neither by the clock nor by the file system. Until somebody
    // reads on it gets no further than the pipe is long; on Linux that is made a page, so that even a short run waits for whoever is late.
    private static Process Said(string said, string[] args)
    {
        Process process = CliProgram.Start(args);
        CliProgram.ShortenErrorPipe(process);
        var lines = new StringBuilder();
        while (true)
        {
            Task<string?> line = process.StandardError.ReadLineAsync(TestContext.Current.CancellationToken).AsTask();
            Assert.True(line.Wait(LimitMs, TestContext.Current.CancellationToken), $"nothing new was said within {LimitMs} ms after\n{lines}");
            Assert.True(line.Result is not null, $"the run ended before it said '{said}':\n{lines}");
            if (line.Result.StartsWith(said, StringComparison.Ordinal))
                return process;
            lines.AppendLine(line.Result);
        }
    }
}
