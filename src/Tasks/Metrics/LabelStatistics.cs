// What a classifier that writes text actually wrote: label counts, illegal outputs, and the score of the commonest label. Deliberately no metric.
using IptNative.Tasks.Data;

namespace IptNative.Tasks.Metrics;

/// <summary>Counts of predictions over a label set.</summary>
/// <param name="PerLabel">Predictions of each known label.</param>
/// <param name="Illegal">Predictions that are no known label.</param>
/// <param name="Empty">Of those, empty ones.</param>
/// <param name="CopiedFromInput">Of those, non-empty ones that are a part of their input: the commonest failure of models trained on span corruption.</param>
public sealed record LabelStatistics(IReadOnlyDictionary<string, int> PerLabel, int Illegal, int Empty, int CopiedFromInput)
{
    /// <summary>Counts predictions.</summary>
    /// <param name="predictions">One text per example.</param>
    /// <param name="examples">The examples, in the same order.</param>
    /// <param name="labels">Known labels.</param>
    /// <returns>The counts.</returns>
    /// <exception cref="ArgumentException">The lists differ in length.</exception>
    public static LabelStatistics Count(IReadOnlyList<string> predictions, IReadOnlyList<TaskExample> examples, IReadOnlyList<string> labels)
    {
        ArgumentNullException.ThrowIfNull(predictions);
        ArgumentNullException.ThrowIfNull(examples);
        ArgumentNullException.ThrowIfNull(labels);
        if (predictions.Count != examples.Count) throw new ArgumentException($"Label statistics: {predictions.Count} predictions for {examples.Count} examples; expected as many.", nameof(predictions));
        var perLabel = labels.Distinct(StringComparer.Ordinal).ToDictionary(l => l, _ => 0, StringComparer.Ordinal);
        int illegal = 0;
        int empty = 0;
        int copied = 0;
        for (int i = 0; i < predictions.Count; i++)
        {
            string text = AnswerText.Strip(predictions[i]);
            if (perLabel.TryGetValue(text, out int n))
            {
                perLabel[text] = n + 1;
                continue;
            }
            illegal++;
            if (text.Length == 0) empty++;
            else if (examples[i].Input.Contains(text, StringComparison.Ordinal)) copied++;
        }
        return new LabelStatistics(perLabel, illegal, empty, copied);
    }

    /// <summary>The commonest first answer: what a model that reads nothing would say.</summary>
    /// <param name="examples">At least one example.</param>
    /// <returns>The answer; of equally common ones the first to occur.</returns>
    /// <exception cref="ArgumentException">There are no examples.</exception>
    public static string Majority(IReadOnlyList<TaskExample> examples)
    {
        ArgumentNullException.ThrowIfNull(examples);
        if (examples.Count == 0) throw new ArgumentException("Majority label: 0 examples; expected at least 1.", nameof(examples));
        // GroupBy keeps the order of first occurrence and MaxBy takes the first of equals.
        return examples.GroupBy(e => e.Target, StringComparer.Ordinal).MaxBy(g => g.Count())!.Key; // at least one group
    }

    /// <summary>Score of always answering the commonest label of some examples.</summary>
    /// <param name="source">Where the label is counted.</param>
    /// <param name="scored">What it is scored on.</param>
    /// <param name="metrics">Metric names; the mean is returned.</param>
    /// <param name="labels">Known labels.</param>
    /// <returns>The mean score.</returns>
    /// <exception cref="ArgumentException">As <see cref="Majority"/> and <see cref="Metric.ScoreAll"/>.</exception>
    public static double MajorityScore(IReadOnlyList<TaskExample> source, IReadOnlyList<TaskExample> scored, IReadOnlyList<string> metrics, IReadOnlyList<string> labels)
    {
        ArgumentNullException.ThrowIfNull(scored);
        string label = Majority(source);
        return Metric.ScoreAll(metrics, [.. scored.Select(_ => label)], scored, labels).Mean;
    }

    /// <summary>Labels that occur in evaluation but never in training: no prompt can learn them.</summary>
    /// <param name="train">Training examples.</param>
    /// <param name="evaluated">Development or test examples.</param>
    /// <returns>The first answers never seen, in order of occurrence.</returns>
    public static IReadOnlyList<string> Unseen(IReadOnlyList<TaskExample> train, IReadOnlyList<TaskExample> evaluated)
    {
        var seen = train.SelectMany(e => e.Answers).ToHashSet(StringComparer.Ordinal);
        return [.. evaluated.Select(e => e.Target).Where(t => !seen.Contains(t)).Distinct(StringComparer.Ordinal)];
    }
}
