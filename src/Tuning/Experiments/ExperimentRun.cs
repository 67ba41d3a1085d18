// Carries a plan out: batch by batch, every finished one kept. Deliberately no training (IJobRunner), no statistics (ExperimentResults).
using System.Diagnostics;

namespace IptNative.Tuning.Experiments;

/// <summary>How far an experiment is.</summary>
/// <param name="DoneJobs">Jobs that are stored or cannot run.</param>
/// <param name="Jobs">Jobs in all.</param>
/// <param name="Share">Share of the work that is done, 0 to 1, by token positions.</param>
/// <param name="Text">What runs now.</param>
public readonly record struct ExperimentProgress(int DoneJobs, int Jobs, double Share, string Text);

/// <summary>A job that did not run because another failed.</summary>
/// <param name="Job">Its key.</param>
/// <param name="Because">Key of the failed job.</param>
public sealed record SkippedJob(string Job, string Because);

/// <summary>Runs the jobs of a plan that are not done yet.</summary>
public static class ExperimentRun
{
    /// <summary>Runs until everything is done. It may be stopped at any point: what is finished stays, and the next call goes on.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="store">Where finished jobs are kept.</param>
    /// <param name="runner">Does the work.</param>
    /// <param name="progress">Takes how far it is; may be called often.</param>
    /// <param name="cancel">Stops.</param>
    /// <returns>Jobs that could not run, because what they depend on failed.</returns>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    /// <exception cref="IOException">A result cannot be written; what was stored before stays.</exception>
    public static IReadOnlyList<SkippedJob> Execute(ExperimentPlan plan, JobStore store, IJobRunner runner, Action<ExperimentProgress> progress, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(plan);
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(runner);
        ArgumentNullException.ThrowIfNull(progress);
        double total = Math.Max(1, plan.Batches.Sum(Work)), done = 0;
        int jobs = 0;
        foreach (JobBatch batch in plan.Batches)
        {
            cancel.ThrowIfCancellationRequested();
            Job[] open = [.. batch.Jobs.Where(j => store.Find(j) is null && Blocker(plan, store, j) is null)];
            if (open.Length > 0)
            {
                // Some jobs of a batch can only be there already where another experiment's options made them: then the rest is a batch of its own.
                JobBatch run = open.Length == batch.Jobs.Count ? batch : PlanBatches.Of(open);
                (int doneJobs, double before, double work) = (jobs + batch.Jobs.Count - open.Length, done, Work(batch));
                string what = $"{run.Kind.Name()} ({run.Jobs.Count} side by side)";
                var context = new JobContext(
                    key => store.Find(plan[key]) ?? throw new InvalidOperationException($"{key} is no finished job."),
                    store.WorkFolder(run),
                    (share, text) => progress(new ExperimentProgress(doneJobs, plan.Jobs.Count, (before + (work * Math.Clamp(share, 0, 1))) / total, $"{what} {text}")));
                var clock = Stopwatch.StartNew();
                IReadOnlyList<JobResult> results = runner.Run(run, context, cancel);
                store.Add(run, results, clock.Elapsed.TotalSeconds);
            }
            done += Work(batch);
            jobs += batch.Jobs.Count;
            progress(new ExperimentProgress(jobs, plan.Jobs.Count, done / total, batch.Kind.Name()));
        }
        return Skipped(plan, store);
    }

    /// <summary>Jobs that cannot run because what they depend on failed.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="store">What is done.</param>
    /// <returns>Each with the failed job.</returns>
    public static IReadOnlyList<SkippedJob> Skipped(ExperimentPlan plan, JobStore store)
    {
        ArgumentNullException.ThrowIfNull(plan);
        ArgumentNullException.ThrowIfNull(store);
        return [.. plan.Jobs.Where(j => store.Find(j) is null).Select(j => (Job: j, Blocker: Blocker(plan, store, j))).Where(x => x.Blocker is not null).Select(x => new SkippedJob(x.Job.Key, x.Blocker ?? ""))];
    }

    /// <summary>The failed job that a job waits for in vain; null where it can run. A subspace needs a prompt of every task, never noise in its place:
    /// where a task's runs of several seeds are there, one that did not fail is enough.</summary>
    private static string? Blocker(ExperimentPlan plan, JobStore store, Job job)
    {
        string? Failed(string key) => store.Find(plan[key]) is { } stored ? stored.Result.Failure is null ? null : key : Blocker(plan, store, plan[key]);
        foreach (string key in job.Inputs.Where(i => i.Role != JobNames.Prompt).Select(i => i.Key))
        {
            if (Failed(key) is { } blocker) return blocker;
        }
        foreach (IGrouping<string, string> prompts in job.InputsOf(JobNames.Prompt).GroupBy(key => plan[key].Task, StringComparer.Ordinal))
        {
            if (prompts.All(key => Failed(key) is not null)) return prompts.First();
        }
        return null;
    }

    private static double Work(JobBatch batch) => batch.TrainPositions + (batch.EvaluatePositions / 3);
}
