// Whole runs with their folders: going on after an interruption, and what a step costs the garbage collector.
using System.Text.Json.Nodes;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Memory;
using IptNative.Tuning.Training;
using Xunit;

namespace IptNative.Tuning.Tests.Training;

public sealed class TrainRunTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // Two tasks, two seeds each, 14 steps with four evaluations; batches pass through several epochs.
    private RunConfig Config(string name, params string[] overrides)
    {
        string json = $$"""
            {
              "model": "{{Escaped(TinyModel.Folder)}}",
              "tasks": [
                { "name": "words-second", "data": "{{Escaped(TinyModel.Gym)}}", "train_limit": 10, "dev_limit": 6 },
                { "name": "clinc150-domain", "data": "{{Escaped(TinyModel.Gym)}}", "train_limit": 14, "dev_limit": 7 }
              ],
              "prompt": { "length": 4, "init": "vocab" },
              "training": { "steps": 14, "batch_size": 3, "eval_every": 4, "runs": 2 },
              "evaluation": { "test": false },
              "threads": 2,
              "output": "{{Escaped(Path.Combine(_folder, name))}}"
            }
            """;
        return RunConfig.Parse(json, "test.json", _folder, overrides);
    }

    private static string Escaped(string path) => path.Replace("\\", "\\\\", StringComparison.Ordinal);

    // Everything but the timings.
    private static List<string> Log(string folder)
    {
        var lines = new List<string>();
        foreach (string line in File.ReadLines(Path.Combine(folder, "log.jsonl")))
        {
            JsonObject o = JsonNode.Parse(line)!.AsObject(); // a line is an object
            o.Remove("tokens_per_s");
            o.Remove("seconds");
            lines.Add(o.ToJsonString());
        }
        return lines;
    }

    private static void Same(string expected, string actual)
    {
        Assert.Equal(Log(expected), Log(actual));
        string[] prompts = [.. Directory.GetFiles(Path.Combine(expected, "best"), "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(expected, f)).Order(StringComparer.Ordinal)];
        Assert.Equal(4, prompts.Count(p => p.EndsWith("prompt.npy", StringComparison.Ordinal)));
        foreach (string prompt in prompts)
            Assert.Equal(File.ReadAllBytes(Path.Combine(expected, prompt)), File.ReadAllBytes(Path.Combine(actual, prompt)));
        foreach (string board in Directory.GetFiles(Path.Combine(expected, "tensorboard"), "*", SearchOption.AllDirectories))
        {
            string twin = Path.GetRelativePath(expected, Path.GetDirectoryName(board)!); // a file has a folder
            Assert.Equal(new FileInfo(board).Length, new FileInfo(Assert.Single(Directory.GetFiles(Path.Combine(actual, twin)))).Length);
        }
    }

    [Theory]
    [InlineData("native", 0)]
    [InlineData("ort", 0)]
    [InlineData("native", 3)]
    public void AnInterruptedRunGoesOnBitForBit(string engine, int checkpointEvery)
    {
        string[] overrides = [$"forward={engine}", $"training.checkpoint_every={checkpointEvery}", "training.patience=2"];
        RunConfig whole = Config("whole", overrides), parts = Config("parts", overrides);
        IReadOnlyList<TrainingOutcome> expected = TrainRun.Execute(whole, false, new Told(), _ => { }, TestContext.Current.CancellationToken).Outcomes;
        // After the first step, before an evaluation, right behind one, and in the middle.
        foreach (int at in (ReadOnlySpan<int>)[1, 4, 5, 11])
        {
            using var stop = new CancellationTokenSource();
            var told = new Told { OnStep = step => CancelAt(stop, step, at) };
            Assert.Throws<OperationCanceledException>(() => TrainRun.Execute(parts, true, told, _ => { }, stop.Token));
        }
        var rest = new Told();
        IReadOnlyList<TrainingOutcome> outcomes = TrainRun.Execute(parts, true, rest, _ => { }, TestContext.Current.CancellationToken).Outcomes;
        Assert.Equal(11, rest.Start?.FirstStep);
        Same(whole.Output, parts.Output);
        Assert.Equal(expected.Select(o => (o.Steps, o.Stopped, o.BestStep, o.Best)), outcomes.Select(o => (o.Steps, o.Stopped, o.BestStep, o.Best)));
        // And once more, when nothing is left to do.
        TrainRun.Execute(parts, true, new Told(), _ => { }, TestContext.Current.CancellationToken);
        Same(whole.Output, parts.Output);

        static void CancelAt(CancellationTokenSource stop, long step, int at)
        {
            if (step == at)
                stop.Cancel();
        }
    }

    [Fact]
    public void TheCutOfAStepIsRememberedHoweverMuchMemoryIsFreeLater()
    {
        var config = Model.Config.T5Config.Load(Path.Combine(TinyModel.Folder, "config.json"));
        var request = new MemoryRequest { Weights = StoredWeights.Of(config, Kernels.DType.F32), Source = 40, Target = 4 };
        var free = new MemoryFreedom(null, null, null, 64);
        StepPlan rich = StepPlan.For(request, free, null, 1L << 34).Plan, poor = StepPlan.For(request, free, null, 1L << 20).Plan;
        Assert.NotEqual(rich.ToText(), poor.ToText());
        Assert.Equal((Model.Backward.Activations.Full, 64), (rich.Activations, rich.Limit.Examples));
        Assert.Equal((Model.Backward.Activations.Blocks, 1), (poor.Activations, poor.Limit.Examples));
        foreach (StepPlan plan in (StepPlan[])[rich, poor])
        {
            Assert.Equal(plan, StepPlan.Remembered(plan.ToText(), free));
            Assert.Equal(plan, StepPlan.Remembered(plan.ToText(), free with { Activations = plan.Activations, Residence = plan.Weights, Forward = plan.Forward }));
        }
        // Who asks for something else gets it; what is no plan is none.
        Assert.Null(StepPlan.Remembered(rich.ToText(), free with { Activations = Model.Backward.Activations.Blocks }));
        Assert.Null(StepPlan.Remembered(rich.ToText(), free with { MostExamples = 3 }));
        foreach (string text in (string[])["", "Full", "Full 8192", "Full 0 8 Mapped Ort", "Full 8 -5 Mapped Ort", "2 8 100 Mapped Ort", "Full 8 99999999999999999999 Mapped Ort", "Half 8 100 Mapped Ort", "Full 8 100 Mapped Ort x"])
            Assert.Null(StepPlan.Remembered(text, free));
    }

    [Theory]
    [InlineData("native")]
    [InlineData("ort")]
    public void AStepAllocatesNothing(string engine)
    {
        // An epoch is five batches; the next epoch's order is drawn at its first step, and that allocates: a few
        // arrays of the number of examples, in place of which a table for all epochs would have to be kept.
        long before = 0;
        var steps = new List<(long Step, long Bytes)>(100);
        var told = new Counting(step =>
        {
            long now = GC.GetAllocatedBytesForCurrentThread();
            steps.Add((step, now - before));
            before = GC.GetAllocatedBytesForCurrentThread();
        });
        TrainRun.Execute(Config("run", $"forward={engine}", "training.steps=40", "training.eval_every=1000", "tasks.*.train_limit=15"), false, told, _ => { }, TestContext.Current.CancellationToken);
        Assert.Equal(40, steps.Count);
        // Three epochs of five warm up code and grow buffers to the longest batch.
        (long Step, long Bytes)[] counted = [.. steps.Where(s => s.Step > 15 && (s.Step - 1) % 5 != 0)];
        // ONNX Runtime's tensors have their shape for life: the first batch of a shape binds every weight and tape tensor anew, about a
        // hundred bytes each whatever their size: under 20 KB in all on this model. A shape that was there before allocates nothing (FrozenT5ShapeTests).
        long most = engine == "ort" ? 32 << 10 : 0;
        Assert.Contains(counted, s => s.Bytes == 0);
        foreach ((long step, long bytes) in counted)
            Assert.True(bytes <= most, $"step {step} allocated {bytes} bytes; all steps: {string.Join(" ", steps)}");
    }

    private sealed class Counting(Action<long> stepped) : IRunObserver
    {
        public void Started(RunStart start)
        {
            // Only steps count.
        }

        public void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows) => stepped(report.Step);

        public void Evaluated(EvalReport report)
        {
            // Likewise.
        }

        public void RowEnded(RowFinished row)
        {
            // Likewise.
        }

        public void Finished(RunFinished report)
        {
            // Likewise.
        }
    }
}
