// An experiment's tasks as its jobs see them: draws joined, test lines cut, fingerprints. Deliberately not tokens.
using System.Security.Cryptography;
using System.Text;
using IptNative.Model.Checkpoints;
using IptNative.Tasks.Data;

namespace IptNative.Tuning.Experiments;

/// <summary>Reads the tasks of a gym folder on demand and keeps them.</summary>
public sealed class ExperimentData
{
    private readonly DataSection _section;
    private readonly Dictionary<string, GymTask> _tasks;
    private readonly Dictionary<TaskSample, CrossFitTask> _loaded = [];
    private readonly Dictionary<TaskSample, string> _fingerprints = [];

    private ExperimentData(DataSection section, Dictionary<string, GymTask> tasks) => (_section, _tasks) = (section, tasks);

    /// <summary>Names of all tasks that gym.json describes.</summary>
    public IReadOnlyCollection<string> Names => _tasks.Keys;

    /// <summary>Reads gym.json; examples are read when they are asked for.</summary>
    /// <param name="section">Folder, draws and lines.</param>
    /// <returns>The data.</returns>
    /// <exception cref="InvalidDataException">gym.json is missing or malformed.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static ExperimentData Open(DataSection section)
    {
        ArgumentNullException.ThrowIfNull(section);
        string path = Path.Combine(section.Folder, "gym.json");
        if (!File.Exists(path)) throw new InvalidDataException($"{section.Folder}: reading an experiment's tasks; there is no gym.json. \"data.folder\" names a folder with gym.json and a folder per task.");
        return new ExperimentData(section, GymMetadata.Load(path).ToDictionary(t => t.Name, StringComparer.Ordinal));
    }

    /// <summary>What gym.json says of a task.</summary>
    /// <param name="name">Task name.</param>
    /// <returns>Type, K, labels, metric.</returns>
    /// <exception cref="InvalidDataException">gym.json has no such task.</exception>
    public GymTask Task(string name) => _tasks.TryGetValue(name, out GymTask? task)
        ? task
        : throw new InvalidDataException($"{_section.Folder}: task \"{name}\" is not in gym.json; the nearest is '{NearestName.Of(_tasks.Keys, name)}'. Copy it there, or take it out of the experiment.");

    /// <summary>Why a draw of a task cannot be used.</summary>
    /// <param name="name">Task name.</param>
    /// <param name="draw">A seed in the files' names.</param>
    /// <returns>The reason in a few words, or null where it can.</returns>
    public string? WhyMissing(string name, int draw)
    {
        if (!_tasks.ContainsKey(name)) return "not in gym.json";
        string folder = Path.Combine(_section.Folder, name);
        if (!Directory.Exists(folder)) return "no folder";
        CrossFitFileName[] files = [.. Directory.GetFiles(folder, "*.tsv").Select(CrossFitFileName.Parse).OfType<CrossFitFileName>()];
        foreach (string split in (string[])["train", "dev"])
        {
            if (!files.Any(f => f.Split == split && f.Seed == draw)) return $"no {split} file of draw {draw}";
        }
        return files.Any(f => f.Split == "test") ? null : "no test file";
    }

    /// <summary>Reads a draw, or the union of several: train and dev without duplicates, dev without anything that is in train, dev and test lines spread evenly.</summary>
    /// <param name="sample">Task and draw.</param>
    /// <returns>The three splits.</returns>
    /// <exception cref="InvalidDataException">A file is missing or malformed, or a union leaves nothing to evaluate on.</exception>
    public CrossFitTask Load(TaskSample sample)
    {
        ArgumentNullException.ThrowIfNull(sample);
        if (_loaded.TryGetValue(sample, out CrossFitTask? task)) return task;
        Task(sample.Task);
        string folder = Path.Combine(_section.Folder, sample.Task);
        CrossFitTask[] draws = [.. sample.Draw.Split('+').Select(seed => CrossFitTask.Load(folder, int.Parse(seed)))];
        CrossFitTask first = draws[0];
        if (draws.Length > 1)
        {
            List<TaskExample> train = [.. draws.SelectMany(d => d.Train).DistinctBy(Text, StringComparer.Ordinal)];
            HashSet<string> seen = [.. train.Select(e => e.Input)];
            List<TaskExample> dev = [.. draws.SelectMany(d => d.Dev).Where(e => !seen.Contains(e.Input)).DistinctBy(Text, StringComparer.Ordinal)];
            if (dev.Count == 0) throw new InvalidDataException($"{folder}: joining the draws {sample.Draw}; every dev example is in a train file, expected some that are not. Choose other draws.");
            first = first with { Train = train, Dev = dev };
        }
        return _loaded[sample] = first with { Dev = Spread(first.Dev, _section.DevLines), Test = Spread(first.Test, _section.TestLines) };
    }

    /// <summary>SHA-256 over what a job on this sample reads: examples, labels and metric.</summary>
    /// <param name="sample">Task and draw.</param>
    /// <returns>64 hexadecimal digits.</returns>
    public string Fingerprint(TaskSample sample)
    {
        if (_fingerprints.TryGetValue(sample, out string? known)) return known;
        (CrossFitTask data, GymTask task) = (Load(sample), Task(sample.Task));
        var text = new StringBuilder($"{task.Name}\n{task.Metric}\n{string.Join('\t', task.Labels)}\n");
        foreach ((string split, IReadOnlyList<TaskExample> examples) in new[] { ("train", data.Train), ("dev", data.Dev), ("test", data.Test) })
        {
            text.Append(split).Append(' ').Append(examples.Count).Append('\n');
            foreach (TaskExample e in examples) text.Append(Text(e)).Append('\n');
        }
        return _fingerprints[sample] = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }

    // A piece is about this many characters in English; the plan's estimate needs no better.
    private const double CharactersPerPiece = 3.5;

    /// <summary>Mean number of tokens of an example, input and answer, estimated from characters.</summary>
    internal double MeanPositions(TaskSample sample) =>
        Load(sample).Train.Average(e => 2 + ((e.Input.Length + e.Target.Length) / CharactersPerPiece));

    // '\u001f' is no text's: a tab could be an answer's border.
    private static string Text(TaskExample e) => $"{e.Input}\u001f{string.Join('\u001f', e.Answers)}";

    private static IReadOnlyList<TaskExample> Spread(IReadOnlyList<TaskExample> all, int lines) =>
        lines == 0 || lines >= all.Count ? all : [.. Enumerable.Range(0, lines).Select(i => all[(int)((long)i * all.Count / lines)])];
}
