// How long and in what portions is trained, what is minimised, and how it is scored.
using IptNative.Kernels.Ops;
using IptNative.Tuning.Data;
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Runs;

/// <summary>Options of the training loop.</summary>
public sealed record TrainingConfig
{
    private static readonly (string, TrainedAnswers)[] AnswerWords = [("drawn", TrainedAnswers.Drawn), ("first", TrainedAnswers.First)];

    /// <summary>Optimizer steps of every run.</summary>
    public long Steps { get; init; } = 30_000;

    /// <summary>Examples of one run in one batch.</summary>
    public int BatchSize { get; init; } = 32;

    /// <summary>Batches per optimizer step.</summary>
    public int GradientAccumulation { get; init; } = 1;

    /// <summary>Most examples computed at once, all runs together; 0 computes whole batches.</summary>
    public int MicroBatchSize { get; init; }

    /// <summary>Steps between evaluations on the development split.</summary>
    public int EvalEvery { get; init; } = 1000;

    /// <summary>A run stops after so many evaluations without a better score; 0 never.</summary>
    public int Patience { get; init; }

    /// <summary>Steps between checkpoints; 0 writes one at every evaluation.</summary>
    public int CheckpointEvery { get; init; }

    /// <summary>Steps between lines of log.jsonl and TensorBoard points.</summary>
    public int LogEvery { get; init; } = 1;

    /// <summary>The first seed.</summary>
    public int Seed { get; init; } = 42;

    /// <summary>Seeds of every task, trained side by side: seed, seed + 1, ...</summary>
    public int Runs { get; init; } = 1;

    /// <summary>Most tokens of an input, end mark included, prompt not; longer ones are cut.</summary>
    public int MaxSourceLength { get; init; } = 512;

    /// <summary>Most tokens of a target, end mark included; longer ones are cut.</summary>
    public int MaxTargetLength { get; init; } = 128;

    /// <summary>Batches of examples of similar length.</summary>
    public bool LengthBuckets { get; init; } = true;

    /// <summary>What the target is where an example has several gold answers.</summary>
    public TrainedAnswers Answers { get; init; } = TrainedAnswers.Drawn;

    internal TrainingConfig Visit(OptionVisitor v) => new()
    {
        Steps = v.Integer("steps", Steps, 1, long.MaxValue, "Optimizer steps of every run."),
        BatchSize = v.Int("batch_size", BatchSize, 1, "Examples of one run in one batch."),
        GradientAccumulation = v.Int("gradient_accumulation", GradientAccumulation, 1, "Batches per optimizer step."),
        MicroBatchSize = v.Int("micro_batch_size", MicroBatchSize, 0, "Most examples computed at once, all runs together; 0 computes whole batches.", Affects.Rounding),
        EvalEvery = v.Int("eval_every", EvalEvery, 1, "Steps between evaluations on the development split."),
        Patience = v.Int("patience", Patience, 0, "A run stops after so many evaluations without a better score; 0 never."),
        CheckpointEvery = v.Int("checkpoint_every", CheckpointEvery, 0, "Steps between checkpoints; 0 writes one at every evaluation.", Affects.Nothing),
        LogEvery = v.Int("log_every", LogEvery, 1, "Steps between lines of log.jsonl and TensorBoard points.", Affects.Nothing),
        Seed = v.Int("seed", Seed, 0, "The first seed."),
        Runs = v.Int("runs", Runs, 1, "Seeds of every task, trained side by side: seed, seed + 1, ..."),
        MaxSourceLength = v.Int("max_source_length", MaxSourceLength, 1, "Most tokens of an input, end mark included, prompt not; longer ones are cut."),
        MaxTargetLength = v.Int("max_target_length", MaxTargetLength, 1, "Most tokens of a target, end mark included; longer ones are cut."),
        LengthBuckets = v.Switch("length_buckets", LengthBuckets, "Batches of examples of similar length."),
        Answers = v.Choice("answers", Answers, AnswerWords, "Where an example has several gold answers: one drawn whenever it is met, or the first."),
    };

    internal void Validate()
    {
        if ((long)Seed + Runs - 1 > int.MaxValue)
            throw new ArgumentException($"training.seed is {Seed} with {Runs} runs, expected the last seed, {(long)Seed + Runs - 1}, to be at most {int.MaxValue}.");
    }
}

/// <summary>Options of the loss.</summary>
public sealed record LossConfig
{
    private static readonly (string, LossReduction)[] Reductions = [("mean", LossReduction.Mean), ("sum", LossReduction.Sum)];

    /// <summary>Share of the target that is spread over the vocabulary.</summary>
    public double LabelSmoothing { get; init; }

    /// <summary>Weight of the squared log of the normaliser.</summary>
    public double ZLoss { get; init; } = 1e-4;

    /// <summary>How token losses become one.</summary>
    public LossReduction Reduction { get; init; } = LossReduction.Mean;

    internal LossConfig Visit(OptionVisitor v) => new()
    {
        LabelSmoothing = v.Number("label_smoothing", LabelSmoothing, NumberRange.UpToBelow(0, 1), "Share of the target that is spread over the vocabulary."),
        ZLoss = v.Number("z_loss", ZLoss, NumberRange.AtLeast(0), "Weight of the squared log of the normaliser."),
        Reduction = v.Choice("reduction", Reduction, Reductions, "How a run's token losses become one."),
    };
}

/// <summary>Options of the evaluation.</summary>
public sealed record EvaluationConfig
{
    /// <summary>Examples computed together; 0 lets the program choose.</summary>
    public int BatchSize { get; init; }

    /// <summary>Most tokens to generate; 0 takes the longest gold answer's and four more.</summary>
    public int MaxLength { get; init; }

    /// <summary>Score the test split with each best prompt at the end.</summary>
    public bool Test { get; init; } = true;

    /// <summary>Score the model without a prompt, with and without the task's prefix, and the majority label, for comparison.</summary>
    public bool Baselines { get; init; } = true;

    internal EvaluationConfig Visit(OptionVisitor v) => new()
    {
        BatchSize = v.Int("batch_size", BatchSize, 0, "Examples computed together; 0 lets the program choose.", Affects.Rounding),
        MaxLength = v.Int("max_length", MaxLength, 0, "Most tokens to generate; 0 takes the longest gold answer's and four more."),
        Test = v.Switch("test", Test, "Score the test split with each best prompt at the end.", Affects.Nothing),
        Baselines = v.Switch("baselines", Baselines, "Score the untuned model, with and without prefix, and the majority label, for comparison.", Affects.Nothing),
    };
}
