// The shipped model with gradients, and trainings of a few examples on it, shared by the tests of a class.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Data;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Training;
using Xunit;

namespace IptNative.Tuning.Tests.Training;

public sealed class TrainingModel : IDisposable
{
    internal static readonly MicroBatchLimit Whole = new(int.MaxValue, 8192);

    private readonly Dictionary<Model.Backward.ForwardEngine, GradientPass> _passes = [];

    public TrainingModel()
    {
        Checkpoint = Checkpoint.Open(TinyModel.Folder);
        Tokenizer = T5Tokenizer.Load(TinyModel.Folder, Checkpoint.Config.VocabSize);
        Device = new CpuDevice(2);
        Frozen = FrozenT5.Load(Checkpoint, new FrozenT5Options { Threads = 2, Device = Device, AllowSpinning = false });
    }

    internal Checkpoint Checkpoint { get; }

    internal T5Tokenizer Tokenizer { get; }

    internal CpuDevice Device { get; }

    internal FrozenT5 Frozen { get; }

    internal GradientPass Pass(Model.Backward.ForwardEngine engine)
    {
        if (!_passes.TryGetValue(engine, out GradientPass? pass))
            _passes.Add(engine, pass = new GradientPass(Checkpoint, Frozen, new GradientOptions { Forward = engine }));
        return pass;
    }

    internal EncodedExamples Examples(string task, string split, int limit) =>
        EncodedExamples.Encode(Tokenizer, TaskData.Load(new TaskSource { Task = task, Data = TinyModel.Gym }), split, new EncodingOptions(), limit);

    internal Prompt Start(int length, int seed) =>
        new PromptInitialiser(Checkpoint, Tokenizer).Create(new PromptInitialisation { Length = length }, seed).Prompt;

    /// <summary>Trains the runs side by side and gives their best prompts.</summary>
    internal (IReadOnlyList<TrainingOutcome> Outcomes, Prompt[] Prompts) Train(
        IReadOnlyList<TrainingRow> rows, IReadOnlyList<Prompt> start, TrainerOptions options, IRunObserver observer, Model.Backward.ForwardEngine engine = Model.Backward.ForwardEngine.Native)
    {
        using var tuned = new DirectPrompts(Device, start);
        var loss = new PromptLoss(Pass(engine), rows.Count, LossReduction.Mean, options.Limit);
        using var trainer = new Trainer(Device, tuned, rows, loss, new Evaluator(Frozen, Tokenizer), options, observer, null);
        IReadOnlyList<TrainingOutcome> outcomes = trainer.Run(TestContext.Current.CancellationToken);
        return (outcomes, [.. start.Select((_, i) => Read(tuned.Table, i))]);
    }

    internal static Prompt Read(PromptTable table, int run) =>
        new(table.Values.Slice((long)table.First(run) * table.DModel, (long)table.Length(run) * table.DModel).ToArray<float>(), table.Length(run), table.DModel);

    internal static TrainingRow Row(int index, EncodedExamples train, int seed, EncodedExamples? dev = null) =>
        new(new RunRow(index, 0, train.Task, seed), train, dev);

    /// <summary>|a - b| / |b|, Euclidean.</summary>
    internal static double Distance(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double difference = 0, norm = 0;
        for (int i = 0; i < a.Length; i++)
        {
            difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
            norm += (double)b[i] * b[i];
        }
        return Math.Sqrt(difference / norm);
    }

    public void Dispose()
    {
        foreach (GradientPass pass in _passes.Values)
            pass.Dispose();
        Frozen.Dispose();
        Device.Dispose();
        Checkpoint.Dispose();
    }
}

/// <summary>Keeps what a training says.</summary>
internal sealed class Told : IRunObserver
{
    public List<(long Step, RowStep Row)> Steps { get; } = [];

    public List<EvalReport> Evaluations { get; } = [];

    public List<RowFinished> Ended { get; } = [];

    public Action<long> OnStep { get; init; } = _ => { };

    public RunStart? Start { get; private set; }

    public void Started(RunStart start) => Start = start;

    public void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows)
    {
        foreach (RowStep row in rows)
            Steps.Add((report.Step, row));
        OnStep(report.Step);
    }

    public void Evaluated(EvalReport report) => Evaluations.Add(report);

    public void RowEnded(RowFinished row) => Ended.Add(row);

    public void Finished(RunFinished report)
    {
        // The outcomes say it.
    }
}
