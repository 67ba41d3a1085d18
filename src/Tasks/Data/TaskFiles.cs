// Finds and reads the files of a task's splits. Deliberately not what the examples mean: labels and metrics are TaskData's.
using IptNative.Tasks.Casting;
using IptNative.Tasks.Sampling;

namespace IptNative.Tasks.Data;

/// <summary>The splits of a source, read; a split without a file is empty.</summary>
internal sealed class TaskFiles
{
    private static readonly string[] Splits = ["train", "dev", "test"];
    private static readonly string[][] PlainNames = [["train"], ["dev", "validation", "val"], ["test"]];
    private static readonly string[] PlainExtensions = [".tsv", ".jsonl"];

    private readonly TaskSource _source;
    private readonly TaskCasting? _casting;
    private readonly string?[] _files = new string?[Splits.Length];
    private readonly bool _alreadySampled;

    public TaskFiles(TaskSource source)
    {
        _source = source;
        Name = Path.GetFileName(Path.TrimEndingDirectorySeparator(source.Task));
        if (Name.Length == 0) throw new ArgumentException($"Task \"{source.Task}\": expected a name or a folder.", nameof(source));
        if (source.Shots < 1) throw new ArgumentException($"Task {Name}: shots is {source.Shots}; expected at least 1.", nameof(source));
        if (source.InputTemplate is null != source.TargetTemplate is null)
            throw new ArgumentException($"Task {Name}: found one template without the other; expected one for the input and one for the answer.", nameof(source));
        if (source.Casting is not null && source.InputTemplate is not null)
            throw new ArgumentException($"Task {Name}: found the casting {source.Casting} and templates; expected one or the other.", nameof(source));
        if (source.InputTemplate is null && (source.Casting is not null || TaskCasting.Names.Contains(Name)))
            _casting = TaskCasting.Get(source.Casting ?? Name);

        string? folder = Folder(source, Name);
        NameInData = folder is null ? null : CrossFitTask.TaskIn(folder, Name);
        if (folder is not null && NameInData is not null) FindCrossFit(folder, NameInData);
        _alreadySampled = NameInData is not null && source.TrainFile is null;
        if (folder is not null && NameInData is null) FindPlain(folder);
        string?[] named = [source.TrainFile, source.DevFile, source.TestFile];
        for (int i = 0; i < named.Length; i++) _files[i] = named[i] ?? _files[i];
        if (Files.Count == 0)
        {
            throw new FileNotFoundException($"Task {Name}: found no examples in {folder ?? "(no folder was named)"}; expected {Name}_<k>_<seed>_<train|dev|test>.tsv, or train, dev and test "
                + "as .tsv or .jsonl. Name the folder of the task or of the gym that holds it.");
        }
        Metadata = FindMetadata(folder);
    }

    /// <summary>Task name without its path.</summary>
    public string Name { get; }

    /// <summary>Task name in the names of CrossFit's files; may differ from <see cref="Name"/> where a run calls its task otherwise. Null for other files.</summary>
    public string? NameInData { get; }

    /// <summary>The gym's entry of the task, where there is one.</summary>
    public GymTask? Metadata { get; }

    /// <summary>The casting that .jsonl files are read through, where there is one and it is used.</summary>
    public TaskCasting? UsedCasting => Files.Any(IsJson) ? _casting : null;

    /// <summary>The files that the splits are read from.</summary>
    public IReadOnlyList<string> Files => [.. _files.OfType<string>()];

    /// <summary>Whether a K-shot sample has to be drawn: K was asked for and the files are full ones.</summary>
    public bool NeedsSampling => _source.Shots is not null && !_alreadySampled;

    /// <summary>Reads a split.</summary>
    public IReadOnlyList<TaskExample> Read(string split)
    {
        if (_files[Array.IndexOf(Splits, split)] is not { } path) return [];
        if (!IsJson(path)) return CrossFitReader.Read(path);
        if (_source.InputTemplate is { } input) return JsonLinesReader.Read(path, new TextTemplate(input), new TextTemplate(_source.TargetTemplate!)); // both or none
        // A sample's development half is evaluated on, so nothing is left out before it is drawn.
        return _casting is { } casting
            ? JsonLinesReader.Read(path, casting, forTraining: split == "train" && !NeedsSampling)
            : throw new InvalidDataException($"{path}: task {Name} has no casting of its own; expected templates for its records. Give one for the input and one for the answer, or one of the castings {string.Join(", ", TaskCasting.Names)}.");
    }

    /// <summary>Draws the K-shot sample; wrong referents (WSC) are left out of its training half.</summary>
    public FewShotSample Sample(IReadOnlyList<TaskExample> full, bool perLabel)
    {
        FewShotSample sample = FewShotSampler.Sample(full, _source.Shots!.Value, _source.Seed, perLabel); // only where NeedsSampling
        return sample with { Train = [.. sample.Train.Where(e => e.IsPositive != false)] };
    }

    private static bool IsJson(string path) => Path.GetExtension(path).ToUpperInvariant() is ".JSONL" or ".JSON";

    private static string? Folder(TaskSource source, string name)
    {
        if (source.Data is { } data)
        {
            if (!Directory.Exists(data)) throw new DirectoryNotFoundException($"{data}: looking for task {name}; there is no such folder. Name the folder of the task or of the gym that holds it.");
            string inside = Path.Combine(data, name);
            return Directory.Exists(inside) ? inside : data;
        }
        if (Directory.Exists(source.Task)) return source.Task;
        return source.TrainFile is not null || source.DevFile is not null || source.TestFile is not null
            ? null
            : throw new DirectoryNotFoundException($"{source.Task}: looking for a task; there is no such folder, and no data folder was named. Name the folder of the task or of the gym that holds it.");
    }

    private void FindCrossFit(string folder, string task)
    {
        for (int i = 0; i < Splits.Length; i++) _files[i] = CrossFitTask.Find(folder, Splits[i], _source.Seed, task, _source.Shots);
    }

    private void FindPlain(string folder)
    {
        for (int i = 0; i < Splits.Length; i++)
        {
            string[] found = [.. PlainNames[i].SelectMany(n => PlainExtensions, (n, e) => Path.Combine(folder, n + e)).Where(File.Exists)];
            if (found.Length > 1) throw new InvalidDataException($"{folder}: {found.Length} files are the {Splits[i]} split: {string.Join(", ", found.Select(Path.GetFileName))}; expected 1. Move the others away, or name the file.");
            _files[i] = found.FirstOrDefault();
        }
    }

    private GymTask? FindMetadata(string? folder)
    {
        if (folder is null) return null;
        string full = Path.GetFullPath(folder);
        string?[] places = [full, Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(full))];
        string? gym = places.OfType<string>().Select(p => Path.Combine(p, "gym.json")).FirstOrDefault(File.Exists);
        if (gym is null) return null;
        IReadOnlyList<GymTask> tasks = GymMetadata.Load(gym);
        string inGym = NameInData ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(full));
        return tasks.FirstOrDefault(t => t.Name == Name) ?? tasks.FirstOrDefault(t => t.Name == inGym);
    }
}
