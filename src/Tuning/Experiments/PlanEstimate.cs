// What is left of a plan and how long it will take. Deliberately an estimate by token positions: good to a fifth, not to a second.
namespace IptNative.Tuning.Experiments;

/// <summary>One kind of job in a plan.</summary>
/// <param name="Kind">The kind.</param>
/// <param name="Jobs">Jobs of it.</param>
/// <param name="Done">Of them stored already.</param>
/// <param name="Batches">Batches left.</param>
/// <param name="Seconds">Time that is left; null where nothing was measured yet.</param>
public readonly record struct PlanLine(JobKind Kind, int Jobs, int Done, int Batches, double? Seconds);

/// <summary>A plan's jobs by kind, with the time that they will take.</summary>
/// <param name="Lines">One per kind that the plan has, in the order of work.</param>
/// <param name="Source">Where the time comes from: "finished jobs", "a measured step" or "nothing measured yet".</param>
public sealed record PlanEstimate(IReadOnlyList<PlanLine> Lines, string Source)
{
    /// <summary>Seconds that are left; null where nothing was measured yet.</summary>
    public double? Seconds => Lines.All(l => l.Seconds is not null) ? Lines.Sum(l => l.Seconds ?? 0) : null;

    /// <summary>Estimates from finished jobs where there are any, otherwise from a measured step.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="store">What is done.</param>
    /// <param name="measured">A runner's measurement, or null.</param>
    /// <returns>The estimate.</returns>
    public static PlanEstimate Make(ExperimentPlan plan, JobStore store, StepCost? measured)
    {
        ArgumentNullException.ThrowIfNull(plan);
        ArgumentNullException.ThrowIfNull(store);
        IReadOnlyCollection<JobTiming> done = [.. store.Timings.Values];
        StepCost? cost = Fit(done) ?? measured;
        PlanLine[] lines = [.. plan.Batches.GroupBy(b => b.Kind).Select(group =>
        {
            Job[] open = [.. group.SelectMany(b => b.Jobs).Where(j => store.Find(j) is null)];
            int jobs = group.Sum(b => b.Jobs.Count);
            // A kind's own jobs know what no step says: how well its batches pack, and how early its runs stop.
            StepCost? own = Fit([.. done.Where(t => t.Kind == group.Key)]) ?? cost;
            double? seconds = open.Length == 0 ? 0 : own is { } c ? open.Sum(j => (j.TrainPositions * c.SecondsPerTrainedPosition) + (j.EvaluatePositions * c.SecondsPerEvaluatedPosition)) : null;
            return new PlanLine(group.Key, jobs, jobs - open.Length, group.Count(b => b.Jobs.Any(j => store.Find(j) is null)), seconds);
        })];
        return new PlanEstimate(lines, Fit(done) is not null ? "finished jobs" : measured is not null ? "a measured step" : "nothing measured yet");
    }

    /// <summary>One rate for both kinds of position, evaluation counted as a third of training: forward without backward and update.</summary>
    private static StepCost? Fit(IReadOnlyCollection<JobTiming> timings)
    {
        const double ForwardShare = 1.0 / 3;
        double positions = timings.Sum(t => t.TrainPositions + (ForwardShare * t.EvaluatePositions)), seconds = timings.Sum(t => t.Seconds);
        return positions > 0 && seconds > 0 ? new StepCost(seconds / positions, ForwardShare * seconds / positions) : null;
    }
}
