// Trains the points of a sweep that are not done. Deliberately not: several at once in one process; --shard is for that.
using System.Text;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Sweeps;

/// <summary>Runs a sweep or a part of it.</summary>
/// <remarks>
/// A point is an ordinary run folder below points/, so that a killed one goes on from its checkpoint. done.json beside its result holds the options that
/// it was done with: the same options again are not trained again, other ones are refused. Shards share nothing but the folder; whoever finishes a point
/// writes the table anew, whole, from all points that are done.
/// </remarks>
public static class SweepRun
{
    private const string DoneName = "done.json", ResultName = "result.json";

    /// <summary>Trains what is missing.</summary>
    /// <param name="plan">The sweep.</param>
    /// <param name="shard">Which part.</param>
    /// <param name="train">Trains a point: goes on with what its folder holds.</param>
    /// <param name="note">Takes sentences for the user.</param>
    /// <param name="cancel">Ends the work soon; the sweep can be started again.</param>
    /// <returns>The table of all points that are done, other shards' too.</returns>
    /// <exception cref="InvalidDataException">A point's folder holds a run with other options, or as a training.</exception>
    /// <exception cref="IOException">Another process trains one of the points, or a file cannot be written.</exception>
    public static SweepTable Execute(SweepPlan plan, SweepShard shard, Action<SweepPoint> train, Action<string> note, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(plan);
        ArgumentNullException.ThrowIfNull(train);
        ArgumentNullException.ThrowIfNull(note);
        SweepPoint[] own = [.. plan.Points.Where(shard.Has)];
        Directory.CreateDirectory(plan.Folder);
        foreach (SweepPoint point in own)
        {
            cancel.ThrowIfCancellationRequested();
            if (IsDone(point))
            {
                note($"{point.Name} is done");
                continue;
            }
            note($"{point.Name}: point {point.Index + 1} of {plan.Points.Count}");
            train(point);
            AtomicFile.Write(Path.Combine(point.Config.Output, DoneName), stream => stream.Write(Encoding.UTF8.GetBytes(SweepPlan.Options(point.Config))));
            Publish(plan);
        }
        return Publish(plan);
    }

    /// <summary>Writes sweep.csv and sweep.html from what is done now, by all shards.</summary>
    /// <param name="plan">The sweep.</param>
    /// <returns>The table.</returns>
    /// <remarks>Looks again after it has written: a shard may have finished a point, and written a longer table, between this one's look and its writing.</remarks>
    /// <exception cref="InvalidDataException">A result is damaged, or of other options.</exception>
    /// <exception cref="IOException">A file cannot be written.</exception>
    public static SweepTable Publish(SweepPlan plan)
    {
        ArgumentNullException.ThrowIfNull(plan);
        Directory.CreateDirectory(plan.Folder);
        SweepTable table;
        do
        {
            table = Collect(plan);
            SweepReport.Write(plan, table);
        }
        while (Collect(plan).Done != table.Done);
        return table;
    }

    /// <summary>What is known now, of all shards.</summary>
    /// <param name="plan">The sweep.</param>
    /// <returns>The table.</returns>
    /// <exception cref="InvalidDataException">A result is damaged.</exception>
    public static SweepTable Collect(SweepPlan plan)
    {
        ArgumentNullException.ThrowIfNull(plan);
        return new SweepTable(plan.Axes, [.. plan.Points.Where(IsDone).SelectMany(p => SweepTable.Read(p, Path.Combine(p.Config.Output, ResultName)))], plan.Points.Count(IsDone), plan.Points.Count);
    }

    internal static bool IsDone(SweepPoint point)
    {
        string done = Path.Combine(point.Config.Output, DoneName);
        if (!File.Exists(done) || !File.Exists(Path.Combine(point.Config.Output, ResultName)))
            return false;
        return File.ReadAllText(done) == SweepPlan.Options(point.Config) ? true
            : throw new InvalidDataException($"{point.Config.Output}: the point was trained with other options than the sweep has now (see {DoneName}). Give the sweep another output, or remove this folder.");
    }
}
