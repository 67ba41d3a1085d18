// One piece of an experiment's work: what is to be done, of what, and what it depends on. Deliberately not how: see IJobRunner.
namespace IptNative.Tuning.Experiments;

/// <summary>What a job does.</summary>
public enum JobKind
{
    /// <summary>Scores the frozen model without a prompt.</summary>
    Untuned,

    /// <summary>Tunes a prompt of one task; starts from the input "init" where there is one (IST-initialised prompt tuning).</summary>
    PromptTuning,

    /// <summary>Makes a subspace: MSF over trained prompts, or a baseline.</summary>
    Subspace,

    /// <summary>Sends a trained prompt through Proj and Proj_b and scores what comes out.</summary>
    Reconstruction,

    /// <summary>Tunes the intrinsic vector of one task in a frozen subspace.</summary>
    Ist,
}

/// <summary>Where a subspace comes from.</summary>
public enum SubspaceMethod
{
    /// <summary>Multi-task subspace finding: Proj and Proj_b trained.</summary>
    Msf,

    /// <summary>Proj_b as it is initialised, untrained.</summary>
    RandomPrompt,

    /// <summary>A fixed random linear map.</summary>
    RandomLinear,

    /// <summary>A fixed Fastfood transform.</summary>
    Fastfood,

    /// <summary>Principal components of the trained prompts.</summary>
    Pca,
}

/// <summary>A draw of a task's examples; with two seeds the de-duplicated union of two draws (2K shots).</summary>
/// <param name="Task">Task name.</param>
/// <param name="Draw">Seeds in the data files' names joined by '+': "13" or "13+42".</param>
public sealed record TaskSample(string Task, string Draw);

/// <summary>Another job whose result a job reads.</summary>
/// <param name="Role">"prompt" (a trained prompt), "subspace" or "init".</param>
/// <param name="Key">The other job's <see cref="Job.Key"/>.</param>
public sealed record JobInput(string Role, string Key);

/// <summary>One job. Its hash covers exactly what its result depends on.</summary>
public sealed record Job
{
    /// <summary>Readable name, unique in a plan: "ist/msf-d5/words-first/13/seed0".</summary>
    public required string Key { get; init; }

    /// <summary>What it does.</summary>
    public required JobKind Kind { get; init; }

    /// <summary>The task and draw it works on; for a subspace every training task.</summary>
    public required IReadOnlyList<TaskSample> Samples { get; init; }

    /// <summary>P, rows of the prompt; 0 for <see cref="JobKind.Untuned"/>.</summary>
    public int PromptLength { get; init; }

    /// <summary>d_I; 0 where no subspace is involved.</summary>
    public int DI { get; init; }

    /// <summary>The subspace's kind; only read where <see cref="DI"/> is above 0.</summary>
    public SubspaceMethod Subspace { get; init; }

    /// <summary>Seed of the initial values and of the order of the batches.</summary>
    public int Seed { get; init; }

    /// <summary>Jobs that must be done before.</summary>
    public IReadOnlyList<JobInput> Inputs { get; init; } = [];

    /// <summary>SHA-256, 64 hexadecimal digits, of the options, the data, the model and the inputs' hashes.</summary>
    public required string Hash { get; init; }

    /// <summary>0 for a job without inputs, otherwise one above the highest of its inputs.</summary>
    public int Stage { get; init; }

    /// <summary>Token positions that training passes through the model, forward and backward: an estimate.</summary>
    public double TrainPositions { get; init; }

    /// <summary>Token positions that evaluation passes through the model, forward only: an estimate.</summary>
    public double EvaluatePositions { get; init; }

    /// <summary>The one task of a job that has one.</summary>
    public string Task => Samples[0].Task;

    /// <summary>Keys of the inputs of a role, in order.</summary>
    /// <param name="role">See <see cref="JobInput"/>.</param>
    /// <returns>Keys; empty where there is none.</returns>
    public IEnumerable<string> InputsOf(string role) => Inputs.Where(i => i.Role == role).Select(i => i.Key);
}

/// <summary>Jobs that run side by side on one copy of the frozen model. The plan alone decides what is in it, never what happens to be left over:
/// so a stopped experiment goes on with the very same batches.</summary>
/// <param name="Kind">Kind of all its jobs.</param>
/// <param name="Jobs">At least one; none depends on another.</param>
/// <param name="Hash">Over the jobs' hashes, in order.</param>
public sealed record JobBatch(JobKind Kind, IReadOnlyList<Job> Jobs, string Hash)
{
    /// <summary>Sum of the jobs' training positions.</summary>
    public double TrainPositions => Jobs.Sum(j => j.TrainPositions);

    /// <summary>Sum of the jobs' evaluation positions.</summary>
    public double EvaluatePositions => Jobs.Sum(j => j.EvaluatePositions);
}

/// <summary>Names of kinds, methods and questions.</summary>
public static class JobNames
{
    /// <summary>Role of a trained prompt.</summary>
    public const string Prompt = "prompt";

    /// <summary>Role of a subspace.</summary>
    public const string Subspace = "subspace";

    /// <summary>Role of the IST job whose prompt is the starting point.</summary>
    public const string Init = "init";

    /// <summary>The name of a kind.</summary>
    /// <param name="kind">The kind.</param>
    /// <returns>snake_case.</returns>
    public static string Name(this JobKind kind) => kind switch
    {
        JobKind.Untuned => "untuned",
        JobKind.PromptTuning => "prompt_tuning",
        JobKind.Subspace => "subspace",
        JobKind.Reconstruction => "reconstruction",
        _ => "ist",
    };

    /// <summary>The name of a method.</summary>
    /// <param name="method">The method.</param>
    /// <returns>snake_case.</returns>
    public static string Name(this SubspaceMethod method) => method switch
    {
        SubspaceMethod.Msf => "msf",
        SubspaceMethod.RandomPrompt => "random_prompt",
        SubspaceMethod.RandomLinear => "random_linear",
        SubspaceMethod.Fastfood => "fastfood",
        _ => "pca",
    };

    /// <summary>The name of a question in tables and figures, in the paper's words.</summary>
    /// <param name="study">The question.</param>
    /// <returns>"T_test (IST)" and the like.</returns>
    public static string Name(this Study study) => study switch
    {
        Study.Untuned => "untuned model",
        Study.PromptTuning => "prompt tuning",
        Study.TrainMsf => "T_train (MSF)",
        Study.TestMsf => "T_test (MSF)",
        Study.TrainSame => "T_train same (IST)",
        Study.TrainOther => "T_train diff (IST)",
        Study.TestIst => "T_test (IST)",
        _ => "IST-initialised PT",
    };
}
