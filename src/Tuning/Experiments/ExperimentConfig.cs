// EXPERIMENT.json: everything that an experiment is, checked when it is read. Deliberately not which jobs follow from it: see ExperimentPlan.
using System.Text;
using IptNative.Kernels.Devices;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Experiments;

/// <summary>A set of tasks with a name of the user's: a row block of the tables.</summary>
public sealed record TaskGroup
{
    /// <summary>Its name: "never seen in pre-training".</summary>
    public string Name { get; init; } = "";

    /// <summary>Its tasks.</summary>
    public IReadOnlyList<string> Tasks { get; init; } = [];

    internal TaskGroup Visit(OptionVisitor v) => new()
    {
        Name = v.Required("name", Name, "Name of the group."),
        Tasks = v.Texts("tasks", Tasks, "Its tasks."),
    };
}

/// <summary>The configuration of <c>iptnative ipt</c>. Relative paths in the file start from its folder.</summary>
public sealed record ExperimentConfig
{
    /// <summary>Title of the report; the file's name where none is given.</summary>
    public string Name { get; init; } = "";

    /// <summary>Package folder of the frozen model.</summary>
    public string Model { get; init; } = "";

    /// <summary>Tasks and draws.</summary>
    public DataSection Data { get; init; } = new();

    /// <summary>Which tasks train the subspace, and which are held out.</summary>
    public SplitSection Split { get; init; } = new();

    /// <summary>The user's own groups.</summary>
    public IReadOnlyList<TaskGroup> Groups { get; init; } = [];

    /// <summary>Seeds of prompt tuning, IST and IST-initialised prompt tuning.</summary>
    public IReadOnlyList<int> Seeds { get; init; } = [0, 1, 2];

    /// <summary>The d_I list.</summary>
    public IReadOnlyList<int> DI { get; init; } = [5];

    /// <summary>Prompt tuning.</summary>
    public PromptTuningSection PromptTuning { get; init; } = new();

    /// <summary>Subspace finding.</summary>
    public MsfSection Msf { get; init; } = new();

    /// <summary>Subspace tuning.</summary>
    public IstSection Ist { get; init; } = new();

    /// <summary>Decoding and scoring.</summary>
    public EvaluationConfig Evaluation { get; init; } = new();

    /// <summary>What is asked of the subspace.</summary>
    public ChallengeSection Challenges { get; init; } = new();

    /// <summary>What it is compared with.</summary>
    public BaselineSection Baselines { get; init; } = new();

    /// <summary>What is varied.</summary>
    public AblationSection Ablations { get; init; } = new();

    /// <summary>Runs that share a batch, at most.</summary>
    public int SideBySide { get; init; } = 16;

    /// <summary>CSV of "task,score" with fine-tuning scores; null where none were measured.</summary>
    public string? FineTuningScores { get; init; }

    /// <summary>Minutes that the plan should take; 0 sets no budget.</summary>
    public double BudgetMinutes { get; init; }

    /// <summary>Whether a plan over the budget is refused; otherwise it is only said.</summary>
    public bool RefuseOverBudget { get; init; }

    /// <summary>auto, cpu, cuda or cuda:n.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>CPU threads; 0 takes every core.</summary>
    public int Threads { get; init; }

    /// <summary>Precision of the frozen model's products in training.</summary>
    public ComputeType Compute { get; init; } = ComputeType.F32;

    /// <summary>Type of the activations that are kept for the backward pass, f32 or bf16.</summary>
    public TapeType Tape { get; init; } = TapeType.F32;

    /// <summary>Folder of jobs and report.</summary>
    public string Output { get; init; } = "";

    /// <summary>P.</summary>
    public int PromptLength => PromptTuning.Prompt.Length;

    /// <summary>The d_I of ablations, stability and IST-initialised prompt tuning.</summary>
    public int AblationDI => Ablations.DI > 0 ? Ablations.DI : DI[^1];

    /// <summary>Reads and checks a file.</summary>
    /// <param name="path">EXPERIMENT.json; comments and trailing commas are taken.</param>
    /// <param name="overrides">key=value, as behind <c>--set</c>.</param>
    /// <returns>The configuration, paths made absolute.</returns>
    /// <exception cref="InvalidDataException">A name is unknown, a value is not what it should be, or two contradict each other; the message says where.</exception>
    /// <exception cref="ArgumentException">An override is no key=value, or leads nowhere.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static ExperimentConfig Load(string path, IReadOnlyList<string> overrides)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(overrides);
        if (!File.Exists(path))
            throw new FileNotFoundException($"{path}: reading an experiment; there is no such file. Give a .json file, for example examples/ipt-smoke.json.", path);
        return From(OptionNode.Load(path), path, overrides);
    }

    /// <summary>Reads and checks a text.</summary>
    /// <param name="json">The text.</param>
    /// <param name="name">Stands for the file in messages, and names the experiment.</param>
    /// <param name="folder">What relative paths start from.</param>
    /// <param name="overrides">As <see cref="Load"/>.</param>
    /// <returns>The configuration.</returns>
    /// <exception cref="InvalidDataException">As <see cref="Load"/>.</exception>
    /// <exception cref="ArgumentException">As <see cref="Load"/>.</exception>
    public static ExperimentConfig Parse(string json, string name, string folder, params IReadOnlyList<string> overrides)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(overrides);
        return From(OptionNode.Parse(Encoding.UTF8.GetBytes(json), name, Path.GetFullPath(folder)), name, overrides);
    }

    /// <summary>Every option with its default, in the canonical order.</summary>
    /// <returns>Names, defaults and help.</returns>
    public static IReadOnlyList<OptionHelp> Describe() =>
        [.. OptionLister.List(new ExperimentConfig(), (c, v) => c.Visit(v)).Select(o => new OptionHelp(o.Name, o.Json, o.Help))];

    /// <summary>The canonical form: every option, always in one order.</summary>
    /// <returns>Indented JSON.</returns>
    public string ToJson() => OptionLister.ToJson(OptionLister.List(this, (c, v) => c.Visit(v)));

    /// <summary>Every option that decides a result, with its value as JSON: for the report. Paths are left out, so that reports of two machines compare equal.</summary>
    internal IEnumerable<(string Name, string Json)> Settings() =>
        OptionLister.List(this, (c, v) => c.Visit(v)).Where(o => o.Affects == Affects.Result && o.Json != "null").Select(o => (o.Name, o.Json));

    internal ExperimentConfig Visit(OptionVisitor v) => new()
    {
        Name = v.Text("name", Name, "Title of the report.", Affects.Nothing) ?? "",
        Model = v.FilePath("model", Model, "Package folder of the frozen model.") ?? "",
        Data = v.Section("data", Data, (d, w) => d.Visit(w), "Tasks and draws."),
        Split = v.Section("split", Split, (s, w) => s.Visit(w), "Which tasks train the subspace, and which are held out."),
        Groups = v.Sections("groups", Groups, () => new TaskGroup(), (g, w) => g.Visit(w), "name", "The user's own groups of tasks."),
        Seeds = v.Integers("seeds", Seeds, 0, "Seeds of every task's runs."),
        DI = v.Integers("d_i", DI, 1, "Dimensions of the subspace."),
        PromptTuning = v.Section("prompt_tuning", PromptTuning, (p, w) => p.Visit(w), "Prompt tuning."),
        Msf = v.Section("msf", Msf, (m, w) => m.Visit(w), "Subspace finding."),
        Ist = v.Section("ist", Ist, (i, w) => i.Visit(w), "Subspace tuning."),
        Evaluation = v.Section("evaluation", Evaluation, (e, w) => e.Visit(w), "Decoding and scoring."),
        Challenges = v.Section("challenges", Challenges, (c, w) => c.Visit(w), "What is asked of the subspace."),
        Baselines = v.Section("baselines", Baselines, (b, w) => b.Visit(w), "What it is compared with."),
        Ablations = v.Section("ablations", Ablations, (a, w) => a.Visit(w), "What is varied."),
        SideBySide = v.Int("side_by_side", SideBySide, 1, "Runs that share a batch, at most.", Affects.Rounding),
        FineTuningScores = v.FilePath("fine_tuning_scores", FineTuningScores, "CSV of task,score: fine-tuning, measured elsewhere."),
        BudgetMinutes = v.Number("budget_minutes", BudgetMinutes, NumberRange.AtLeast(0), "Minutes that the plan should take; 0 sets no budget."),
        RefuseOverBudget = v.Switch("refuse_over_budget", RefuseOverBudget, "Refuse a plan over the budget; otherwise say so.", Affects.Nothing),
        Device = v.Text("device", Device, "auto, cpu, cuda or cuda:n.", Affects.Rounding) ?? "cpu",
        Threads = v.Int("threads", Threads, 0, "CPU threads; 0 takes every core.", Affects.Rounding),
        Compute = v.Choice("compute", Compute, RunConfig.ComputeWords, "What the frozen model's products multiply in training; sums are float32 in either."),
        Tape = v.Choice("tape", Tape, RunConfig.TapeWords, "Type of the activations that are kept inside sublayers."),
        Output = v.FilePath("output", Output, "Folder of jobs and report; runs/NAME where none is named.") ?? "",
    };

    private static ExperimentConfig From(OptionNode root, string path, IReadOnlyList<string> overrides)
    {
        foreach (string argument in overrides)
            OptionOverrides.Apply(root, argument, Environment.CurrentDirectory);
        ExperimentConfig config = OptionReader.Read(root, new ExperimentConfig(), (c, v) => c.Visit(v));
        string name = Path.GetFileNameWithoutExtension(path);
        config = config with
        {
            Name = config.Name.Length > 0 ? config.Name : name,
            Output = config.Output.Length > 0 ? config.Output : Path.GetFullPath(Path.Combine("runs", name)),
        };
        try
        {
            config.Validate();
        }
        catch (ArgumentException e)
        {
            throw new InvalidDataException($"{path}: {e.Message}", e);
        }
        return config;
    }

    /// <summary>Checks what no single option can: contradictions between them.</summary>
    /// <exception cref="ArgumentException">Two options contradict each other; the message names them.</exception>
    public void Validate()
    {
        if (Model.Length == 0) throw new ArgumentException("model is missing, expected a package folder: \"model\": \"models/t5-gym-tiny\".");
        if (Data.Folder.Length == 0) throw new ArgumentException("data.folder is missing, expected a folder with gym.json and a folder per task.");
        OnceEach("seeds", Seeds);
        OnceEach("d_i", DI);
        OnceEach("ablations.train_tasks", Ablations.TrainTasks, mayBeEmpty: true);
        OnceEach("ablations.prompt_lengths", Ablations.PromptLengths, mayBeEmpty: true);
        OnceEach("baselines.d_i", Baselines.DI, mayBeEmpty: true);
        Split.Validate();
        PromptTuning.Validate();
        Msf.Validate();
        Ist.Validate();
        if (Ablations.TrainTasks.Any(p => p > 100))
            throw new ArgumentException($"ablations.train_tasks holds {Ablations.TrainTasks.Max()}, expected percentages from 1 to 100.");
        if (Ablations.DI > 0 && !DI.Contains(Ablations.DI)) throw new ArgumentException($"ablations.d_i is {Ablations.DI}, expected one of d_i: {string.Join(", ", DI)}.");
        if (Ablations.ShotsDraw == Data.Draw) throw new ArgumentException($"ablations.shots_draw is {Data.Draw}, the same as data.draw; expected another: 2K shots are the union of two draws.");
        if (Challenges.OtherData && Data.OtherDraw == Data.Draw)
            throw new ArgumentException($"data.other_draw is {Data.OtherDraw}, the same as data.draw; expected another for the unseen-data challenge, or \"challenges\": {{\"other_data\": false}}.");
    }

    private static void OnceEach(string name, IReadOnlyList<int> values, bool mayBeEmpty = false)
    {
        if (values.Count == 0 && !mayBeEmpty) throw new ArgumentException($"{name} is empty, expected at least one number.");
        if (values.GroupBy(x => x).FirstOrDefault(g => g.Count() > 1) is { } twice) throw new ArgumentException($"{name} holds {twice.Key} {twice.Count()} times, expected each number once.");
    }
}
