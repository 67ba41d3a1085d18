// How long a benchmark's examples are. Deliberately not their content: tokens are random.
namespace IptNative.Tuning.Benchmarks;

/// <summary>Lengths of a benchmark batch.</summary>
public enum SourceLengths
{
    /// <summary>All examples alike: nothing is padding.</summary>
    Fixed,

    /// <summary>As in a few-shot gym: exponential, 25 tokens in the mean, 96 the longest.</summary>
    Gym,
}

/// <summary>Makes the lengths.</summary>
internal static class SourceLengthTable
{
    /// <summary>Tokens in the mean of a gym batch.</summary>
    public const int GymMean = 25;

    /// <summary>Tokens of the longest example of a gym batch.</summary>
    public const int GymLongest = 96;

    private const int GymShortest = 4;

    /// <summary>Source tokens of each example, the prompt not included; the same at every call.</summary>
    /// <param name="lengths">Which distribution.</param>
    /// <param name="batch">Examples, 1 or more.</param>
    /// <param name="source">Tokens where all are alike.</param>
    /// <returns>[batch].</returns>
    public static int[] Of(SourceLengths lengths, int batch, int source)
    {
        int[] made = new int[batch];
        Array.Fill(made, source);
        if (lengths == SourceLengths.Fixed)
            return made;
        // One example is as long as any may be; the others share what is left of the mean, so that every batch size has the same mean and padding.
        var random = new Random(0);
        made[0] = GymLongest;
        double rest = Math.Max(GymShortest, (GymMean * (double)batch - GymLongest) / Math.Max(1, batch - 1));
        double[] draws = [.. Enumerable.Range(1, batch - 1).Select(_ => -Math.Log(1 - random.NextDouble()))];
        double scale = draws.Length == 0 ? 0 : (rest - GymShortest) / draws.Average();
        double carried = 0;
        for (int b = 1; b < batch; b++)
        {
            double wanted = GymShortest + draws[b - 1] * scale + carried;
            made[b] = (int)Math.Clamp(Math.Round(wanted), GymShortest, GymLongest);
            carried = wanted - made[b];
        }
        return made;
    }
}
