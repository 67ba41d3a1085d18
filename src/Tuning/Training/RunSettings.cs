// From a run's options to the settings of what carries them out. Deliberately without defaults of its own.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
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

    /// <summary>The device that a run computes on, answers included.</summary>
    /// <param name="device">As the options have it.</param>
    /// <param name="threads">CPU threads; 0 takes every core.</param>
    /// <param name="compute">What products multiply.</param>
    /// <param name="note">Told what the user did not ask for in so many words.</param>
    /// <param name="open">Makes the device in place of the options; null normally.</param>
    /// <exception cref="NotSupportedException">A GPU was asked for and cannot be had.</exception>
    public static ComputeDevice Open(string device, int threads, ComputeType compute, Action<string> note, Func<ComputeDevice>? open = null)
    {
        if (open is not null)
            return open();
        ComputeDevice opened = DeviceChoice.Parse(device).Open(threads, compute, out string said);
        if (said.Length > 0)
            note(said);
        return opened;
    }

    /// <summary>What products multiply for answers: float32 on the CPU, what training multiplies on a device, whose copy of narrow weights is not widened for them.</summary>
    public static ComputeType Answering(ComputeDevice device, ComputeType training) => device is CpuDevice ? ComputeType.F32 : training;

    /// <summary>How steps are cut where lengths differ from batch to batch: as remembered, or anew from the free memory.</summary>
    public static StepPlan Plan(Checkpoint checkpoint, FrozenT5 model, ComputeDevice device, Engine engine, Activations? wanted, int microBatchSize, string? remembered)
    {
        var free = new MemoryFreedom(wanted, device is CpuDevice ? WeightResidence.Mapped : WeightResidence.Resident, engine, int.MaxValue);
        if (remembered is not null && StepPlan.Remembered(remembered, free) is { } known)
            return known;
        // What fits is counted in examples of a common length and then taken as positions.
        var request = new MemoryRequest { Weights = StoredWeights.Of(checkpoint), Source = CommonLength, Target = CommonLength / 8, PromptRows = CommonLength };
        free = free with { MostExamples = StepPlan.EnoughPositions / CommonLength };
        StepPlan plan = device is CpuDevice ? StepPlan.For(request, free, null, StepPlan.FreeBytes()).Plan
            : StepPlan.On(device, OnDevice(request, device, new EvaluationOptions()), free, null, model.HeldBytes).Plan;
        return plan with { Limit = plan.Limit with { Examples = microBatchSize == 0 ? int.MaxValue : microBatchSize } };
    }

    // Development examples are answered between steps, on the same device.
    private static MemoryRequest OnDevice(MemoryRequest request, ComputeDevice device, EvaluationOptions answers) => request with
    {
        Device = device.Name,
        Compute = device.Compute,
        AnswerPositions = answers.MaxBatchPositions,
        AnswerTexts = answers.BatchSize,
        AnswerTokens = request.Target,
    };

    /// <summary>Forward and backward as planned.</summary>
    public static GradientPass Pass(Checkpoint checkpoint, FrozenT5 model, ComputeDevice device, LossConfig loss, StepPlan plan, DType tape = DType.F32, string? spillFolder = null)
    {
        // ONNX Runtime binds all weights at once.
        if (plan.Weights == WeightResidence.Streamed)
            model.Generation = Engine.Native;
        return new GradientPass(checkpoint, model, new GradientOptions
        {
            Activations = plan.Activations,
            Tape = tape,
            SpillFolder = spillFolder,
            Forward = plan.Forward,
            Weights = plan.Weights,
            Device = device,
            Loss = TokenLoss.Plain with { LabelSmoothing = (float)loss.LabelSmoothing, ZLoss = (float)loss.ZLoss },
        });
    }
}
