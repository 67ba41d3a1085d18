using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Forward;
using IptNative.Tasks.Data;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Ipt;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;
using Xunit;
using Engine = IptNative.Model.Backward.ForwardEngine;

namespace IptNative.Tuning.Tests.Ipt;

/// <summary>Intrinsic tuning by the training loop against the replay that parity holds to PyTorch's traces.</summary>
public sealed class IntrinsicPromptsTests : IClassFixture<TinyModel>, IDisposable
{
    private const int Length = 3, Steps = 5;
    private const double Rate = 0.05;

    private readonly TinyModel _model;
    private readonly GradientPass _pass;
    private readonly EncodedExamples _examples;

    public IntrinsicPromptsTests(TinyModel model)
    {
        _model = model;
        _pass = new GradientPass(model.Checkpoint, model.Frozen, new GradientOptions { Forward = Engine.Native });
        TaskExample[] examples = [.. CrossFitTask.Load(Path.Combine(TinyModel.Gym, "words-first"), 13).Train.Take(5)];
        _examples = EncodedExamples.Encode(model.Tokenizer, "words-first", examples, new EncodingOptions());
    }

    [Fact]
    public void ARunBesideOthersFollowsTheReplay()
    {
        using AutoencoderSubspace subspace = Subspace();
        float[] start = [0.3f, -0.7f];
        IstTrace expected = SubspaceReplay.Ist(subspace, start, IstRecipe.CrossEntropy(Rate, Steps), Steps, Loss);
        (List<double>[] losses, float[][] vectors, _) = Train(subspace, [-0.1f, 0.2f, .. start, 1f, 0.5f]);
        for (int step = 0; step < Steps; step++)
        {
            // The same sums in micro-batches of another shape: float32 rounding, which AdamW's division passes on.
            Assert.Equal(expected.Losses[step], losses[1][step], 1e-5 * expected.Losses[step]);
        }
        for (int k = 0; k < start.Length; k++)
            Assert.Equal(expected.Vectors[^1][k], vectors[1][k], 2e-4f);
    }

    [Fact]
    public void ANaNEndsItsRunAndLeavesTheOthersAlone()
    {
        using AutoencoderSubspace subspace = Subspace(SubspaceActivation.Identity);
        // Finite itself, but no prompt: the model's hidden states overflow.
        float[] huge = [float.MaxValue, float.MaxValue];
        (List<double>[] losses, float[][] vectors, IReadOnlyList<TrainingOutcome> outcomes) = Train(subspace, [0.3f, -0.7f, .. huge, 1f, 0.5f]);
        (List<double>[] expected, float[][] expectedVectors, _) = Train(subspace, [0.3f, -0.7f, 0.1f, 0.1f, 1f, 0.5f]);
        Assert.Equal(StopReason.NonFinite, outcomes[1].Stopped);
        Assert.Contains("Lower optimizer.learning_rate", outcomes[1].Detail!, StringComparison.Ordinal);
        Assert.Empty(losses[1]);
        foreach (int run in (int[])[0, 2])
        {
            Assert.Equal(StopReason.Steps, outcomes[run].Stopped);
            Assert.Equal(Steps, losses[run].Count);
            for (int step = 0; step < Steps; step++)
                Assert.Equal(expected[run][step], losses[run][step], 1e-5 * expected[run][step]);
            for (int k = 0; k < 2; k++)
                Assert.Equal(expectedVectors[run][k], vectors[run][k], 2e-4f);
        }
    }

    public void Dispose() => _pass.Dispose();

    private AutoencoderSubspace Subspace(SubspaceActivation activation = SubspaceActivation.Tanh) => AutoencoderSubspace.Create(_model.Frozen.Device, new SubspaceHeader
    {
        Kind = SubspaceKind.Autoencoder,
        PromptLength = Length,
        DModel = _model.Checkpoint.Config.DModel,
        IntrinsicDim = 2,
        InnerDim = 7,
        InnerActivation = activation,
        Standardisation = new PromptStandardisation { Kind = StandardisationKind.Global, Scale = 3 },
    }, 5);

    /// <summary>The whole set as every step's batch: a replay has no order of examples.</summary>
    private (List<double>[] Losses, float[][] Vectors, IReadOnlyList<TrainingOutcome> Outcomes) Train(PromptSubspace subspace, float[] start)
    {
        using var tuned = new IntrinsicPrompts(subspace, start);
        int runs = start.Length / subspace.IntrinsicDim;
        TrainingRow[] rows = [.. Enumerable.Range(0, runs).Select(i => new TrainingRow(new RunRow(i, 0, $"run{i}", i), _examples, null))];
        var options = new TrainerOptions
        {
            Training = new TrainingConfig { Steps = Steps, BatchSize = _examples.Count, EvalEvery = Steps },
            Optimizer = new OptimizerConfig { Name = OptimizerKind.AdamW, LearningRate = Rate },
        };
        var heard = new Losses(runs);
        using var trainer = new Trainer((CpuDevice)_model.Frozen.Device, tuned, rows, new PromptLoss(_pass, runs, LossReduction.Mean, new MicroBatchLimit(4, 100)), new Evaluator(_model.Frozen, _model.Tokenizer), options, heard, null);
        IReadOnlyList<TrainingOutcome> outcomes = trainer.Run(TestContext.Current.CancellationToken);
        return (heard.Of, [.. Enumerable.Range(0, runs).Select(tuned.Vector)], outcomes);
    }

    private void Loss(Tensor prompts, int rows, Tensor gradients, Span<double> losses)
    {
        var loss = new PromptLoss(_pass, 1, LossReduction.Mean, new MicroBatchLimit(int.MaxValue, 8192));
        for (int e = 0; e < _examples.Count; e++)
            loss.Add(_examples, e, 0, 0);
        loss.Run(new PromptTable(prompts, _model.Checkpoint.Config.DModel, Length), gradients, TestContext.Current.CancellationToken);
        losses[0] = loss.Losses[0];
    }

    private sealed class Losses(int runs) : IRunObserver
    {
        public List<double>[] Of { get; } = [.. Enumerable.Range(0, runs).Select(_ => new List<double>())];

        public void Started(RunStart start)
        {
        }

        public void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows)
        {
            foreach (RowStep row in rows)
                Of[row.Row].Add(row.Loss);
        }

        public void Evaluated(EvalReport report)
        {
        }

        public void RowEnded(RowFinished row)
        {
        }

        public void Finished(RunFinished report)
        {
        }
    }
}
