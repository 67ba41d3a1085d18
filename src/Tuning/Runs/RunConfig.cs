// Everything that `iptnative train` can be told: one record that the file, --set, the saved run.json and the help are all made from.
// Deliberately not: what is found out on the way (hashes, versions, thread counts): see RunManifest.
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using IptNative.Kernels.Devices;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Runs;

/// <summary>How prompts are tuned.</summary>
public enum TuningMethod
{
    /// <summary>Every number of the prompt (Lester et al. 2021).</summary>
    PromptTuning,

    /// <summary>The weights of a network that makes the prompt (Liu et al. 2021, P-tuning).</summary>
    PTuning,

    /// <summary>Multi-task subspace finding: Proj and Proj_b, from trained prompts (Qin et al. 2021).</summary>
    Msf,

    /// <summary>Intrinsic subspace tuning: a few numbers z, in a subspace that was found (Qin et al. 2021).</summary>
    Ist,
}

/// <summary>Which hidden states of the forward pass are kept for the backward pass.</summary>
public enum KeptActivations
{
    /// <summary>As many as the memory plan allows.</summary>
    Auto,

    /// <summary>Each block's input.</summary>
    Blocks,

    /// <summary>Each sublayer's input.</summary>
    Sublayers,

    /// <summary>Everything that the backward pass reads.</summary>
    Full,
}

/// <summary>Type of the activations that are kept inside sublayers.</summary>
public enum TapeType
{
    /// <summary>float32.</summary>
    F32,

    /// <summary>bfloat16: half the memory, and rounded.</summary>
    BF16,
}

/// <summary>Who computes the forward pass.</summary>
public enum ForwardEngine
{
    /// <summary>The faster one for what is kept.</summary>
    Auto,

    /// <summary>ONNX Runtime.</summary>
    Ort,

    /// <summary>This project's own kernels.</summary>
    Native,
}

/// <summary>Where frozen weights are.</summary>
public enum WeightPlace
{
    /// <summary>Mapped; streamed where a memory budget asks for it.</summary>
    Auto,

    /// <summary>Read whole before the first step.</summary>
    Resident,

    /// <summary>Mapped from the file.</summary>
    Mapped,

    /// <summary>Streamed from the file block by block.</summary>
    Streamed,
}

/// <summary>One option for a help text.</summary>
/// <param name="Name">Dotted name: prompt.length; items of a list are numbered: tasks.0.data.</param>
/// <param name="Default">Default as JSON.</param>
/// <param name="Help">What it is, with its range or words.</param>
public readonly record struct OptionHelp(string Name, string Default, string Help);

/// <summary>A training run's options; the defaults are those of Lester et al. 2021.</summary>
public sealed partial record RunConfig
{
    private static readonly (string, TuningMethod)[] Methods = [("prompt_tuning", TuningMethod.PromptTuning), ("p_tuning", TuningMethod.PTuning), ("msf", TuningMethod.Msf), ("ist", TuningMethod.Ist)];
    private static readonly (string, KeptActivations)[] ActivationWords =
        [("auto", KeptActivations.Auto), ("blocks", KeptActivations.Blocks), ("sublayers", KeptActivations.Sublayers), ("full", KeptActivations.Full)];
    private static readonly (string, ForwardEngine)[] ForwardWords = [("auto", ForwardEngine.Auto), ("ort", ForwardEngine.Ort), ("native", ForwardEngine.Native)];

    internal static readonly (string, TapeType)[] TapeWords = [("f32", TapeType.F32), ("bf16", TapeType.BF16)];
    internal static readonly (string, ComputeType)[] ComputeWords = [("f32", ComputeType.F32), ("bf16", ComputeType.BF16)];
    private static readonly (string, WeightPlace)[] WeightWords =
        [("auto", WeightPlace.Auto), ("resident", WeightPlace.Resident), ("mapped", WeightPlace.Mapped), ("streamed", WeightPlace.Streamed)];

    /// <summary>The frozen model: package, checkpoint folder, weight file or Hub name.</summary>
    public string Model { get; init; } = "";

    /// <summary>How prompts are tuned.</summary>
    public TuningMethod Method { get; init; } = TuningMethod.PromptTuning;

    /// <summary>The tasks; every task and seed has a prompt of its own.</summary>
    public IReadOnlyList<TaskConfig> Tasks { get; init; } = [];

    /// <summary>The prompts.</summary>
    public PromptConfig Prompt { get; init; } = new();

    /// <summary>Where <see cref="Method"/> is p_tuning: the network.</summary>
    public PTuningConfig PTuning { get; init; } = new();

    /// <summary>Where <see cref="Method"/> is msf: the subspace.</summary>
    public MsfConfig Msf { get; init; } = new();

    /// <summary>Where <see cref="Method"/> is ist: the subspace to tune in.</summary>
    public IstConfig Ist { get; init; } = new();

    /// <summary>The optimizer.</summary>
    public OptimizerConfig Optimizer { get; init; } = new();

    /// <summary>Steps, batches, seeds.</summary>
    public TrainingConfig Training { get; init; } = new();

    /// <summary>What is minimised.</summary>
    public LossConfig Loss { get; init; } = new();

    /// <summary>How answers are generated and scored.</summary>
    public EvaluationConfig Evaluation { get; init; } = new();

    /// <summary>auto, cpu, cuda or cuda:n.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>CPU threads; 0 takes every core.</summary>
    public int Threads { get; init; }

    /// <summary>What is kept for the backward pass.</summary>
    public KeptActivations Activations { get; init; } = KeptActivations.Auto;

    /// <summary>Who computes the forward pass.</summary>
    public ForwardEngine Forward { get; init; } = ForwardEngine.Auto;

    /// <summary>Precision of the frozen model's products in training.</summary>
    public ComputeType Compute { get; init; } = ComputeType.F32;

    /// <summary>Type of the activations that are kept inside sublayers, f32 or bf16.</summary>
    public TapeType Tape { get; init; } = TapeType.F32;

    /// <summary>Folder for a file that holds the activations; null keeps them in memory.</summary>
    public string? Spill { get; init; }

    /// <summary>Where the frozen weights are.</summary>
    public WeightPlace Weights { get; init; } = WeightPlace.Auto;

    /// <summary>Memory that training steps may take, with a unit: 6GiB. Null: half of what is free.</summary>
    public string? MemoryBudget { get; init; }

    /// <summary>The run folder.</summary>
    public string Output { get; init; } = "";

    /// <summary>Reads a run file.</summary>
    /// <param name="path">JSON; comments and trailing commas are taken. Relative paths in it start from its folder.</param>
    /// <param name="overrides">key=value, as behind <c>--set</c>: dotted names, relative paths start from the current folder.</param>
    /// <returns>The options, checked; paths absolute, <see cref="Output"/> runs/NAME under the current folder where none is named.</returns>
    /// <exception cref="InvalidDataException">A name is unknown or missing, a value is not what it should be, or two contradict each other; the message says where.</exception>
    /// <exception cref="ArgumentException">An override is no key=value, or leads nowhere.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static RunConfig Load(string path, IReadOnlyList<string> overrides)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(overrides);
        if (!File.Exists(path))
            throw new FileNotFoundException($"{path}: reading a run's options; there is no such file. Give a .json file, for example examples/quickstart.json.", path);
        return From(OptionNode.Load(path), path, overrides);
    }

    /// <summary>Reads options from a text, as <see cref="Load"/> does from a file.</summary>
    /// <param name="json">The text.</param>
    /// <param name="name">Stands for the file in messages, and names the run.</param>
    /// <param name="folder">What relative paths start from.</param>
    /// <param name="overrides">key=value, as behind <c>--set</c>.</param>
    /// <returns>The options.</returns>
    /// <exception cref="InvalidDataException">As <see cref="Load"/>.</exception>
    /// <exception cref="ArgumentException">As <see cref="Load"/>.</exception>
    public static RunConfig Parse(string json, string name, string folder, params IReadOnlyList<string> overrides)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(overrides);
        return From(OptionNode.Parse(Encoding.UTF8.GetBytes(json), name, Path.GetFullPath(folder)), name, overrides);
    }

    /// <summary>Every option with its default, in the canonical order.</summary>
    /// <returns>The options of Adafactor, and one task's.</returns>
    public static IReadOnlyList<OptionHelp> Describe() =>
        [.. OptionLister.List(new RunConfig { Tasks = [new TaskConfig()] }, (c, v) => c.Visit(v)).Select(o => new OptionHelp(o.Name, o.Json, o.Help))];

    /// <summary>The canonical form: every option, always in one order. Reading it gives this record again.</summary>
    /// <returns>Indented JSON.</returns>
    public string ToJson() => OptionLister.ToJson(Flatten());

    /// <summary>One hash of everything that decides what is trained; paths, threads, devices and how often something is said do not count.</summary>
    /// <param name="inputs">Hashes of the files that are read.</param>
    /// <returns>SHA-256, lower-case hexadecimal.</returns>
    public string Identity(RunInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        var text = new StringBuilder();
        foreach (FlatOption option in Flatten().Where(o => o.Affects == Affects.Result))
            text.Append(option.Name).Append('=').Append(option.Json).Append('\n');
        foreach ((string name, string sha256) in inputs.Files)
            text.Append(name).Append(':').Append(sha256).Append('\n');
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }

    /// <summary>The runs side by side: every task with every seed.</summary>
    /// <returns>Task by task, seeds within a task ascending.</returns>
    public IReadOnlyList<RunRow> Rows()
    {
        // A subspace is one for all tasks.
        if (Method == TuningMethod.Msf)
            return [new RunRow(0, 0, "subspace", Training.Seed)];
        var rows = new List<RunRow>();
        for (int task = 0; task < Tasks.Count; task++)
        {
            string label = LabelOf(task);
            for (int run = 0; run < Training.Runs; run++)
                rows.Add(new RunRow(rows.Count, task, label, checked(Training.Seed + run)));
        }
        return rows;
    }

    /// <summary>Checks what no single option can: contradictions between them.</summary>
    /// <exception cref="ArgumentException">Two options contradict each other, or a task's name cannot be used; the message names them.</exception>
    public void Validate()
    {
        if (Tasks.Count == 0)
            throw new ArgumentException("tasks is empty, expected at least one task: \"tasks\": [\"path/to/a/task/folder\"].");
        for (int i = 0; i < Tasks.Count; i++)
        {
            Tasks[i].Validate($"tasks.{i}");
            int twin = Enumerable.Range(0, i).FirstOrDefault(j => string.Equals(LabelOf(j), LabelOf(i), StringComparison.OrdinalIgnoreCase), -1);
            if (twin >= 0)
                throw new ArgumentException($"tasks.{i} and tasks.{twin} are both '{LabelOf(i)}', expected different names or different seeds of the data. Give one of them another 'name'.");
        }
        Prompt.Validate();
        Optimizer.Validate(Training.Steps);
        Training.Validate();
        if (Forward == ForwardEngine.Ort && Tape == TapeType.BF16)
            throw new ArgumentException("forward is ort and tape is bf16, expected f32 with it: ONNX Runtime keeps float32 activations. Set \"forward\" to auto or native.");
        if (Forward == ForwardEngine.Ort && Spill is not null)
            throw new ArgumentException("forward is ort and spill names a folder, expected none with it: ONNX Runtime keeps its outputs in memory. Set \"forward\" to auto or native.");
        if (MemoryBudget is { } budget && !Memory.ByteSize.TryParse(budget, out _))
            throw new ArgumentException($"memory_budget is \"{budget}\", expected {Memory.ByteSize.Expected}.");
        if (Weights == WeightPlace.Streamed && Forward == ForwardEngine.Ort)
            throw new ArgumentException("weights is \"streamed\" and forward is \"ort\", which binds all weights at once. Set \"forward\": \"native\".");
        if (Prompt.Template is not null && Method is (TuningMethod.Msf or TuningMethod.Ist))
            throw new ArgumentException("prompt.template is given with method \"msf\" or \"ist\", expected \"prompt_tuning\" or \"p_tuning\": a subspace's prompts stand before the text.");
        if (Method == TuningMethod.Msf)
            ValidateMsf();
        if (Method == TuningMethod.Ist && string.IsNullOrEmpty(Ist.Subspace))
            throw new ArgumentException("ist.subspace is missing, expected a subspace file: best/subspace.safetensors of a run with \"method\": \"msf\".");
        if (!DeviceName().IsMatch(Device))
            throw new ArgumentException($"device is \"{Device}\", expected auto, cpu, cuda or cuda:n.");
        // What auto comes to is known when it has been opened.
        if (Device != "auto")
            RequireSuits(onCpu: Device == "cpu");
    }

    /// <summary>Checks what only the host does, or only a GPU.</summary>
    /// <param name="onCpu">Whether steps are computed on the CPU.</param>
    /// <exception cref="ArgumentException">An option asks for what is not done there; the message names it and what to do instead.</exception>
    internal void RequireSuits(bool onCpu)
    {
        if (onCpu && Forward == ForwardEngine.Ort && Compute == ComputeType.BF16)
            throw new ArgumentException("forward is ort and compute is bf16, expected f32 with it: ONNX Runtime computes float32 on a CPU. Set \"forward\" to auto or native.");
        if (onCpu || (Weights != WeightPlace.Streamed && Spill is null))
            return;
        (string host, string instead) = Spill is not null
            ? ("spill names a folder for what the host cannot hold", "Set it to null; \"activations\": \"blocks\", \"tape\": \"bf16\" or a smaller training.micro_batch_size keep less")
            : ("weights is streamed, which only the host does", "Set it to auto; a checkpoint exported with --dtype bf16, int8 or int4 takes less");
        throw new ArgumentException($"device is \"{Device}\" and {host}, expected none of it with a GPU. {instead}. Or set \"device\": \"cpu\".");
    }

    private void ValidateMsf()
    {
        if (Tasks.Count < 2)
            throw new ArgumentException($"tasks holds {Tasks.Count} task, expected at least 2 for \"method\": \"msf\": a space that tasks share cannot be found from fewer.");
        if (Training.Runs != 1)
            throw new ArgumentException($"training.runs is {Training.Runs}, expected 1 for \"method\": \"msf\": one run finds one subspace.");
        if (MemoryBudget is not null || Weights == WeightPlace.Streamed || Spill is not null)
            throw new ArgumentException($"{(MemoryBudget is not null ? "memory_budget is set" : Spill is not null ? "spill names a folder" : "weights is \"streamed\"")} and method is \"msf\", which trains an autoencoder that the memory plan does not count. Leave it out: steps are planned with half of the free memory.");
        int missing = Enumerable.Range(0, Tasks.Count).FirstOrDefault(i => Tasks[i].Prompt is null, -1);
        if (missing >= 0)
            throw new ArgumentException($"tasks.{missing}.prompt ('{Tasks[missing].DisplayName}') is missing, expected the task's trained prompt, for example best/{Tasks[missing].DisplayName}-seed42 of a prompt-tuning run: nothing is put in its place.");
        MsfObjective().ValidateObjective("optimizer");
    }

    /// <summary>The whole section as the training takes it.</summary>
    internal MsfSection MsfObjective() => Msf.Objective with { Seed = Training.Seed, Optimizer = Optimizer, Training = Training, Loss = Loss };

    internal List<FlatOption> Flatten() => OptionLister.List(this, (c, v) => c.Visit(v));

    internal RunConfig Visit(OptionVisitor v)
    {
        string model = v.FilePath("model", Model, "The frozen model: package, checkpoint folder, weight file or Hub name.", orHubName: true) ?? "";
        TuningMethod method = v.Choice("method", Method, Methods, "How prompts are tuned.");
        return new()
        {
            Model = model,
            Method = method,
            Tasks = v.Sections("tasks", Tasks, () => new TaskConfig(), (t, w) => t.Visit(w), "data", "The tasks; 'task' takes one alone."),
            Prompt = v.Section("prompt", Prompt, (p, w) => p.Visit(w), "The prompts."),
            PTuning = method == TuningMethod.PTuning ? v.Section("p_tuning", PTuning, (p, w) => p.Visit(w), "The network that makes the prompts.") : PTuning,
            Msf = method == TuningMethod.Msf ? v.Section("msf", Msf, (m, w) => m.Visit(w), "The subspace to find.") : Msf,
            Ist = method == TuningMethod.Ist ? v.Section("ist", Ist, (i, w) => i.Visit(w), "The subspace to tune in.") : Ist,
            Optimizer = v.Section("optimizer", Optimizer, (o, w) => o.Visit(w), "The optimizer."),
            Training = v.Section("training", Training, (t, w) => t.Visit(w), "Steps, batches, seeds."),
            Loss = v.Section("loss", Loss, (l, w) => l.Visit(w), "What is minimised."),
            Evaluation = v.Section("evaluation", Evaluation, (e, w) => e.Visit(w), "How answers are generated and scored."),
            Device = v.Text("device", Device, "Where steps are computed and answers are generated: auto, cpu, cuda or cuda:n.", Affects.Rounding) ?? "cpu",
            Threads = v.Int("threads", Threads, 0, "CPU threads; 0 takes every core.", Affects.Rounding),
            Activations = v.Choice("activations", Activations, ActivationWords, "What is kept for the backward pass.", Affects.Rounding),
            Forward = v.Choice("forward", Forward, ForwardWords, "Who computes the forward pass.", Affects.Rounding),
            Compute = v.Choice("compute", Compute, ComputeWords, "What the frozen model's products multiply in training; sums are float32 in either."),
            Tape = v.Choice("tape", Tape, TapeWords, "Type of the activations that are kept inside sublayers; bf16 needs our own forward pass."),
            Spill = v.Text("spill", Spill, "Folder for a file that holds the activations, a block of them in memory at a time; null keeps them in memory.", Affects.Rounding),
            Weights = v.Choice("weights", Weights, WeightWords, "Where the frozen weights are: streamed holds one block at a time.", Affects.Rounding),
            MemoryBudget = v.Text("memory_budget", MemoryBudget, "Memory that training steps may take, with a unit (6GiB); null plans with half of what is free.", Affects.Rounding),
            Output = v.FilePath("output", Output, "The run folder; runs/NAME where none is named.") ?? "",
        };
    }

    private static RunConfig From(OptionNode root, string path, IReadOnlyList<string> overrides)
    {
        TaskConfig.Unfold(root);
        foreach (string argument in overrides)
            OptionOverrides.Apply(root, TaskConfig.Unfold(root, argument), Environment.CurrentDirectory);
        RunConfig config = OptionReader.Read(root, new RunConfig(), (c, v) => c.Visit(v));
        if (config.Model.Length == 0)
            throw new InvalidDataException($"{path}: 'model' is missing, expected a package, checkpoint folder, weight file or Hub name, for example \"model\": \"models/t5-gym-tiny\".");
        try
        {
            config.Validate();
        }
        catch (ArgumentException e)
        {
            throw new InvalidDataException($"{path}: {e.Message}", e);
        }
        return config.Output.Length > 0 ? config : config with { Output = Path.GetFullPath(Path.Combine("runs", Path.GetFileNameWithoutExtension(path))) };
    }

    // A task that is there with two samples of its data is told apart by their seed.
    internal string LabelOf(int task) => Tasks.Count(t => t.DisplayName == Tasks[task].DisplayName) > 1 ? $"{Tasks[task].DisplayName}_{Tasks[task].Seed}" : Tasks[task].DisplayName;

    [GeneratedRegex(@"^(auto|cpu|cuda(:[0-9]{1,9})?)$")]
    private static partial Regex DeviceName();
}

/// <summary>One of the runs side by side: a task with a seed, and so a prompt of its own.</summary>
/// <param name="Index">Row of the prompt table, from 0.</param>
/// <param name="TaskIndex">Which of <see cref="RunConfig.Tasks"/>.</param>
/// <param name="Task">The task's label, unique among the tasks.</param>
/// <param name="Seed">Seed of initialisation and batches.</param>
public sealed record RunRow(int Index, int TaskIndex, string Task, int Seed)
{
    /// <summary>Unique; names the run's folders: sst2-seed42.</summary>
    public string Name { get; } = $"{Task}-seed{Seed}";
}
