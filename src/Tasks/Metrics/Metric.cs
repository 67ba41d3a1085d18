// The metrics by name. Deliberately every quirk has its own name: a figure must say which formula it is.
using IptNative.Tasks.Data;

namespace IptNative.Tasks.Metrics;

/// <summary>A score of predictions against examples, in [0, 1] or [-1, 1] (correlations); higher is better.</summary>
/// <remarks>
/// Predictions are stripped of white space around them first. Names in brackets are CrossFit's and taken, too.
/// Of CrossFit's dataloader/metrics.py:
/// acc [ACC]: equal but for case, to any gold answer. em [EM], qa_f1 [QA-F1]: SQuAD's exact match and token F1 after its normalisation, best gold answer.
/// classification_f1 [Classification-F1]: macro F1 over the raw texts, first gold answer; every illegal text is a class of its own with F1 0, so one
/// stray prediction among two labels costs a third of the score. rouge_l [Rouge-L]: F of the package rouge 1.0.0, best gold answer, 0 for a prediction
/// of punctuation only. pearson [Pearson-Correlation]: NaN as soon as one prediction is no number. matthews [Matthew-Correlation]: "acceptable" against
/// everything else.
/// The sane counterparts: classification_f1_known counts the known labels only (an illegal prediction is a miss; T5's mean_multiclass_f1);
/// pearson_invalid_minus1 and spearman read what is no number as -1, as T5 does.
/// Of T5: label_accuracy: the very label. f1_invalid_wrong: F1 of the second label, an illegal prediction counted as the wrong one. multirc_f1: the same
/// over all answers; multirc_em: share of questions with all answers right. record_em, record_f1: em and qa_f1 on the first example of each group.
/// wsc_accuracy: whether the predicted referent is the one asked about, by words, equals the example's class.
/// Differs from T5: fractions instead of percentages.
/// </remarks>
public sealed class Metric
{
    private static readonly Dictionary<string, Metric> Registry = new Metric[]
    {
        PerExample("acc", (p, g) => string.Equals(p.ToLowerInvariant(), g.ToLowerInvariant(), StringComparison.Ordinal) ? 1 : 0),
        PerExample("em", (p, g) => AnswerText.Normalise(p) == AnswerText.Normalise(g) ? 1 : 0),
        PerExample("qa_f1", (p, g) => Scores.TokenF1(AnswerText.Normalise(p), AnswerText.Normalise(g))),
        PerExample("rouge_l", (p, g) => p.All(AnswerText.IsPunctuation) ? 0 : RougeL.Score(p, g)),
        new("classification_f1", (p, e, _) => { List<string> gold = Targets(e); return Scores.MacroF1(gold, p, gold.Union(p).ToHashSet(StringComparer.Ordinal)); }),
        new("classification_f1_known", (p, e, labels) => Scores.MacroF1(Targets(e), p, Known(labels, "classification_f1_known", 1))),
        new("label_accuracy", (p, e, _) => Enumerable.Range(0, p.Count).Average(i => p[i] == e[i].Target ? 1.0 : 0)),
        new("f1_invalid_wrong", (p, e, labels) => F1InvalidWrong(p, e, Known(labels, "f1_invalid_wrong", 2))),
        new("pearson", (p, e, _) => Scores.Pearson(GoldNumbers(e), [.. p.Select(AnswerText.Number)])),
        new("pearson_invalid_minus1", (p, e, _) => Scores.Pearson(GoldNumbers(e), NumbersOrMinus1(p))),
        new("spearman", (p, e, _) => Scores.Pearson(Scores.Ranks(GoldNumbers(e)), Scores.Ranks(NumbersOrMinus1(p)))),
        new("matthews", (p, e, _) => Scores.Matthews([.. e.Select(x => x.Target == "acceptable")], [.. p.Select(x => x == "acceptable")])),
        new("multirc_f1", (p, e, labels) => F1InvalidWrong(p, e, Known(labels, "multirc_f1", 2))),
        new("multirc_em", (p, e, _) => Enumerable.Range(0, p.Count).GroupBy(i => Group(e[i]), StringComparer.Ordinal).Average(g => g.All(i => p[i] == e[i].Target) ? 1.0 : 0)),
        new("record_em", (p, e, labels) => FirstOfGroup("em", p, e, labels)),
        new("record_f1", (p, e, labels) => FirstOfGroup("qa_f1", p, e, labels)),
        new("wsc_accuracy", (p, e, _) => Enumerable.Range(0, p.Count).Average(i => WscReferent.Matches(p[i], e[i].Target) == (e[i].IsPositive ?? true) ? 1.0 : 0)),
    }.ToDictionary(m => m.Name, StringComparer.Ordinal);

    private static readonly Dictionary<string, string> CrossFitNames = new(StringComparer.Ordinal)
    {
        ["ACC"] = "acc",
        ["EM"] = "em",
        ["QA-F1"] = "qa_f1",
        ["Rouge-L"] = "rouge_l",
        ["Classification-F1"] = "classification_f1",
        ["Pearson-Correlation"] = "pearson",
        ["Matthew-Correlation"] = "matthews",
    };

    private readonly Func<IReadOnlyList<string>, IReadOnlyList<TaskExample>, IReadOnlyList<string>, double> _score;

    private Metric(string name, Func<IReadOnlyList<string>, IReadOnlyList<TaskExample>, IReadOnlyList<string>, double> score)
    {
        Name = name;
        _score = score;
    }

    /// <summary>All names, without CrossFit's spellings.</summary>
    public static IReadOnlyCollection<string> Names => Registry.Keys;

    /// <summary>Name.</summary>
    public string Name { get; }

    /// <summary>Whether <see cref="Get"/> knows a name.</summary>
    /// <param name="name">A name, CrossFit's spellings included.</param>
    /// <returns>True if so.</returns>
    public static bool IsKnown(string name) => Registry.ContainsKey(CrossFitNames.GetValueOrDefault(name, name));

    /// <summary>Finds a metric.</summary>
    /// <param name="name">A name, CrossFit's spellings included.</param>
    /// <returns>The metric.</returns>
    /// <exception cref="ArgumentException">There is none of that name.</exception>
    public static Metric Get(string name) => Registry.TryGetValue(CrossFitNames.GetValueOrDefault(name, name), out Metric? metric)
        ? metric
        : throw new ArgumentException($"Metric \"{name}\" is unknown; expected one of {string.Join(", ", Names)}, or CrossFit's {string.Join(", ", CrossFitNames.Keys)}.", nameof(name));

    /// <summary>Scores predictions.</summary>
    /// <param name="predictions">One text per example.</param>
    /// <param name="examples">The examples, in the same order.</param>
    /// <param name="labels">Known labels in class order, for the metrics that need them; empty otherwise.</param>
    /// <returns>The score; NaN where the formula has none.</returns>
    /// <exception cref="ArgumentException">The lists differ in length or are empty, or labels are missing.</exception>
    /// <exception cref="InvalidDataException">A gold answer is not what the metric needs (a number, a group, a sentence).</exception>
    public double Score(IReadOnlyList<string> predictions, IReadOnlyList<TaskExample> examples, IReadOnlyList<string> labels)
    {
        ArgumentNullException.ThrowIfNull(predictions);
        ArgumentNullException.ThrowIfNull(examples);
        ArgumentNullException.ThrowIfNull(labels);
        if (predictions.Count != examples.Count || examples.Count == 0)
            throw new ArgumentException($"Metric {Name}: {predictions.Count} predictions for {examples.Count} examples; expected as many, and at least 1.", nameof(predictions));
        return _score([.. predictions.Select(AnswerText.Strip)], examples, labels);
    }

    /// <summary>Arithmetic mean of several metrics: what selects a checkpoint where a task has more than one (Lester et al. 2021).</summary>
    /// <param name="metrics">Metric names, at least one.</param>
    /// <param name="predictions">One text per example.</param>
    /// <param name="examples">The examples.</param>
    /// <param name="labels">Known labels.</param>
    /// <returns>Each score by name, in order, and their mean.</returns>
    /// <exception cref="ArgumentException">As <see cref="Get"/> and <see cref="Score"/>, or no name was given.</exception>
    public static (IReadOnlyList<KeyValuePair<string, double>> Scores, double Mean) ScoreAll(
        IReadOnlyList<string> metrics, IReadOnlyList<string> predictions, IReadOnlyList<TaskExample> examples, IReadOnlyList<string> labels)
    {
        ArgumentNullException.ThrowIfNull(metrics);
        if (metrics.Count == 0) throw new ArgumentException("Scoring: no metric was named; expected at least one.", nameof(metrics));
        List<KeyValuePair<string, double>> scores = [.. metrics.Select(Get).Select(m => KeyValuePair.Create(m.Name, m.Score(predictions, examples, labels)))];
        return (scores, scores.Average(s => s.Value));
    }

    private static Metric PerExample(string name, Func<string, string, double> score) =>
        new(name, (p, e, _) => Enumerable.Range(0, p.Count).Average(i => e[i].Answers.Max(answer => score(p[i], answer))));

    private static List<string> Targets(IReadOnlyList<TaskExample> examples) => [.. examples.Select(e => e.Target)];

    private static IReadOnlyList<string> Known(IReadOnlyList<string> labels, string metric, int least) => labels.Count >= least
        ? labels
        : throw new ArgumentException($"Metric {metric}: {labels.Count} labels are known; expected at least {least}. Name the task's labels.", nameof(labels));

    private static double F1InvalidWrong(IReadOnlyList<string> p, IReadOnlyList<TaskExample> e, IReadOnlyList<string> labels) =>
        Scores.BinaryF1(p.Count, i => e[i].Target == labels[1], i => p[i] == labels[1] || (p[i] != labels[0] && e[i].Target != labels[1]));

    private static double[] GoldNumbers(IReadOnlyList<TaskExample> examples) => [.. examples.Select(e =>
    {
        double number = AnswerText.Number(e.Target);
        return double.IsFinite(number) ? number : throw new InvalidDataException($"Correlation: the gold answer \"{e.Target}\" is no number; expected one. Choose another metric for this task.");
    })];

    private static double[] NumbersOrMinus1(IReadOnlyList<string> predictions) =>
        [.. predictions.Select(AnswerText.Number).Select(n => double.IsNaN(n) ? -1 : n)];

    private static string Group(TaskExample example) =>
        example.Group ?? throw new InvalidDataException($"Grouped metric: the example \"{example.Input[..Math.Min(40, example.Input.Length)]}\" has no group; expected the question or passage it belongs to.");

    private static double FirstOfGroup(string metric, IReadOnlyList<string> p, IReadOnlyList<TaskExample> e, IReadOnlyList<string> labels)
    {
        int[] first = [.. Enumerable.Range(0, p.Count).DistinctBy(i => Group(e[i]), StringComparer.Ordinal)];
        return Get(metric).Score([.. first.Select(i => p[i])], [.. first.Select(i => e[i])], labels);
    }
}
