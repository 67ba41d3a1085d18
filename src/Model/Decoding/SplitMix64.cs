// The random numbers of sampling. Our own instead of System.Random, whose sequence is not promised to stay the same between runtimes.
namespace IptNative.Model.Decoding;

/// <summary>SplitMix64: 64 bits of state, one stream per (seed, example, sample).</summary>
/// <remarks>Source: Steele, Lea &amp; Flood 2014, Fast Splittable Pseudorandom Number Generators; constants of Vigna's public-domain splitmix64.c.</remarks>
internal struct SplitMix64
{
    private const ulong Golden = 0x9E3779B97F4A7C15;

    private ulong _state;

    public SplitMix64(ulong state) => _state = state;

    /// <summary>The stream of one sample: neighbouring numbers give unrelated streams, because each is mixed before the next is added.</summary>
    public static SplitMix64 ForSample(long seed, long stream, int sample) =>
        new(Mix(Mix(Mix((ulong)seed + Golden) + (ulong)stream + Golden) + (ulong)sample + Golden));

    public ulong NextUInt64() => Mix(_state += Golden);

    /// <summary>Uniform in [0, 1) with 53 bits.</summary>
    public double NextDouble() => (NextUInt64() >> 11) * (1.0 / (1UL << 53));

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
