// From a run's options to the settings of what carries them out. Deliberately without defaults of its own.
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Memory;
using IptNative.Tuning.Runs;
using Engine = IptNative.Model.Backward.ForwardEngine;

namespace IptNative.Tuning.Training;

internal static class RunSettings
{
    // Source positions, prompt included.
    private const int CommonLength = 256;

    /// <summary>Evaluation as the options say; 0 leaves the choice to the evaluator.</summary>
    public static EvaluationOptions Of(EvaluationConfig config)
    {
        var options = new EvaluationOptions();
        return options with
        {
            BatchSize = config.BatchSize == 0 ? options.BatchSize : config.BatchSize,
            MaxTargetLength = config.MaxLength == 0 ? null : config.MaxLength,
        };
    }

    /// <summary>Forward and backward within the free memory.</summary>
    public static (GradientPass Pass, MicroBatchLimit Limit) Pass(Checkpoint checkpoint, FrozenT5 model, LossConfig loss, Activations? wanted, int microBatchSize, Engine engine)
    {
        // Lengths differ from batch to batch: what fits is counted in examples of a common length and then taken as positions.
        var request = new MemoryRequest { Weights = StoredWeights.Of(checkpoint), Source = CommonLength, Target = CommonLength / 8, PromptRows = CommonLength };
        var free = new MemoryFreedom(wanted, WeightResidence.Mapped, engine, StepPlan.EnoughPositions / CommonLength);
        StepPlan plan = StepPlan.For(request, free, null, StepPlan.FreeBytes()).Plan;
        var pass = new GradientPass(checkpoint, model, new GradientOptions
        {
            Activations = plan.Activations,
            Forward = engine,
            Loss = TokenLoss.Plain with { LabelSmoothing = (float)loss.LabelSmoothing, ZLoss = (float)loss.ZLoss },
        });
        return (pass, plan.Limit with { Examples = microBatchSize == 0 ? int.MaxValue : microBatchSize });
    }
}
