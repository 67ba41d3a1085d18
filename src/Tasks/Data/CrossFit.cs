// The files of the CrossFit few-shot gym: "<task>_<k>_<seed>_<split>.tsv". Deliberately not how they are drawn from a full file: see FewShotSampler.
using System.Globalization;
using System.Text.RegularExpressions;

namespace IptNative.Tasks.Data;

/// <summary>What the name of a CrossFit file says.</summary>
/// <param name="Task">Task name; may hold underscores.</param>
/// <param name="K">Shots: per label for classification, in all otherwise.</param>
/// <param name="Seed">Seed of the sample.</param>
/// <param name="Split">train, dev or test.</param>
public sealed record CrossFitFileName(string Task, int K, int Seed, string Split)
{
    /// <summary>Parses a file name.</summary>
    /// <param name="path">The file; only its name counts.</param>
    /// <returns>The parts, or null where the name is none of CrossFit's.</returns>
    public static CrossFitFileName? Parse(string path)
    {
        Match m = Regex.Match(Path.GetFileName(path), @"^(.+)_([0-9]{1,9})_([0-9]{1,9})_(train|dev|test)\.tsv$", RegexOptions.CultureInvariant);
        return m.Success
            ? new CrossFitFileName(m.Groups[1].Value, int.Parse(m.Groups[2].Value, CultureInfo.InvariantCulture), int.Parse(m.Groups[3].Value, CultureInfo.InvariantCulture), m.Groups[4].Value)
            : null;
    }

    /// <summary>The file name of these parts.</summary>
    /// <returns>"task_k_seed_split.tsv".</returns>
    public override string ToString() => $"{Task}_{K}_{Seed}_{Split}.tsv";
}

/// <summary>A task folder's three splits.</summary>
/// <param name="Name">Task name.</param>
/// <param name="Train">Training examples.</param>
/// <param name="Dev">Development examples.</param>
/// <param name="Test">Test examples.</param>
public sealed record CrossFitTask(string Name, IReadOnlyList<TaskExample> Train, IReadOnlyList<TaskExample> Dev, IReadOnlyList<TaskExample> Test)
{
    /// <summary>Reads the K-shot sample of one seed; the test split may exist once for all seeds.</summary>
    /// <param name="folder">Folder of one task.</param>
    /// <param name="seed">Seed in the files' names.</param>
    /// <returns>The splits.</returns>
    /// <exception cref="InvalidDataException">A split is missing, or ambiguous, or a file is malformed.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static CrossFitTask Load(string folder, int seed)
    {
        string train = Find(folder, "train", seed);
        return new CrossFitTask(CrossFitFileName.Parse(train)!.Task, CrossFitReader.Read(train), CrossFitReader.Read(Find(folder, "dev", seed)), CrossFitReader.Read(Find(folder, "test", seed))); // Find gives parsed names
    }

    /// <summary>The task that a folder's files are of: the wanted one where it is there, else the only one; null where there is neither.</summary>
    internal static string? TaskIn(string folder, string wanted)
    {
        string[] tasks = [.. Names(folder).Select(f => f.Name.Task).Distinct(StringComparer.Ordinal)];
        return tasks.Contains(wanted) ? wanted : tasks is [string only] ? only : null;
    }

    /// <summary>The one file of a split.</summary>
    internal static string Find(string folder, string split, int seed, string? task = null, int? k = null)
    {
        List<(string Path, CrossFitFileName Name)> files = Names(folder);
        if (files.Count == 0) throw new InvalidDataException($"{folder}: no file is named <task>_<k>_<seed>_<train|dev|test>.tsv; expected a CrossFit task folder.");
        var ofSplit = files.Where(f => f.Name.Split == split && (task is null || f.Name.Task == task)).ToList();
        var wanted = ofSplit.Where(f => k is null || f.Name.K == k).ToList();
        var ofSeed = wanted.Where(f => f.Name.Seed == seed).ToList();
        if (ofSeed.Count == 0 && split == "test") ofSeed = wanted;
        if (ofSeed.Count == 1) return ofSeed[0].Path;
        string have = string.Join(", ", ofSplit.Select(f => f.Name.ToString()));
        throw new InvalidDataException($"{folder}: {ofSeed.Count} files for split {split} of seed {seed}{(k is null ? "" : $" and {k} shots")}; expected 1. There are: {(have.Length == 0 ? "none" : have)}. Choose another seed{(k is null ? "" : " or number of shots")}, or one task per folder.");
    }

    private static List<(string Path, CrossFitFileName Name)> Names(string folder) =>
        [.. Directory.GetFiles(folder, "*.tsv").Order(StringComparer.Ordinal).SelectMany(f => CrossFitFileName.Parse(f) is { } name ? [(f, name)] : Array.Empty<(string, CrossFitFileName)>())];
}

/// <summary>Reads "input TAB answer [TAB answer ...]" lines.</summary>
public static class CrossFitReader
{
    /// <summary>Reads a file. Lines end in '\n' only; a stray '\r' or U+2028 within one is text. White space around a line is dropped, as CrossFit does.</summary>
    /// <param name="path">The file.</param>
    /// <returns>At least one example.</returns>
    /// <exception cref="InvalidDataException">The file is empty, no UTF-8, has Windows line ends, or a line has no tab or an empty field.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static List<TaskExample> Read(string path)
    {
        List<string> lines = TextFile.ReadLines(path);
        var examples = new List<TaskExample>(lines.Count);
        for (int i = 0; i < lines.Count; i++)
        {
            string[] fields = lines[i].Split('\t');
            if (fields.Length < 2)
                throw new InvalidDataException($"{path}, line {i + 1}: no tab in \"{Shorten(lines[i])}\"; expected input TAB answer [TAB answer ...]. Separate input and answer by a tab.");
            fields[0] = fields[0].TrimStart();
            fields[^1] = fields[^1].TrimEnd();
            int empty = Array.FindIndex(fields, string.IsNullOrWhiteSpace);
            if (empty >= 0)
                throw new InvalidDataException($"{path}, line {i + 1}: {(empty == 0 ? "the input" : $"answer {empty}")} is empty; expected text in each of the {fields.Length} fields. Fill or delete it.");
            examples.Add(new TaskExample(fields[0], fields[1..]));
        }
        return examples;
    }

    private static string Shorten(string line) => line.Length <= 60 ? line : string.Concat(line.AsSpan(0, 60), "...");
}
