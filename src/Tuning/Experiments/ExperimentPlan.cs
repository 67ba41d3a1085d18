// From an experiment to its jobs and what each is for. Deliberately no execution (ExperimentRun) and no statistics (ExperimentResults).
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Experiments;

/// <summary>The question that a score answers.</summary>
public enum Study
{
    /// <summary>The frozen model without a prompt.</summary>
    Untuned,

    /// <summary>Prompt tuning: what everything is measured against.</summary>
    PromptTuning,

    /// <summary>T_train(MSF).</summary>
    TrainMsf,

    /// <summary>T_test(MSF).</summary>
    TestMsf,

    /// <summary>T_train^same(IST).</summary>
    TrainSame,

    /// <summary>T_train^diff(IST): the unseen-data challenge.</summary>
    TrainOther,

    /// <summary>T_test(IST): the unseen-task challenge.</summary>
    TestIst,

    /// <summary>Prompt tuning that starts from IST's prompt.</summary>
    StageTwo,
}

/// <summary>One score that a job gives to one question; a job may answer several.</summary>
/// <param name="Study">The question.</param>
/// <param name="Setting">"" for the experiment itself, otherwise what an ablation varies: "40 % of tasks", "2K shots", "prompt length 10", "stability".</param>
/// <param name="Method">The subspace's kind; MSF where none is involved.</param>
/// <param name="DI">d_I; 0 where no subspace is involved.</param>
/// <param name="Task">The task.</param>
/// <param name="Draw">Its draw.</param>
/// <param name="Seed">The run's seed.</param>
/// <param name="Job">Key of the job.</param>
/// <param name="ReferenceSetting">Setting of the prompt tuning that it is measured against.</param>
/// <param name="ReferenceDraw">Draw of that.</param>
public sealed record Use(Study Study, string Setting, SubspaceMethod Method, int DI, string Task, string Draw, int Seed, string Job, string ReferenceSetting, string ReferenceDraw);

/// <summary>The jobs of an experiment, in an order in which they can run, grouped into batches that share the frozen model.</summary>
public sealed class ExperimentPlan
{
    private readonly Dictionary<string, Job> _byKey;

    internal ExperimentPlan(ExperimentConfig config, ExperimentSplit split, IReadOnlyList<Job> jobs, IReadOnlyList<Use> uses, IReadOnlyList<string> notes)
    {
        (Config, Split, Jobs, Uses, Notes) = (config, split, jobs, uses, notes);
        _byKey = jobs.ToDictionary(j => j.Key, StringComparer.Ordinal);
        Batches = PlanBatches.Make(jobs, config.SideBySide);
    }

    /// <summary>The experiment.</summary>
    public ExperimentConfig Config { get; }

    /// <summary>The resolved partition.</summary>
    public ExperimentSplit Split { get; }

    /// <summary>All jobs; inputs stand before their dependents.</summary>
    public IReadOnlyList<Job> Jobs { get; }

    /// <summary>What the jobs are for.</summary>
    public IReadOnlyList<Use> Uses { get; }

    /// <summary>What was left out, and why.</summary>
    public IReadOnlyList<string> Notes { get; }

    /// <summary>The jobs in batches, in the order in which they run.</summary>
    public IReadOnlyList<JobBatch> Batches { get; }

    /// <summary>Finds a job.</summary>
    /// <param name="key">Its key.</param>
    /// <returns>The job.</returns>
    /// <exception cref="KeyNotFoundException">There is none of that key.</exception>
    public Job this[string key] => _byKey[key];

    /// <summary>Makes the plan.</summary>
    /// <param name="config">The experiment.</param>
    /// <param name="data">Its tasks.</param>
    /// <param name="model">The frozen model.</param>
    /// <returns>The plan.</returns>
    /// <exception cref="InvalidDataException">The data or the model do not fit the experiment.</exception>
    public static ExperimentPlan Build(ExperimentConfig config, ExperimentData data, ExperimentModel model)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(data);
        ArgumentNullException.ThrowIfNull(model);
        long most = (long)config.PromptLength * model.DModel;
        if (config.DI.Concat(config.Baselines.DI).Where(d => d > most).ToArray() is [int tooLarge, ..])
            throw new InvalidDataException($"{config.Name}: d_i {tooLarge}; found a prompt of {config.PromptLength} * d_model {model.DModel} = {most} numbers, expected d_i of at most that many. Lower d_i.");
        ExperimentSplit split = ExperimentSplit.Resolve(config.Split, data, config.Data.Draw);
        foreach (TaskGroup group in config.Groups)
        {
            string[] strange = [.. group.Tasks.Where(t => !data.Names.Contains(t))];
            if (strange.Length > 0) throw new InvalidDataException($"{config.Name}: group \"{group.Name}\" holds {strange[0]}, which is not in gym.json; the nearest is '{NearestName.Of(data.Names, strange[0])}'. Correct the name.");
        }
        // Needed by the report only, which comes hours later: read now, so that a mistake in it is said now.
        if (config.FineTuningScores is { } scores)
            FineTuningScores.Read(scores, data.Names);
        return new PlanBuilder(config, data, model, split).Build();
    }
}
