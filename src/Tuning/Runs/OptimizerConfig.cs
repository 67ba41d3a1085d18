// The optimizer of a run, in the words of its two implementations. The arithmetic and its limits are those of Optimizers.
using IptNative.Optimizers;
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Runs;

/// <summary>Which optimizer.</summary>
public enum OptimizerKind
{
    /// <summary>Adafactor.</summary>
    Adafactor,

    /// <summary>AdamW.</summary>
    AdamW,
}

/// <summary>How the learning rate moves.</summary>
public enum RateSchedule
{
    /// <summary>It stays.</summary>
    Constant,

    /// <summary>It rises from 0 over the warm-up and stays.</summary>
    LinearWarmup,

    /// <summary>It rises over the warm-up, where there is one, and falls to 0 at the last step.</summary>
    LinearDecay,
}

/// <summary>Options of the optimizer.</summary>
public sealed record OptimizerConfig
{
    private static readonly (string, OptimizerKind)[] Kinds = [("adafactor", OptimizerKind.Adafactor), ("adamw", OptimizerKind.AdamW)];
    private static readonly (string, RateSchedule)[] Schedules = [("constant", RateSchedule.Constant), ("linear_warmup", RateSchedule.LinearWarmup), ("linear_decay", RateSchedule.LinearDecay)];
    private static readonly (string, AdafactorVariant)[] AdafactorVariants = [("t5x", AdafactorVariant.T5X), ("hf", AdafactorVariant.HuggingFace)];
    private static readonly (string, AdamWVariant)[] AdamWVariants = [("torch", AdamWVariant.Torch), ("hf", AdamWVariant.HuggingFace)];

    /// <summary>Which optimizer.</summary>
    public OptimizerKind Name { get; init; } = OptimizerKind.Adafactor;

    /// <summary>The highest learning rate.</summary>
    public double LearningRate { get; init; } = 0.3;

    /// <summary>How the rate moves.</summary>
    public RateSchedule Schedule { get; init; } = RateSchedule.Constant;

    /// <summary>Steps over which the rate rises; need not be whole.</summary>
    public double WarmupSteps { get; init; }

    /// <summary>Largest norm of a run's gradient; null does not clip.</summary>
    public double? ClipNorm { get; init; }

    /// <summary>Settings where <see cref="Name"/> is Adafactor.</summary>
    public AdafactorOptions Adafactor { get; init; } = new();

    /// <summary>Settings where <see cref="Name"/> is AdamW.</summary>
    public AdamWOptions AdamW { get; init; } = new();

    /// <summary>The schedule in numbers.</summary>
    /// <param name="steps">Steps of the run.</param>
    /// <returns>The rate by step.</returns>
    public LearningRateSchedule ToSchedule(long steps) =>
        new(Schedule == RateSchedule.LinearDecay ? ScheduleShape.Linear : ScheduleShape.Constant, LearningRate, WarmupSteps, steps);

    // Only the options of the optimizer that is named are known: weight decay of the other one is a mistake worth a message.
    internal OptimizerConfig Visit(OptionVisitor v)
    {
        OptimizerKind name = v.Choice("name", Name, Kinds, "Which optimizer.");
        return new()
        {
            Name = name,
            LearningRate = v.Number("learning_rate", LearningRate, NumberRange.AtLeast(0), "The highest learning rate."),
            Schedule = v.Choice("schedule", Schedule, Schedules, "How the rate moves."),
            WarmupSteps = v.Number("warmup_steps", WarmupSteps, NumberRange.AtLeast(0), "Steps over which the rate rises; need not be whole."),
            ClipNorm = v.OptionalNumber("clip_norm", ClipNorm, NumberRange.Above(0), "Largest norm of a run's gradient; null does not clip."),
            Adafactor = name == OptimizerKind.Adafactor ? Visit(Adafactor, v) : Adafactor,
            AdamW = name == OptimizerKind.AdamW ? Visit(AdamW, v) : AdamW,
        };
    }

    internal void Validate(long steps)
    {
        if (Schedule == RateSchedule.Constant && WarmupSteps > 0)
            throw new ArgumentException($"optimizer.warmup_steps is {WarmupSteps} with a constant schedule, expected 0, or \"schedule\": \"linear_warmup\" or \"linear_decay\".");
        if (Schedule == RateSchedule.LinearWarmup && WarmupSteps == 0)
            throw new ArgumentException("optimizer.schedule is \"linear_warmup\" with 0 warmup_steps, expected some, or \"schedule\": \"constant\".");
        if (Schedule == RateSchedule.LinearDecay && WarmupSteps > steps)
            throw new ArgumentException($"optimizer.warmup_steps is {WarmupSteps} of training.steps {steps} in all, expected no more than those.");
        if (Name == OptimizerKind.Adafactor && Adafactor.StepOffset != 0 && Adafactor.Variant != AdafactorVariant.T5X)
            throw new ArgumentException($"optimizer.step_offset is {Adafactor.StepOffset}, expected 0 for the variant \"hf\", which has none.");
        if (Name == OptimizerKind.AdamW && !AdamW.CorrectBias && AdamW.Variant == AdamWVariant.Torch)
            throw new ArgumentException("optimizer.correct_bias is false, expected true for the variant \"torch\", which has no such switch.");
    }

    private static AdafactorOptions Visit(AdafactorOptions a, OptionVisitor v) => new()
    {
        Variant = v.Choice("variant", a.Variant, AdafactorVariants, "Whose Adafactor."),
        WeightDecay = v.Number("weight_decay", a.WeightDecay, NumberRange.UpToBelow(0, 1), "Weight decay a step; t5x does not multiply it by the rate."),
        Epsilon = v.Number("epsilon", a.Epsilon, NumberRange.Above(0), "Added to squared gradients."),
        ClipThreshold = v.Number("clip_threshold", a.ClipThreshold, NumberRange.Above(0), "Largest root mean square of an update before the rate."),
        DecayExponent = v.Number("decay_rate", a.DecayExponent, NumberRange.Above(0), "The second moment decays by 1 - t^-this."),
        MinDimSizeToFactor = v.Int("min_dim_size_to_factor", a.MinDimSizeToFactor, 1, "t5x: smallest dimension that is factored."),
        StepOffset = v.Integer("step_offset", a.StepOffset, -1_000_000_000_000, 0, "t5x: t = step - this + 1; the published prompts had -1100000."),
    };

    private static AdamWOptions Visit(AdamWOptions a, OptionVisitor v) => new()
    {
        Variant = v.Choice("variant", a.Variant, AdamWVariants, "Whose AdamW."),
        WeightDecay = v.Number("weight_decay", a.WeightDecay, NumberRange.AtLeast(0), "Weight decay, multiplied by the rate."),
        Beta1 = v.Number("beta1", a.Beta1, NumberRange.UpToBelow(0, 1), "Decay of the first moment."),
        Beta2 = v.Number("beta2", a.Beta2, NumberRange.UpToBelow(0, 1), "Decay of the second moment."),
        Epsilon = v.Number("epsilon", a.Epsilon, NumberRange.Above(0), "Keeps the denominator from 0."),
        CorrectBias = v.Switch("correct_bias", a.CorrectBias, "hf: correct the moments' bias towards 0."),
    };
}
