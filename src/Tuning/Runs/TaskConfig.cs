// A task of a run: where its data are and how they become text. Deliberately not the reading: Tasks does that.
using System.Text.Json;
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Runs;

/// <summary>A task's options; what is left out is looked for in gym.json, in the task's casting, or in the data itself.</summary>
public sealed record TaskConfig
{
    /// <summary>Task name; null takes the last part of <see cref="Data"/>.</summary>
    public string? Name { get; init; }

    /// <summary>Folder of the task, or of a gym with a folder per task: CrossFit's files, or train, dev and test as .tsv or .jsonl.</summary>
    public string? Data { get; init; }

    /// <summary>Training examples by file; null to look in <see cref="Data"/>.</summary>
    public string? Train { get; init; }

    /// <summary>Development examples by file.</summary>
    public string? Dev { get; init; }

    /// <summary>Test examples by file.</summary>
    public string? Test { get; init; }

    /// <summary>K of the K-shot sample; null takes what is there.</summary>
    public int? Shots { get; init; }

    /// <summary>Seed of the K-shot sample.</summary>
    public int Seed { get; init; } = 13;

    /// <summary>Known task whose casting .jsonl records go through.</summary>
    public string? Casting { get; init; }

    /// <summary>Template of the input for .jsonl records.</summary>
    public string? InputTemplate { get; init; }

    /// <summary>Template of the answer for .jsonl records.</summary>
    public string? TargetTemplate { get; init; }

    /// <summary>Metric names; their mean selects the checkpoint.</summary>
    public IReadOnlyList<string> Metric { get; init; } = [];

    /// <summary>Labels in class order.</summary>
    public IReadOnlyList<string> Labels { get; init; } = [];

    /// <summary>Whether answers are labels; null lets the data decide.</summary>
    public bool? Classification { get; init; }

    /// <summary>Write "[name] " before each input.</summary>
    public bool TaskPrefix { get; init; }

    /// <summary>Write &lt;extra_id_0&gt; before each target, for models that know only span corruption.</summary>
    public bool Sentinel { get; init; }

    /// <summary>Most training examples; null takes all.</summary>
    public int? TrainLimit { get; init; }

    /// <summary>Most development examples; null takes all.</summary>
    public int? DevLimit { get; init; }

    /// <summary>Most test examples; null takes all.</summary>
    public int? TestLimit { get; init; }

    /// <summary>The name, or the last part of <see cref="Data"/> or of <see cref="Train"/>.</summary>
    public string DisplayName => Name ?? (Data is null ? Path.GetFileNameWithoutExtension(Train) ?? "" : Path.GetFileName(Path.TrimEndingDirectorySeparator(Data)));

    /// <summary>The task's trained prompt: what a subspace is found from.</summary>
    public string? Prompt { get; init; }

    internal TaskConfig Visit(OptionVisitor v) => new()
    {
        Name = v.Text("name", Name, "Task name; the last part of 'data' where there is none."),
        Data = v.FilePath("data", Data, "Folder of the task, or of a gym with a folder per task."),
        Train = v.FilePath("train", Train, "Training examples by file: .tsv or .jsonl."),
        Dev = v.FilePath("dev", Dev, "Development examples by file."),
        Test = v.FilePath("test", Test, "Test examples by file."),
        Shots = v.OptionalInt("shots", Shots, 1, "K of the K-shot sample; null takes what is there."),
        Seed = v.Int("seed", Seed, 0, "Seed of the K-shot sample."),
        Casting = v.Text("casting", Casting, "Known task (boolq, rte, sst2, ...) as which .jsonl records are cast."),
        Prompt = v.FilePath("prompt", Prompt, "The task's trained prompt, for method 'msf': a PEFT folder or .npy file."),
        InputTemplate = v.Text("input_template", InputTemplate, "Template of the input for .jsonl records: \"question: {question}\"."),
        TargetTemplate = v.Text("target_template", TargetTemplate, "Template of the answer for .jsonl records: \"{answer}\"."),
        Metric = v.Texts("metric", Metric, "Metric or list of metrics; their mean selects the checkpoint."),
        Labels = v.Texts("labels", Labels, "Labels in class order."),
        Classification = v.OptionalSwitch("classification", Classification, "Whether answers are labels; null lets the data decide."),
        TaskPrefix = v.Switch("task_prefix", TaskPrefix, "Write \"[name] \" before each input."),
        Sentinel = v.Switch("sentinel", Sentinel, "Write <extra_id_0> before each target."),
        TrainLimit = v.OptionalInt("train_limit", TrainLimit, 1, "Most training examples; null takes all."),
        DevLimit = v.OptionalInt("dev_limit", DevLimit, 1, "Most development examples; null takes all."),
        TestLimit = v.OptionalInt("test_limit", TestLimit, 1, "Most test examples; null takes all."),
    };

    internal void Validate(string path)
    {
        if (Data is null && Train is null)
            throw new ArgumentException($"{path} has neither 'data' nor 'train', expected a folder or a file of training examples.");
        string name = DisplayName;
        // The name becomes a folder and a tag.
        if (name.Length is 0 or > 100 || name[0] == '.' || !name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-' or '+'))
            throw new ArgumentException($"{path}: the task's name is \"{name}\", expected 1 to 100 letters, digits and . _ - +, and no dot first: it names a folder. Give the task a 'name'.");
        if (InputTemplate is null != TargetTemplate is null)
            throw new ArgumentException($"{path} has one template without the other, expected input_template and target_template.");
        if (Casting is not null && InputTemplate is not null)
            throw new ArgumentException($"{path} has a casting and templates, expected one or the other.");
    }

    /// <summary>Writes the short forms out, so that overrides find what they name: 'task' is a list of one, a text is its 'data'.</summary>
    internal static void Unfold(OptionNode root)
    {
        if (root.Member("task") is { } single)
        {
            if (root.Member("tasks") is { } list)
                throw new InvalidDataException($"{single.Place}: found 'task', but {list.Place} has 'tasks'; expected one of the two.");
            int at = root.Members.FindIndex(m => m.Key == "task");
            root.Members[at] = KeyValuePair.Create("tasks", OptionNode.ListOf(single));
        }
        if (root.Member("tasks") is not { Kind: JsonTokenType.StartArray } tasks)
            return;
        for (int i = 0; i < tasks.Items.Count; i++)
        {
            if (tasks.Items[i].Kind == JsonTokenType.String)
                tasks.Items[i] = OptionNode.Wrap(tasks.Items[i], "data");
        }
    }

    /// <summary>An override of 'task' is one of the only task.</summary>
    internal static string Unfold(OptionNode root, string argument)
    {
        if (argument != "task" && !argument.StartsWith("task.", StringComparison.Ordinal) && !argument.StartsWith("task=", StringComparison.Ordinal))
            return argument;
        int count = root.Member("tasks")?.Items.Count ?? 0;
        if (count > 1)
            throw new ArgumentException($"--set {argument}: there are {count} tasks, expected their number: tasks.0{argument[4..]}, or tasks.*{argument[4..]} for all.");
        if (count == 0)
            root.SetMember("tasks", OptionNode.ListOf(root.EmptyObject()));
        return "tasks.0" + argument[4..];
    }
}
