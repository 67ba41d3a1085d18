// The sections of an experiment that say what is asked: data, split, challenges, baselines, ablations. Deliberately not how anything is trained: MethodSections.
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Experiments;

/// <summary>Where examples come from. Token limits are the methods' own (training.max_source_length).</summary>
public sealed record DataSection
{
    /// <summary>Folder with gym.json and a folder per task.</summary>
    public string Folder { get; init; } = "";

    /// <summary>Seed in the files' names of the draw that prompts and the subspace are trained on.</summary>
    public int Draw { get; init; } = 100;

    /// <summary>Seed of the draw of the unseen-data challenge.</summary>
    public int OtherDraw { get; init; } = 21;

    /// <summary>Dev lines of a task, spread evenly over its file; 0 takes all.</summary>
    public int DevLines { get; init; }

    /// <summary>Test lines of a task, spread evenly over its file; 0 takes all.</summary>
    public int TestLines { get; init; }

    /// <summary>Whether "[task] " stands before each input.</summary>
    public bool TaskPrefix { get; init; }

    internal DataSection Visit(OptionVisitor v) => new()
    {
        Folder = v.FilePath("folder", Folder, "Folder with gym.json and a folder per task.") ?? "",
        Draw = v.Int("draw", Draw, 0, "Seed in the files' names of the draw that prompts and the subspace are trained on."),
        OtherDraw = v.Int("other_draw", OtherDraw, 0, "The draw of the unseen-data challenge."),
        DevLines = v.Int("dev_lines", DevLines, 0, "Dev lines of a task, spread over its file; 0 takes all."),
        TestLines = v.Int("test_lines", TestLines, 0, "Test lines of a task, spread over its file; 0 takes all."),
        TaskPrefix = v.Switch("task_prefix", TaskPrefix, "Write \"[task] \" before each input."),
    };
}

/// <summary>Whose partition.</summary>
public enum SplitName
{
    /// <summary>The lists in the file.</summary>
    Explicit,

    /// <summary>The paper's: 100 training tasks, 20 held out, drawn at random.</summary>
    Random,

    /// <summary>The paper's: classification tasks train.</summary>
    Cls,

    /// <summary>The paper's: other tasks train.</summary>
    NonCls,
}

/// <summary>The paper's partition, or the user's.</summary>
public sealed record SplitSection
{
    private static readonly (string, SplitName)[] Words = [("explicit", SplitName.Explicit), ("random", SplitName.Random), ("cls", SplitName.Cls), ("non-cls", SplitName.NonCls)];

    /// <summary>Whose.</summary>
    public SplitName Name { get; init; }

    /// <summary>Training tasks of an explicit split.</summary>
    public IReadOnlyList<string> Train { get; init; } = [];

    /// <summary>Held-out tasks of an explicit split.</summary>
    public IReadOnlyList<string> Test { get; init; } = [];

    /// <summary>The name as it is written.</summary>
    public string Word => Array.Find(Words, w => w.Item2 == Name).Item1;

    internal SplitSection Visit(OptionVisitor v) => new()
    {
        Name = v.Choice("name", Name, Words, "The paper's partition, or the lists here."),
        Train = v.Texts("train", Train, "Training tasks of an explicit split."),
        Test = v.Texts("test", Test, "Held-out tasks of an explicit split."),
    };

    internal void Validate()
    {
        if (Name != SplitName.Explicit && Train.Count + Test.Count > 0)
            throw new ArgumentException($"split.name is \"{Word}\" and split has lists of tasks, expected one or the other: the paper's partitions have their own lists.");
        string[] both = [.. Train.Intersect(Test, StringComparer.Ordinal)];
        if (both.Length > 0)
            throw new ArgumentException($"split.train and split.test both hold {string.Join(", ", both)}, expected each task in one of them: a held-out task that trains the subspace is not held out.");
        if (Train.Concat(Test).GroupBy(t => t, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new ArgumentException($"split holds {twice.Key} {twice.Count()} times, expected each task once.");
    }
}

/// <summary>Which questions are asked of the subspace. All are switched on by default.</summary>
public sealed record ChallengeSection
{
    private static readonly (string, bool)[] References = [("other_draw", true), ("same_draw", false)];

    /// <summary>T_train(MSF): prompts that the subspace was made from, sent through it.</summary>
    public bool Reconstruction { get; init; } = true;

    /// <summary>T_test(MSF): unseen tasks' trained prompts, sent through it.</summary>
    public bool UnseenReconstruction { get; init; } = true;

    /// <summary>T_train^same(IST): tuning on the very data that the subspace saw.</summary>
    public bool SameData { get; init; } = true;

    /// <summary>T_train^diff(IST), the unseen-data challenge.</summary>
    public bool OtherData { get; init; } = true;

    /// <summary>T_test(IST), the unseen-task challenge.</summary>
    public bool UnseenTasks { get; init; } = true;

    /// <summary>IST-initialised prompt tuning of the held-out tasks.</summary>
    public bool StageTwo { get; init; } = true;

    /// <summary>What the unseen-data challenge is measured against: true, prompt tuning on the other draw too; false, prompt tuning on the first draw (cheaper).</summary>
    public bool OtherDataReference { get; init; } = true;

    /// <summary>How many of the seeds IST on training tasks runs with; 0 takes all.</summary>
    public int TrainTaskSeeds { get; init; }

    internal ChallengeSection Visit(OptionVisitor v) => new()
    {
        Reconstruction = v.Switch("reconstruction", Reconstruction, "T_train(MSF): training tasks' prompts, sent through the subspace."),
        UnseenReconstruction = v.Switch("unseen_reconstruction", UnseenReconstruction, "T_test(MSF): held-out tasks' prompts, sent through it."),
        SameData = v.Switch("same_data", SameData, "T_train same (IST): training tasks on the data that the subspace saw."),
        OtherData = v.Switch("other_data", OtherData, "T_train diff (IST): the unseen-data challenge."),
        UnseenTasks = v.Switch("unseen_tasks", UnseenTasks, "T_test (IST): the unseen-task challenge."),
        StageTwo = v.Switch("stage_two", StageTwo, "IST-initialised prompt tuning of the held-out tasks."),
        OtherDataReference = v.Choice("other_data_reference", OtherDataReference, References, "The draw of the prompt tuning that the unseen-data challenge is measured against."),
        TrainTaskSeeds = v.Int("train_task_seeds", TrainTaskSeeds, 0, "Seeds of IST on training tasks; 0 takes all."),
    };
}

/// <summary>What IST in the found subspace is compared with. The untuned model and the majority label are always there: they decide whether an experiment says anything.</summary>
public sealed record BaselineSection
{
    private static readonly SubspaceMethod[] Known = [SubspaceMethod.RandomPrompt, SubspaceMethod.RandomLinear, SubspaceMethod.Fastfood, SubspaceMethod.Pca];

    /// <summary>Subspaces besides MSF's.</summary>
    public IReadOnlyList<SubspaceMethod> Subspaces { get; init; } = [];

    /// <summary>The d_I that they are made at; empty takes the experiment's list.</summary>
    public IReadOnlyList<int> DI { get; init; } = [];

    internal BaselineSection Visit(OptionVisitor v) => new()
    {
        Subspaces = [.. Known.Where(m => v.Switch(m.Name(), Subspaces.Contains(m), $"IST in a subspace of the kind {m.Name()}, too."))],
        DI = v.Integers("d_i", DI, 1, "Their dimensions; none takes the experiment's."),
    };
}

/// <summary>What is varied, one thing at a time.</summary>
public sealed record AblationSection
{
    /// <summary>Percentages of the training tasks; nested subsets. 100 is the experiment itself.</summary>
    public IReadOnlyList<int> TrainTasks { get; init; } = [];

    /// <summary>A second draw whose union with the first makes 2K shots; null where shots are not varied.</summary>
    public int? ShotsDraw { get; init; }

    /// <summary>Other prompt lengths.</summary>
    public IReadOnlyList<int> PromptLengths { get; init; } = [];

    /// <summary>N runs of prompt tuning, IST and IST-initialised prompt tuning on the held-out tasks; 0 takes as many as there are seeds.</summary>
    public int StabilityRuns { get; init; }

    /// <summary>d_I of all ablations; 0 takes the last of the experiment's list.</summary>
    public int DI { get; init; }

    internal AblationSection Visit(OptionVisitor v) => new()
    {
        TrainTasks = v.Integers("train_tasks", TrainTasks, 1, "Percentages of the training tasks."),
        ShotsDraw = v.OptionalInt("shots_draw", ShotsDraw, 0, "A second draw: its union with the first makes 2K shots."),
        PromptLengths = v.Integers("prompt_lengths", PromptLengths, 1, "Other prompt lengths."),
        StabilityRuns = v.Int("stability_runs", StabilityRuns, 0, "Runs of each held-out task for standard deviations; 0 takes the seeds."),
        DI = v.Int("d_i", DI, 0, "Dimension of all ablations; 0 takes the last of d_i."),
    };

    /// <summary>The experiment's seeds, and as many more as the runs need: whole numbers from 0 that are not among them.</summary>
    internal IReadOnlyList<int> StabilitySeeds(IReadOnlyList<int> seeds) =>
        [.. seeds, .. Enumerable.Range(0, seeds.Count + StabilityRuns).Except(seeds).Take(Math.Max(0, StabilityRuns - seeds.Count))];
}
