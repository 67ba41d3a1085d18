// What a replay of a fixture found: one row per quantity. Not: how the numbers were made.
namespace IptNative.Tuning.Parity;

/// <summary>How a quantity fared.</summary>
public enum ParityStatus
{
    /// <summary>Inside its tolerance.</summary>
    Passed,

    /// <summary>Outside its tolerance, or not finite.</summary>
    Failed,

    /// <summary>Not compared; the reason says why.</summary>
    Skipped,
}

/// <summary>One quantity of a fixture beside ours.</summary>
/// <param name="Name">The fixture's name: logits, grad_prompt, ...</param>
/// <param name="Status">How it fared.</param>
/// <param name="MaxAbs">Largest |ours - expected|; for tokens the number that differ.</param>
/// <param name="MaxRel"><paramref name="MaxAbs"/> over the largest |expected| of the quantity.</param>
/// <param name="Tolerance">Largest <paramref name="MaxRel"/> allowed.</param>
/// <param name="Reason">Why the tolerance is what it is, or why the quantity was skipped.</param>
/// <param name="Worst">Where the largest difference is: index, expected, ours; empty where they agree.</param>
public sealed record ParityRow(string Name, ParityStatus Status, double MaxAbs, double MaxRel, double Tolerance, string Reason, string Worst = "")
{
    /// <summary>A row for a quantity that is not compared.</summary>
    /// <param name="name">The quantity.</param>
    /// <param name="reason">Why not.</param>
    /// <returns>The row.</returns>
    public static ParityRow Skip(string name, string reason) => new(name, ParityStatus.Skipped, 0, 0, 0, reason);
}

/// <summary>A whole replay.</summary>
/// <param name="Fixture">The folder.</param>
/// <param name="Checkpoint">The weights that were used.</param>
/// <param name="WeightDType">Their element type.</param>
/// <param name="Rows">One per quantity, in the order of the computation.</param>
public sealed record ParityReport(string Fixture, string Checkpoint, string WeightDType, IReadOnlyList<ParityRow> Rows)
{
    /// <summary>Number of rows with a status.</summary>
    /// <param name="status">The status.</param>
    /// <returns>0 or more.</returns>
    public int Count(ParityStatus status) => Rows.Count(row => row.Status == status);

    /// <summary>True where nothing failed and at least one quantity was compared.</summary>
    public bool Passed => Count(ParityStatus.Failed) == 0 && Count(ParityStatus.Passed) > 0;
}
