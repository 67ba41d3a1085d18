// Groups a plan's jobs into batches that run side by side. Deliberately blind to what is done already: a batch must not depend on where a run was stopped.
using System.Security.Cryptography;
using System.Text;

namespace IptNative.Tuning.Experiments;

internal static class PlanBatches
{
    /// <summary>Batches of one stage, kind, prompt length and subspace, of like lengths of text, at most <paramref name="sideBySide"/> jobs each.</summary>
    public static IReadOnlyList<JobBatch> Make(IReadOnlyList<Job> jobs, int sideBySide)
    {
        List<JobBatch> batches = [];
        foreach (var group in jobs.OrderBy(j => j.Stage).ThenBy(j => j.Kind).GroupBy(j => (j.Stage, j.Kind, j.PromptLength, Space: j.Kind == JobKind.Ist ? j.InputsOf(JobNames.Subspace).First() : "")))
        {
            // A subspace has the batch for itself: it mixes all tasks already. Elsewhere neighbours of like length waste little on padding.
            Job[] ordered = [.. group.OrderBy(j => j.TrainPositions + j.EvaluatePositions).ThenBy(j => j.Key, StringComparer.Ordinal)];
            int count = group.Key.Kind == JobKind.Subspace ? ordered.Length : (ordered.Length + sideBySide - 1) / sideBySide;
            for (int i = 0; i < count; i++)
                batches.Add(Of(ordered[(int)((long)i * ordered.Length / count)..(int)((long)(i + 1) * ordered.Length / count)]));
        }
        return batches;
    }

    /// <summary>The jobs as one batch.</summary>
    public static JobBatch Of(IReadOnlyList<Job> jobs) =>
        new(jobs[0].Kind, jobs, Convert.ToHexStringLower(SHA256.HashData(Encoding.ASCII.GetBytes(string.Join('\n', jobs.Select(j => j.Hash))))));
}
