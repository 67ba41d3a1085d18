// A task ready to be trained and scored: splits, labels, metrics, and what is odd about them. Deliberately no token ids: the tokenizer lives with the model.
using IptNative.Tasks.Metrics;
using IptNative.Tasks.Sampling;

namespace IptNative.Tasks.Data;

/// <summary>The examples of one task, from CrossFit's files, .tsv, .jsonl through templates or a casting, or a K-shot sample of full files.</summary>
public sealed class TaskData
{
    // Free answers rarely repeat; labels do, in the smallest sample that training makes sense on.
    private const int LeastExamplesPerLabel = 2;

    private TaskData(TaskSource source)
    {
        var files = new TaskFiles(source);
        var notes = new List<string>();
        Name = files.Name;
        if (files.NameInData is { } other && other != Name)
            notes.Add($"{Name}: the files in its folder are of a task named {other}; they are taken.");
        Files = files.Files;
        (Train, Dev, Test) = (files.Read("train"), files.Read("dev"), files.Read("test"));
        Metrics = FindMetrics(source, files);
        IsClassification = source.IsClassification ?? (source.Labels.Count > 0 ? true : files.Metadata?.IsClassification ?? (files.UsedCasting is { } casting ? casting.Labels.Count > 0 : Guess(notes)));
        if (files.NeedsSampling) Sample(files, notes);
        Labels = FindLabels(source, files);
        UnseenLabels = IsClassification && Train.Count > 0 ? LabelStatistics.Unseen(Train, [.. Dev, .. Test]) : [];
        if (UnseenLabels.Count > 0)
            notes.Add($"{Name}: {UnseenLabels.Count} of the labels in dev or test never occur in training ({Some(UnseenLabels)}); no prompt can learn them, their examples count as they are.");
        if (IsClassification && Labels.Count > 0 && Train.Select(e => e.Target).Distinct(StringComparer.Ordinal).Except(Labels, StringComparer.Ordinal).ToList() is { Count: > 0 } strange)
            notes.Add($"{Name}: {strange.Count} answers of the training split are none of its labels ({Some(strange)}).");
        Notes = notes;
    }

    /// <summary>Task name.</summary>
    public string Name { get; }

    /// <summary>Training examples; empty where there is no such split.</summary>
    public IReadOnlyList<TaskExample> Train { get; private set; }

    /// <summary>Development examples; empty where there is no such split.</summary>
    public IReadOnlyList<TaskExample> Dev { get; private set; }

    /// <summary>Test examples; empty where there is no such split.</summary>
    public IReadOnlyList<TaskExample> Test { get; private set; }

    /// <summary>Whether answers are labels. Where nobody says, counted: each answer of the training split occurs twice or more on average.</summary>
    public bool IsClassification { get; }

    /// <summary>Labels in class order: as declared, else those of the training split in order of occurrence. Empty for tasks with free answers.</summary>
    public IReadOnlyList<string> Labels { get; }

    /// <summary>Metric names, at least one; their mean selects the checkpoint.</summary>
    public IReadOnlyList<string> Metrics { get; }

    /// <summary>Labels that occur in dev or test but not in training; empty for tasks with free answers.</summary>
    public IReadOnlyList<string> UnseenLabels { get; }

    /// <summary>What a user should know about the data, a sentence each: for a command to print.</summary>
    public IReadOnlyList<string> Notes { get; }

    /// <summary>Files that the examples came from.</summary>
    public IReadOnlyList<string> Files { get; }

    /// <summary>Finds and reads a task.</summary>
    /// <param name="source">Where it is and what is known of it.</param>
    /// <returns>The task.</returns>
    /// <exception cref="ArgumentException">The source contradicts itself, or names an unknown metric or casting; or the data are too few for the sample.</exception>
    /// <exception cref="InvalidDataException">A file is malformed or ambiguous, or no metric is known.</exception>
    /// <exception cref="IOException">There are no such files, or one cannot be read.</exception>
    public static TaskData Load(TaskSource source)
    {
        ArgumentNullException.ThrowIfNull(source);
        return new TaskData(source);
    }

    /// <summary>A split by name, which must not be empty.</summary>
    /// <param name="split">train, dev or test.</param>
    /// <returns>At least one example.</returns>
    /// <exception cref="ArgumentException">There is no split of that name.</exception>
    /// <exception cref="InvalidDataException">The task has no examples for it.</exception>
    public IReadOnlyList<TaskExample> Require(string split)
    {
        IReadOnlyList<TaskExample> examples = split switch
        {
            "train" => Train,
            "dev" => Dev,
            "test" => Test,
            _ => throw new ArgumentException($"Split \"{split}\" is unknown; expected train, dev or test.", nameof(split)),
        };
        return examples.Count > 0
            ? examples
            : throw new InvalidDataException($"Task {Name}: found 0 {split} examples (train {Train.Count}, dev {Dev.Count}, test {Test.Count}; read {string.Join(", ", Files)}); expected at least 1. Name a file for the split, or ask for K shots of a full training file.");
    }

    private static IReadOnlyList<string> FindMetrics(TaskSource source, TaskFiles files)
    {
        if (source.Metrics.Count > 0) return [.. source.Metrics.Select(m => Metric.Get(m).Name)];
        if (files.Metadata is { } gym) return [Metric.Get(gym.Metric).Name];
        if (files.UsedCasting is { } casting) return casting.Metrics;
        throw new InvalidDataException($"Task {files.Name}: no metric is known (there is no gym.json with the task beside its files); expected one or more of {string.Join(", ", Metric.Names)}. Name one.");
    }

    private IReadOnlyList<string> FindLabels(TaskSource source, TaskFiles files)
    {
        if (!IsClassification) return [];
        if (source.Labels.Count > 0) return source.Labels;
        if (files.Metadata is { Labels.Count: > 0 } gym) return gym.Labels;
        return files.UsedCasting is { Labels.Count: > 0 } casting ? casting.Labels : [.. Train.Select(e => e.Target).Distinct(StringComparer.Ordinal)];
    }

    private bool Guess(List<string> notes)
    {
        int labels = Train.Select(e => e.Target).Distinct(StringComparer.Ordinal).Count();
        bool isClassification = labels > 0 && Train.Count >= LeastExamplesPerLabel * labels;
        if (Train.Count > 0) notes.Add($"{Name}: nothing says whether its answers are labels; {labels} different ones in {Train.Count} training examples: taken for {(isClassification ? "labels" : "free text")}.");
        return isClassification;
    }

    private void Sample(TaskFiles files, List<string> notes)
    {
        FewShotSample sample = files.Sample(Require("train"), IsClassification);
        // CrossFit tests on what the data set calls validation, because many test sets have no answers.
        if (Test.Count == 0 && Dev.Count > 0)
        {
            notes.Add($"{Name}: there is no test file; the development file's {Dev.Count} examples are the test split, the sample's own are for development (as in CrossFit).");
            Test = Dev;
        }
        (Train, Dev) = (sample.Train, sample.Dev);
    }

    private static string Some(IReadOnlyList<string> texts) => string.Join(", ", texts.Take(5)) + (texts.Count > 5 ? ", ..." : "");
}
