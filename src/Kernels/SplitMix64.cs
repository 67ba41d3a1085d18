// The random numbers of everything that must repeat itself. Our own instead of System.Random, whose sequence is not promised to stay the same between runtimes.
namespace IptNative.Kernels;

/// <summary>SplitMix64: 64 bits of state, one stream per list of numbers.</summary>
/// <remarks>Source: Steele, Lea &amp; Flood 2014, Fast Splittable Pseudorandom Number Generators; constants of Vigna's public-domain splitmix64.c.</remarks>
/// <param name="state">Where it stands.</param>
public struct SplitMix64(ulong state)
{
    private const ulong Golden = 0x9E3779B97F4A7C15;

    /// <summary>All that makes the next numbers.</summary>
    public ulong State { get; private set; } = state;

    /// <summary>The stream of a seed and whatever tells its users apart (run, example, sample): neighbouring numbers give unrelated streams, because each is mixed
    /// before the next is added.</summary>
    /// <param name="keys">In a fixed order.</param>
    /// <returns>The stream at its start.</returns>
    public static SplitMix64 Of(params ReadOnlySpan<long> keys)
    {
        ulong state = 0;
        foreach (long key in keys)
            state = Mix(state + (ulong)key + Golden);
        return new SplitMix64(state);
    }

    /// <summary>64 random bits.</summary>
    /// <returns>Any number.</returns>
    public ulong NextUInt64() => Mix(State += Golden);

    /// <summary>Uniform with 53 bits.</summary>
    /// <returns>0 to below 1.</returns>
    public double NextDouble() => (NextUInt64() >> 11) * (1.0 / (1UL << 53));

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
