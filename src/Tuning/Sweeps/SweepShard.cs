// Which part of a sweep a process computes.
namespace IptNative.Tuning.Sweeps;

/// <summary>A part of a sweep that one process computes.</summary>
/// <param name="Number">From 1.</param>
/// <param name="Count">How many parts there are.</param>
public readonly record struct SweepShard(int Number, int Count)
{
    /// <summary>The whole sweep.</summary>
    public static SweepShard Whole { get; } = new(1, 1);

    /// <summary>Reads "i/n".</summary>
    /// <param name="text">The text.</param>
    /// <returns>The part.</returns>
    /// <exception cref="ArgumentException">It has no such form, or i is not 1 to n.</exception>
    public static SweepShard Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] parts = text.Split('/');
        if (parts.Length != 2 || !int.TryParse(parts[0], out int number) || !int.TryParse(parts[1], out int count))
            throw new ArgumentException($"shard {text}: expected i/n, for example 2/8.");
        return count >= 1 && number >= 1 && number <= count ? new SweepShard(number, count) : throw new ArgumentException($"shard {text}: expected i from 1 to n = {count}, and n 1 or more.");
    }

    /// <summary>Whether a point is this part's: points go round, so that neighbours, which cost alike, are spread.</summary>
    /// <param name="point">The point.</param>
    /// <returns>True for exactly one part.</returns>
    public bool Has(SweepPoint point)
    {
        ArgumentNullException.ThrowIfNull(point);
        return point.Index % Count == Number - 1;
    }
}
