// What a tuned prompt has to beat. Deliberately not: fine-tuning or few-shot baselines, which this program does not run.
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Data;
using IptNative.Tasks.Metrics;
using IptNative.Tuning.Data;

namespace IptNative.Tuning.Evaluation;

/// <summary>Scores without any tuning, all by the task's metrics.</summary>
/// <param name="Majority">Always the commonest answer of the scored split itself: a K-shot training split has as many of each label, so it could not say which.</param>
/// <param name="MajorityAnswer">That answer.</param>
/// <param name="Untuned">The frozen model on the inputs alone.</param>
/// <param name="UntunedWithPrefix">The frozen model on "[task] " and the inputs: what multi-task pre-training taught it to recognise.</param>
public sealed record Baselines(double Majority, string MajorityAnswer, EvaluationResult Untuned, EvaluationResult UntunedWithPrefix)
{
    /// <summary>The better of the majority answer and the untuned model without a prefix.</summary>
    public double Best => Math.Max(Majority, Untuned.Score);

    /// <summary>Measures the baselines on a split; both untuned evaluations share their batches.</summary>
    /// <param name="evaluator">The model.</param>
    /// <param name="tokenizer">Its tokenizer.</param>
    /// <param name="data">The task.</param>
    /// <param name="split">dev or test.</param>
    /// <param name="encoding">How text is encoded; its task prefix is of no matter here.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="limit">Scores only the first examples; null for all.</param>
    /// <param name="progress">As <see cref="Evaluator.Evaluate"/>.</param>
    /// <param name="cancel">Ends the work between two tokens.</param>
    /// <returns>The scores.</returns>
    /// <exception cref="ArgumentException">As <see cref="Evaluator.Evaluate"/>.</exception>
    /// <exception cref="InvalidDataException">The split is empty, or as <see cref="Evaluator.Evaluate"/>.</exception>
    public static Baselines Measure(Evaluator evaluator, T5Tokenizer tokenizer, TaskData data, string split, EncodingOptions encoding, EvaluationOptions? options = null, int? limit = null, Action<int, int>? progress = null, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(evaluator);
        ArgumentNullException.ThrowIfNull(data);
        ArgumentNullException.ThrowIfNull(encoding);
        // Without a prompt there is nothing to fill a template with.
        encoding = encoding with { Template = null };
        EncodedExamples plain = EncodedExamples.Encode(tokenizer, data, split, encoding with { TaskPrefix = false }, limit);
        EncodedExamples prefixed = EncodedExamples.Encode(tokenizer, data, split, encoding with { TaskPrefix = true }, limit);
        IReadOnlyList<EvaluationResult> untuned = evaluator.Evaluate([new(plain), new(prefixed)], null, options, progress, cancel);
        return new Baselines(
            LabelStatistics.MajorityScore(plain.Examples, plain.Examples, data.Metrics, data.Labels),
            LabelStatistics.Majority(plain.Examples),
            untuned[0],
            untuned[1]);
    }
}
