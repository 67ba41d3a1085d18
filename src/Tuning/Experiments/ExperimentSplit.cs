// Which tasks train the subspace and which are held out; what of the paper's partition is there. Deliberately not the data: ExperimentData.
using System.Text.Json;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Experiments;

/// <summary>A part of a partition and what of it there is data for.</summary>
/// <param name="Name">"train", "test", "test_cls", "test_noncls".</param>
/// <param name="Present">Tasks with data, in the partition's order.</param>
/// <param name="Missing">The others, each with the reason.</param>
public sealed record SplitPart(string Name, IReadOnlyList<string> Present, IReadOnlyList<KeyValuePair<string, string>> Missing)
{
    /// <summary>Tasks that the partition names.</summary>
    public int Wanted => Present.Count + Missing.Count;
}

/// <summary>A resolved partition.</summary>
/// <param name="Name">random, cls, non-cls or explicit.</param>
/// <param name="Parts">Coverage, part by part. For an explicit split: of the paper's random one, for orientation.</param>
/// <param name="Train">Training tasks with data.</param>
/// <param name="Test">Held-out tasks with data.</param>
/// <param name="InType">Held-out tasks of the training tasks' type; empty where the training tasks are mixed.</param>
/// <param name="OutOfType">Held-out tasks of the other type; empty where the training tasks are mixed.</param>
public sealed record ExperimentSplit(string Name, IReadOnlyList<SplitPart> Parts, IReadOnlyList<string> Train, IReadOnlyList<string> Test, IReadOnlyList<string> InType, IReadOnlyList<string> OutOfType)
{
    private const string Resource = "IptNative.Tuning.Experiments.ipt_splits.json";
    private const int LeastTrainingTasks = 2;

    /// <summary>Matches a split with the data that there is.</summary>
    /// <param name="section">The split.</param>
    /// <param name="data">The tasks.</param>
    /// <param name="draw">The draw that a task must have.</param>
    /// <returns>The tasks, and what is missing.</returns>
    /// <exception cref="InvalidDataException">A task of an explicit split has no data, or fewer than two training tasks are left.</exception>
    public static ExperimentSplit Resolve(SplitSection section, ExperimentData data, int draw)
    {
        ArgumentNullException.ThrowIfNull(section);
        ArgumentNullException.ThrowIfNull(data);
        ExperimentSplit split = section.Name == SplitName.Explicit ? Explicit(section, data, draw) : Paper(section.Word, data, draw);
        if (split.Train.Count < LeastTrainingTasks)
        {
            string missing = string.Join(", ", split.Parts.Where(p => p.Name == "train").SelectMany(p => p.Missing).Take(5).Select(m => $"{m.Key}: {m.Value}"));
            throw new InvalidDataException($"Split {split.Name}: found {split.Train.Count} training tasks with data, expected at least {LeastTrainingTasks}: a subspace is what tasks share.{(missing.Length > 0 ? $" Missing are, among others, {missing}." : "")}");
        }
        return split;
    }

    private static ExperimentSplit Explicit(SplitSection section, ExperimentData data, int draw)
    {
        foreach (string task in section.Train.Concat(section.Test))
        {
            if (data.WhyMissing(task, draw) is { } why)
                throw new InvalidDataException($"Split: task \"{task}\" cannot be used ({why}){(data.Names.Contains(task) ? "" : $"; the nearest is '{NearestName.Of(data.Names, task)}'")}. Copy its files to the data folder, or take it out of the split.");
        }
        // Covered is what the experiment uses, not what lies in the folder.
        HashSet<string> used = [.. section.Train, .. section.Test];
        SplitPart[] parts = [.. Partition("random").Where(p => p.Key is "train" or "test")
            .Select(p => new SplitPart($"the paper's random {p.Key}", [.. p.Value.Where(used.Contains)], [.. p.Value.Where(t => !used.Contains(t)).Select(t => KeyValuePair.Create(t, data.WhyMissing(t, draw) ?? "not in the experiment"))]))];
        bool[] types = [.. section.Train.Select(t => data.Task(t).IsClassification).Distinct()];
        string[] Of(bool same) => types.Length == 1 ? [.. section.Test.Where(t => (data.Task(t).IsClassification == types[0]) == same)] : [];
        return new ExperimentSplit("explicit", parts, section.Train, section.Test, Of(true), Of(false));
    }

    private static ExperimentSplit Paper(string name, ExperimentData data, int draw)
    {
        string key = name == "non-cls" ? "noncls" : name;
        SplitPart[] parts = [.. Partition(key).Where(p => p.Key != "all").Select(p => Part(p.Key, p.Value, data, draw))];
        IReadOnlyList<string> Of(string part) => parts.FirstOrDefault(p => p.Name == part)?.Present ?? [];
        return key == "random"
            ? new ExperimentSplit(name, parts, Of("train"), Of("test"), [], [])
            : new ExperimentSplit(name, parts, Of("train"), [.. Of("test_cls"), .. Of("test_noncls")], Of($"test_{key}"), Of(key == "cls" ? "test_noncls" : "test_cls"));
    }

    private static SplitPart Part(string name, IReadOnlyList<string> tasks, ExperimentData data, int draw)
    {
        ILookup<bool, KeyValuePair<string, string?>> found = tasks.Select(t => KeyValuePair.Create(t, data.WhyMissing(t, draw))).ToLookup(t => t.Value is null);
        return new SplitPart(name, [.. found[true].Select(t => t.Key)], [.. found[false].Select(t => KeyValuePair.Create(t.Key, t.Value ?? ""))]);
    }

    /// <summary>The paper's own lists, as its repository has them (thunlp/Intrinsic-Prompt-Tuning, task splits).</summary>
    private static List<KeyValuePair<string, string[]>> Partition(string name)
    {
        using Stream stream = typeof(ExperimentSplit).Assembly.GetManifestResourceStream(Resource) ?? throw new InvalidOperationException($"{Resource} is not in the assembly.");
        using JsonDocument document = JsonDocument.Parse(stream);
        return [.. document.RootElement.GetProperty(name).EnumerateObject().Select(p => KeyValuePair.Create(p.Name, p.Value.EnumerateArray().Select(t => t.GetString() ?? "").ToArray()))];
    }
}
