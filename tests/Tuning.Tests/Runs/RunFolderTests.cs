using System.Text;
using System.Text.Json;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using Xunit;

namespace IptNative.Tuning.Tests.Runs;

public sealed class RunFolderTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("iptnative-").FullName;
    private readonly RunInputs _inputs = new();

    public RunFolderTests() => _inputs.Add("task t", "train.tsv", "aa");

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private string Output => Path.Combine(_root, "run");

    private RunConfig Config(params string[] overrides) =>
        RunConfig.Parse("""{"model": "m", "tasks": ["t"], "training": {"runs": 2, "steps": 100, "seed": 1}, "output": "run"}""", "r.json", _root, overrides);

    private RunFolder Open(bool resume = false, params string[] overrides) => RunFolder.Open(Config(overrides), _inputs, resume);

    private string At(params string[] parts) => Path.Combine([Output, .. parts]);

    private static TrainingState State(long step, int seed = 1)
    {
        var state = new TrainingState
        {
            Step = step,
            Seconds = 0.1 + 0.2,
            Rows =
            [
                new RowState { Run = "t-seed1", OptimizerSteps = step, BestScore = 1.0 / 3, BestStep = 4, EvaluationsSinceBest = 2, BestScores = [new("acc", 1.0 / 3), new("em", double.NaN)] },
                new RowState { Run = "t-seed2", OptimizerSteps = step, Stopped = StopReason.Patience, StoppedAt = 3 },
            ],
            Extra = new Dictionary<string, string> { ["rng"] = "0123456789abcdef" },
        };
        state.Add("t-seed1.prompt", new TensorShape(3, 5), Values(15, seed));
        state.Add("t-seed1.prompt.exp_avg_sq", new TensorShape(3, 5), Values(15, seed + 1));
        state.Add("empty", new TensorShape(0), Array.Empty<float>());
        return state;
    }

    // All bit patterns, NaNs with payload and denormals among them.
    private static float[] Values(int n, int seed)
    {
        var random = new Random(seed);
        float[] values = [.. Enumerable.Range(0, n).Select(_ => BitConverter.Int32BitsToSingle(random.Next(int.MinValue, int.MaxValue)))];
        (values[0], values[1], values[2]) = (float.NaN, -0f, float.Epsilon);
        return values;
    }

    private static RowStep[] Rows(long step) => [new(0, 1.0 / step, 0.3, step * 0.1), new(1, 2.0 / step, 0.3, double.PositiveInfinity)];

    [Fact]
    public void WhatAPromptStartedFromIsFoundBesideIt()
    {
        string run = Path.Combine(_root, "has-initial"), initial = Path.Combine(run, "initial", "a-seed1.npy");
        foreach (string folder in (string[])["initial", "best/a-seed1", "best/a-seed2"])
            Directory.CreateDirectory(Path.Combine(run, folder));
        File.WriteAllText(initial, "");
        Assert.Equal(initial, RunFolder.InitialOf(Path.Combine(run, "best", "a-seed1")));
        Assert.Equal(initial, RunFolder.InitialOf(Path.Combine(run, "best", "a-seed1") + Path.DirectorySeparatorChar));
        Assert.Equal(initial, RunFolder.InitialOf(Path.Combine(run, "best", "a-seed1", "prompt.npy")));
        Assert.Equal(initial, RunFolder.InitialOf(Path.Combine(run, "best"))); // a run by itself
        Assert.Null(RunFolder.InitialOf(Path.Combine(run, "best", "a-seed2")));
        Assert.Null(RunFolder.InitialOf(Path.Combine(run, "a-seed1")));
        Assert.Null(RunFolder.InitialOf(Path.Combine(_root, "absent", "best")));
    }

    [Fact]
    public void ANewFolderHoldsItsOptions()
    {
        using (RunFolder folder = Open())
        {
            Assert.Null(folder.State);
            Assert.Empty(folder.Notes);
        }
        using JsonDocument card = JsonDocument.Parse(File.ReadAllText(At("run.json")));
        Assert.Equal(100, card.RootElement.GetProperty("options").GetProperty("prompt").GetProperty("length").GetInt32());
        Assert.Equal("aa", card.RootElement.GetProperty("inputs").GetProperty("task t/train.tsv").GetString());
        Assert.Equal(Config().Identity(_inputs), card.RootElement.GetProperty("identity").GetString());
        // The saved options are a run file themselves.
        Assert.Equal(Config().ToJson(), RunConfig.Parse(card.RootElement.GetProperty("options").GetRawText(), "x", "/", []).ToJson());
    }

    [Fact]
    public void ACheckpointComesBackBitForBit()
    {
        using (RunFolder folder = Open())
            folder.Save(State(7));
        using RunFolder again = Open(resume: true);
        TrainingState read = again.State!;
        TrainingState expected = State(7);
        Assert.Equal((7, 0.1 + 0.2), (read.Step, read.Seconds));
        Assert.Equal(["empty", "t-seed1.prompt", "t-seed1.prompt.exp_avg_sq"], read.Tensors.Keys.Order(StringComparer.Ordinal));
        float[] target = new float[15];
        foreach (string name in new[] { "t-seed1.prompt", "t-seed1.prompt.exp_avg_sq" })
        {
            read.CopyTo(name, new TensorShape(3, 5), target);
            Assert.Equal(expected.Tensors[name].Values.ToArray().Select(BitConverter.SingleToInt32Bits), target.Select(BitConverter.SingleToInt32Bits));
        }
        Assert.Equal(expected.Rows[0] with { BestScores = [] }, read.Rows[0] with { BestScores = [] });
        Assert.Equal(expected.Rows[0].BestScores, read.Rows[0].BestScores);
        Assert.Equal((StopReason.Patience, 3L, double.NaN), (read.Rows[1].Stopped!.Value, read.Rows[1].StoppedAt, read.Rows[1].BestScore));
        Assert.Equal("0123456789abcdef", read.Extra["rng"]);
        Assert.Contains("tensor 't-seed2.prompt' is missing; the nearest name is 't-seed1.prompt'", Message(() => read.CopyTo("t-seed2.prompt", new TensorShape(3, 5), target)), StringComparison.Ordinal);
        Assert.Contains("has shape [3, 5], this run expects [5, 3]", Message(() => read.CopyTo("t-seed1.prompt", new TensorShape(5, 3), target)), StringComparison.Ordinal);
    }

    [Fact]
    public void TheLogIsCutBackToTheCheckpoint()
    {
        using (RunFolder folder = Open())
        {
            for (long step = 1; step <= 5; step++)
                folder.Recorder.Stepped(new StepReport(step, 100, 0.5), Rows(step));
            folder.Save(State(5));
            for (long step = 6; step <= 9; step++)
                folder.Recorder.Stepped(new StepReport(step, 100, 0.5), Rows(step));
        }
        string[] first = File.ReadAllLines(At("log.jsonl"));
        Assert.Equal(18, first.Length);
        string board = Directory.GetFiles(At("tensorboard", "t-seed1")).Single();
        int events = TensorBoardFileTests.Read(File.ReadAllBytes(board)).Count;
        using (RunFolder folder = Open(resume: true))
        {
            for (long step = 6; step <= 9; step++)
                folder.Recorder.Stepped(new StepReport(step, 100, 0.5), Rows(step));
        }
        Assert.Equal(first, File.ReadAllLines(At("log.jsonl")));
        Assert.Equal(board, Directory.GetFiles(At("tensorboard", "t-seed1")).Single());
        List<TensorBoardFileTests.Event> read = TensorBoardFileTests.Read(File.ReadAllBytes(board));
        Assert.Equal(events, read.Count);
        Assert.Equal([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], read.Select(e => (int)e.Step));
    }

    [Fact]
    public void KilledBeforeTheFirstCheckpointARunStartsAgain()
    {
        using (RunFolder folder = Open())
            folder.Recorder.Stepped(new StepReport(1, 100, 0.5), Rows(1));
        using (RunFolder folder = Open(resume: true))
            Assert.Null(folder.State);
        Assert.Equal(0, new FileInfo(At("log.jsonl")).Length);
    }

    [Fact]
    public void ToGoOnWithNothingIsToStart()
    {
        Directory.CreateDirectory(Output);
        // What a process leaves that was killed before run.json was there.
        File.WriteAllText(At("lock"), "");
        File.WriteAllText(At("run.json.12.0123456789abcdef0123456789abcdef.tmp"), "{");
        using RunFolder folder = Open(resume: true);
        Assert.Null(folder.State);
        Assert.True(File.Exists(At("run.json")));
        Assert.Empty(Directory.GetFiles(Output, "*.tmp"));
    }

    [Fact]
    public void ARunIsNotOverwritten()
    {
        Open().Dispose();
        Assert.Contains("a run is there already. Go on with it by --resume", Assert.Throws<IOException>(() => Open()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void SomebodyElsesFolderIsLeftAlone()
    {
        Directory.CreateDirectory(Output);
        foreach (string name in new[] { "b.txt", "a.txt", "d", "c" })
            File.WriteAllText(At(name), name);
        string message = Assert.Throws<IOException>(() => Open(resume: true)).Message;
        Assert.Contains("it holds a.txt, b.txt, c, ... and no run.json, expected an empty or missing folder", message, StringComparison.Ordinal);
        Assert.Equal(4, Directory.GetFiles(Output).Length);
        File.WriteAllText(Path.Combine(_root, "file"), "");
        Assert.Contains("there is a file of this name", Assert.Throws<IOException>(() => Open(false, $"output={_root}/file")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TwoProcessesCannotHaveOneFolder()
    {
        using (Open())
        {
            string message = Assert.Throws<IOException>(() => Open(resume: true)).Message;
            Assert.Contains("expected nobody. Wait until that run ends", message, StringComparison.Ordinal);
            Assert.Contains($"process {Environment.ProcessId} on {Environment.MachineName} is writing it", message, StringComparison.Ordinal);
        }
        Open(resume: true).Dispose();
    }

    [Fact]
    public void AnotherRunIsRefusedByItsDifferences()
    {
        Open().Dispose();
        string message = Message(() => Open(true, "prompt.length=20", "optimizer.name=adamw", "threads=1"));
        Assert.Contains("this is another run: prompt.length is 20, the run was started with 100; optimizer.name is \"adamw\", the run was started with \"adafactor\"", message, StringComparison.Ordinal);
        Assert.Matches("; and [0-9]+ more. Use the options that it was started with", message);
        Assert.Contains("optimizer.correct_bias is true, the run was started with none; optimizer.clip_threshold is gone, the run was started with 1;",
            Message(() => Open(true, "optimizer.name=adamw", "optimizer.weight_decay=1e-5")), StringComparison.Ordinal);
        Assert.DoesNotContain("threads", message, StringComparison.Ordinal);
        _inputs.Add("task t", "train.tsv", "bb");
        Assert.Contains("the file task t/train.tsv has changed", Message(() => Open(true)), StringComparison.Ordinal);
        _inputs.Add("task t", "train.tsv", "aa");
        _inputs.Add("task t", "dev.tsv", "cc");
        Assert.Contains("the file task t/dev.tsv is new", Message(() => Open(true)), StringComparison.Ordinal);
    }

    [Fact]
    public void WhatChangesTheLastBitsIsSaid()
    {
        Open().Dispose();
        using RunFolder folder = Open(true, "threads=1", "training.log_every=5");
        Assert.Equal(["threads is 1, the run was started with 0; results may differ in the last bits."], folder.Notes);
    }

    [Fact]
    public void AFullDiskLeavesTheOldCheckpoint()
    {
        // The disk is full after as many bytes: inside the header, and inside a tensor.
        foreach (int room in new[] { 0, 5, 300, 1000 })
        {
            int left = int.MaxValue;
            using (RunFolder folder = RunFolder.Open(Config(), _inputs, resume: true, stream => new FullDisk(stream, left), TimeProvider.System))
            {
                folder.Save(State(10));
                left = room;
                IOException e = Assert.Throws<IOException>(() => folder.Save(State(20, seed: 9)));
                Assert.Contains("writing the checkpoint of step 20 (0.0 MB); No space left on device. The checkpoint of step 10 is untouched: make room, then go on with --resume.", e.Message, StringComparison.Ordinal);
            }
            using RunFolder again = Open(resume: true);
            Assert.Equal(10, again.State!.Step);
            Assert.Equal(["state.safetensors"], Directory.GetFiles(At("checkpoint")).Select(Path.GetFileName));
        }
    }

    [Fact]
    public void OnlyOurOwnLeftoversAreSwept()
    {
        using (RunFolder folder = Open())
            folder.Save(State(1));
        // What kill -9 leaves in the middle of a checkpoint, beside what a user keeps there.
        File.WriteAllText(At("checkpoint", $"state.safetensors.12.{Guid.NewGuid():N}.tmp"), "half");
        File.WriteAllText(At("checkpoint", "notes.tmp"), "mine");
        using RunFolder again = Open(resume: true);
        Assert.Equal(1, again.State!.Step);
        Assert.Equal(["notes.tmp", "state.safetensors"], Directory.GetFiles(At("checkpoint")).Select(Path.GetFileName).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void WithoutAnOldCheckpointAFullDiskSaysSo()
    {
        using RunFolder folder = RunFolder.Open(Config(), _inputs, resume: false, stream => new FullDisk(stream, 8), TimeProvider.System);
        Assert.Contains("No checkpoint was there before: make room", Assert.Throws<IOException>(() => folder.Save(State(1))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ALogThatWasCutIsRefused()
    {
        using (RunFolder folder = Open())
        {
            folder.Recorder.Stepped(new StepReport(1, 100, 0.5), Rows(1));
            folder.Save(State(1));
        }
        File.WriteAllText(At("log.jsonl"), "");
        Assert.Contains("the file has 0 bytes, its checkpoint was written when it had", Message(() => Open(resume: true)), StringComparison.Ordinal);
        // The refusal holds nothing open.
        Assert.Contains("the file has 0 bytes", Message(() => Open(resume: true)), StringComparison.Ordinal);
    }

    [Fact]
    public void ACheckpointOfAnotherRunIsRefused()
    {
        using (RunFolder folder = Open())
            folder.Save(State(1));
        string other = Path.Combine(_root, "other");
        RunFolder.Open(Config("prompt.length=3", $"output={other}"), _inputs, resume: false).Dispose();
        Directory.CreateDirectory(Path.Combine(other, "checkpoint"));
        File.Copy(At("checkpoint", "state.safetensors"), Path.Combine(other, "checkpoint", "state.safetensors"));
        Assert.Contains("It was copied here from another run folder", Message(() => RunFolder.Open(Config("prompt.length=3", $"output={other}"), _inputs, resume: true)), StringComparison.Ordinal);
    }

    [Fact]
    public void DamagedCheckpointsAreRefused()
    {
        using (RunFolder folder = Open())
            folder.Save(State(3));
        string path = At("checkpoint", "state.safetensors");
        byte[] good = File.ReadAllBytes(path);
        string identity = Config().Identity(_inputs);
        for (int length = 0; length < good.Length; length += 97)
        {
            File.WriteAllBytes(path, good[..length]);
            Message(() => Open(resume: true));
        }
        foreach (string header in new[] { "null", "[]", "{}", "{\"format\":2}", Head(identity, step: -1), Head(identity, boards: "[0]"), Head(identity, boards: "[0,-1]"), Head(identity, rows: "[null,null]"), Head(identity, rows: "[{}]"), Head(identity, rows: "[]") })
        {
            new SafetensorsWriter().WithMetadata("iptnative_state", header).Save(path);
            Assert.StartsWith(path, Message(() => Open(resume: true)), StringComparison.Ordinal);
        }
        new SafetensorsWriter().Save(path);
        Assert.Contains("has no 'iptnative_state'", Message(() => Open(resume: true)), StringComparison.Ordinal);
        File.WriteAllText(At("run.json"), "{\"format\": 1}");
        Assert.Contains("reading a run's card; it is damaged", Message(() => Open(resume: true)), StringComparison.Ordinal);

        static string Head(string identity, long step = 1, string boards = "[0,0]", string rows = "[{\"run\":\"t-seed1\"},{\"run\":\"t-seed2\"}]") =>
            $$"""{"format":1,"identity":"{{identity}}","step":{{step}},"seconds":0,"rows":{{rows}},"extra":{},"log_offset":0,"board_offsets":{{boards}}}""";
    }

    [Fact]
    public void LogLinesAreObjects()
    {
        using (RunFolder folder = Open())
        {
            folder.Recorder.Stepped(new StepReport(4, 100, 0.5), [new RowStep(1, 0.25, 0.3, double.PositiveInfinity, 12.5)]);
            folder.Recorder.Evaluated(new EvalReport(0, 4, "dev", 0.5, [new("acc", 0.5), new("pearson", double.NaN)], true, 1.5, 2));
            folder.Recorder.RowEnded(new RowFinished(0, 4, StopReason.NonFinite, 2, 0.5, "loss of batch 3 is NaN"));
        }
        Assert.Equal(
        [
            """{"event":"step","step":4,"run":"t-seed2","loss":0.25,"lr":0.3,"grad_norm":null,"prompt_rms":12.5,"tokens_per_s":200}""",
            """{"event":"eval","step":4,"run":"t-seed1","split":"dev","score":0.5,"metrics":{"acc":0.5,"pearson":null},"best":true,"loss":1.5,"seconds":2}""",
            """{"event":"stop","step":4,"run":"t-seed1","reason":"non_finite","best_step":2,"best_score":0.5,"detail":"loss of batch 3 is NaN"}""",
        ], File.ReadAllLines(At("log.jsonl")));
    }

    [Fact]
    public void LoggingAStepAllocatesNothing()
    {
        using RunFolder folder = Open(false, "training.log_every=2");
        RowStep[] rows = Rows(3);
        for (long step = 1; step <= 50; step++) // buffers grow, code is compiled
            folder.Recorder.Stepped(new StepReport(step, 100, 0.5), rows);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (long step = 51; step <= 1050; step++)
            folder.Recorder.Stepped(new StepReport(step, 100, 0.5), rows);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(2 * 525, File.ReadLines(At("log.jsonl")).Count());
    }

    [Fact]
    public void BestPromptsArePeftFoldersAndNumpyFiles()
    {
        var prompt = new Prompt([1, 2, 3, 4, 5, 6], 2, 3);
        using RunFolder folder = Open();
        folder.SaveBest(1, prompt, new FrozenModelCard("google/t5-base-lm-adapt", 12, 12));
        Assert.Equal(At("best", "t-seed2"), folder.BestFolder(1));
        Assert.Equal(prompt.Values, PromptFile.Read(At("best", "t-seed2")).Values);
        Assert.Equal(prompt.Values, PromptFile.Read(At("best", "t-seed2", "prompt.npy")).Values);
        using RunFolder single = Open(false, "training.runs=1", $"output={_root}/single");
        Assert.Equal(Path.Combine(_root, "single", "best"), single.BestFolder(0));
    }

    [Fact]
    public void ResultsAreWritten()
    {
        using RunFolder folder = Open();
        IReadOnlyList<RunRow> rows = folder.Config.Rows();
        var result = new RunResult
        {
            Rows =
            [
                new RowResult { Row = rows[0], Steps = 9, BestStep = 4, Scores = new Dictionary<string, SplitScore> { ["dev"] = new(0.5, [new("acc", 0.5)], 32), ["test"] = new(0.4, [new("acc", 0.4)], 100) } },
                new RowResult { Row = rows[1], Steps = 9, BestStep = 8, Stopped = StopReason.Patience, Scores = new Dictionary<string, SplitScore> { ["dev"] = new(0.7, [new("acc", 0.7)], 32) } },
            ],
            Baselines = [new Baseline("t", "majority", "test", new SplitScore(0.25, [new("acc", 0.25)], 100))],
        };
        folder.WriteResult(result);
        folder.WritePredictions([new PredictionLine("t-seed1", "test", 0, "a\tb", ["x", "y\nz"], "in\r\nput"), new PredictionLine("t-seed1", "test", 1, "", ["é"], "q")]);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllText(At("result.json")));
        JsonElement dev = json.RootElement.GetProperty("summary")[0];
        Assert.Equal(("t", "dev", 2), (dev.GetProperty("task").GetString(), dev.GetProperty("split").GetString(), dev.GetProperty("runs").GetInt32()));
        Assert.Equal(0.6, dev.GetProperty("mean").GetDouble(), 12);
        Assert.Equal(0.1 * Math.Sqrt(2), dev.GetProperty("std").GetDouble(), 12);
        Assert.Equal(JsonValueKind.Null, json.RootElement.GetProperty("summary")[1].GetProperty("std").ValueKind);
        Assert.Equal("patience", json.RootElement.GetProperty("runs")[1].GetProperty("stopped").GetString());
        Assert.Equal("run\tsplit\texample\tprediction\tanswers\tinput\nt-seed1\ttest\t0\ta b\tx | y z\tin put\nt-seed1\ttest\t1\t\té\tq\n", File.ReadAllText(At("predictions.tsv"), Encoding.UTF8));
    }

    private static string Message(Action action) => Assert.Throws<InvalidDataException>(action).Message;

    // Takes so many bytes and then no more, as a disk does.
    private sealed class FullDisk(Stream inner, int room) : Stream
    {
        private int _room = room;

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => inner.Length;

        public override long Position { get => inner.Position; set => throw new NotSupportedException(); }

        public override void Flush() => inner.Flush();

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            int taken = Math.Min(_room, buffer.Length);
            inner.Write(buffer[..taken]);
            _room -= taken;
            if (taken < buffer.Length)
                throw new IOException("No space left on device");
        }
    }
}
