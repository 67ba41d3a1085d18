// What a job leaves behind. Deliberately without times: those are kept apart, so that results compare equal.
namespace IptNative.Tuning.Experiments;

/// <summary>A tensor of a result.</summary>
/// <param name="Shape">Dimensions.</param>
/// <param name="Values">Row-major.</param>
public sealed record JobTensor(IReadOnlyList<long> Shape, float[] Values);

/// <summary>A point of a training curve.</summary>
/// <param name="Step">Steps done, from 1.</param>
/// <param name="Loss">Mean training loss since the last point.</param>
/// <param name="Dev">Dev score at this step; NaN where there was no evaluation.</param>
public readonly record struct CurvePoint(int Step, double Loss, double Dev);

/// <summary>The outcome of a job.</summary>
public sealed record JobResult
{
    /// <summary>Key of the main score: the task's metric on its test lines (several metrics: their mean).</summary>
    public const string Test = "test";

    /// <summary>Key of the dev score of what was tested.</summary>
    public const string Dev = "dev";

    /// <summary>Key of an untuned model's test score with the task's name in the input.</summary>
    public const string TestWithName = "test_with_name";

    /// <summary>Key of an untuned job's third score: always the commonest answer of the test lines.</summary>
    public const string Majority = "majority";

    /// <summary>Name of the tensor of an intrinsic vector, [d_I].</summary>
    public const string Z = "z";

    /// <summary>Name of the tensor of a prompt, [P, D].</summary>
    public const string PromptTensor = "prompt_embeddings";

    /// <summary>Scores by name, as fractions; NaN where the metric has none.</summary>
    public IReadOnlyDictionary<string, double> Scores { get; init; } = new Dictionary<string, double>();

    /// <summary>The training curve; empty where nothing was trained.</summary>
    public IReadOnlyList<CurvePoint> Curve { get; init; } = [];

    /// <summary>Tensors by name: the prompt, z, or the subspace's weights.</summary>
    public IReadOnlyDictionary<string, JobTensor> Tensors { get; init; } = new Dictionary<string, JobTensor>();

    /// <summary>Free texts that belong to the result (a subspace's header).</summary>
    public IReadOnlyDictionary<string, string> Notes { get; init; } = new Dictionary<string, string>();

    /// <summary>Why the job has no scores, as one sentence (a NaN at a step); null where it has. A failed run of a batch does not stop its neighbours.</summary>
    public string? Failure { get; init; }

    /// <summary>Seconds of the batch that this job accounts for; 0 lets the batch's time be divided by positions.</summary>
    public double Seconds { get; init; }
}

/// <summary>A finished job in the store.</summary>
/// <param name="Job">Key of the job.</param>
/// <param name="Hash">Its hash.</param>
/// <param name="Folder">Holds result.json and, where there are tensors, tensors.safetensors.</param>
/// <param name="Result">Scores, curve and notes; tensors are read on demand.</param>
public sealed record StoredJob(string Job, string Hash, string Folder, JobResult Result)
{
    /// <summary>File of the tensors; may not exist.</summary>
    public string TensorPath => Path.Combine(Folder, JobStore.TensorFileName);
}

/// <summary>What a runner is given beside the batch.</summary>
/// <param name="Input">Finds a finished input by its key. A failed input's dependents are never run.</param>
/// <param name="WorkFolder">A folder for this batch alone, kept between a stop and the continuation, deleted once the batch is stored: for checkpoints.</param>
/// <param name="Progress">Takes the done share of the batch, 0 to 1, and a short text; may be called at any rate.</param>
public sealed record JobContext(Func<string, StoredJob> Input, string WorkFolder, Action<double, string> Progress);

/// <summary>What training and evaluation cost on this machine.</summary>
/// <param name="SecondsPerTrainedPosition">Forward, backward and update.</param>
/// <param name="SecondsPerEvaluatedPosition">Forward and decoding.</param>
public readonly record struct StepCost(double SecondsPerTrainedPosition, double SecondsPerEvaluatedPosition);

/// <summary>Carries jobs out. Made once per experiment, holds the frozen model.</summary>
/// <remarks>A batch run again must give the same results bit for bit: the report of a stopped experiment equals the one of an unstopped.</remarks>
public interface IJobRunner : IDisposable
{
    /// <summary>Runs the jobs of a batch side by side.</summary>
    /// <param name="batch">Jobs whose inputs are all done.</param>
    /// <param name="context">Inputs, working folder, progress.</param>
    /// <param name="cancel">Stop as soon as possible, with a checkpoint in the working folder where that saves work.</param>
    /// <returns>One result per job, in the batch's order. A run that diverged is a result with a <see cref="JobResult.Failure"/>.</returns>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    IReadOnlyList<JobResult> Run(JobBatch batch, JobContext context, CancellationToken cancel);

    /// <summary>Times a few steps, for the plan's estimate.</summary>
    /// <param name="batch">A batch without inputs, usually the plan's first prompt tuning.</param>
    /// <param name="cancel">Stops.</param>
    /// <returns>The cost, or null where it cannot be measured without inputs.</returns>
    StepCost? Measure(JobBatch batch, CancellationToken cancel);
}

/// <summary>Makes the runner of an experiment: the one seam between the plan and the trainer.</summary>
/// <param name="config">The experiment.</param>
/// <param name="data">Its tasks.</param>
/// <returns>A runner; the caller disposes it.</returns>
public delegate IJobRunner JobRunnerFactory(ExperimentConfig config, ExperimentData data);
