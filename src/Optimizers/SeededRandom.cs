// Seeded random numbers that stay the same for ever, with a state that a checkpoint can keep. Deliberately not System.Random, whose sequence is not promised.
using IptNative.Kernels;

namespace IptNative.Optimizers;

/// <summary>Uniform and normal numbers of one stream; SplitMix64 underneath.</summary>
/// <remarks>Source: Steele, Lea and Flood 2014; normals by Marsaglia's polar method, both of a pair used.</remarks>
public sealed class SeededRandom
{
    private SplitMix64 _bits;
    private double _spare;
    private bool _hasSpare;

    /// <summary>Begins a stream.</summary>
    /// <param name="seed">Any number.</param>
    /// <param name="stream">Streams of one seed are unrelated: restart, run or tensor number.</param>
    public SeededRandom(long seed, long stream = 0) => _bits = SplitMix64.Of(seed, stream);

    /// <summary>64 random bits.</summary>
    /// <returns>Any number.</returns>
    public ulong NextUInt64() => _bits.NextUInt64();

    /// <summary>Uniform with 53 bits.</summary>
    /// <returns>0 to below 1.</returns>
    public double NextDouble() => _bits.NextDouble();

    /// <summary>A whole number, each with the same chance up to 2^-32.</summary>
    /// <param name="count">1 or more.</param>
    /// <returns>0 to count - 1.</returns>
    public int Next(int count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        return (int)(((NextUInt64() >> 32) * (ulong)count) >> 32);
    }

    /// <summary>Normal with mean 0 and variance 1.</summary>
    /// <returns>Finite.</returns>
    public double NextNormal()
    {
        if (_hasSpare)
        {
            _hasSpare = false;
            return _spare;
        }
        double u, v, s;
        do
        {
            u = 2 * NextDouble() - 1;
            v = 2 * NextDouble() - 1;
            s = u * u + v * v;
        }
        while (s is >= 1 or 0);
        double factor = Math.Sqrt(-2 * Math.Log(s) / s);
        (_spare, _hasSpare) = (v * factor, true);
        return u * factor;
    }

    /// <summary>All that makes the next numbers.</summary>
    /// <returns>For <see cref="Restore"/>.</returns>
    public (ulong State, double? Spare) Save() => (_bits.State, _hasSpare ? _spare : null);

    /// <summary>Goes on where <see cref="Save"/> was called.</summary>
    /// <param name="saved">Its result.</param>
    public void Restore((ulong State, double? Spare) saved) => (_bits, _hasSpare, _spare) = (new SplitMix64(saved.State), saved.Spare.HasValue, saved.Spare ?? 0);
}
