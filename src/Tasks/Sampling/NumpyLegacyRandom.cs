// numpy's np.random.seed / RandomState, as far as few-shot samples need it. Deliberately not numpy's newer Generator, whose numbers differ.
namespace IptNative.Tasks.Sampling;

/// <summary>The Mersenne Twister MT19937 with numpy's legacy seeding, bounded integers and shuffle: same seed, same order as Python.</summary>
/// <remarks>Source: Matsumoto &amp; Nishimura 1998, mt19937ar.c; numpy/random/mtrand.pyx (shuffle of a list) and distributions.c (random_interval).</remarks>
public sealed class NumpyLegacyRandom
{
    private const int N = 624;
    private const int M = 397;
    private readonly uint[] _state = new uint[N];
    private int _position = N;

    /// <summary>As RandomState(seed) or np.random.seed(seed).</summary>
    /// <param name="seed">Any 32-bit number.</param>
    public NumpyLegacyRandom(uint seed) => Initialise(seed);

    /// <summary>As RandomState([seed, ...]).</summary>
    /// <param name="seeds">At least one number.</param>
    /// <exception cref="ArgumentException">No number was given.</exception>
    public NumpyLegacyRandom(params ReadOnlySpan<uint> seeds)
    {
        if (seeds.IsEmpty) throw new ArgumentException("Seeding numpy's random numbers: no seed was given; expected at least one.", nameof(seeds));
        Initialise(19650218);
        uint i = 1;
        int j = 0;
        for (int k = Math.Max(N, seeds.Length); k > 0; k--)
        {
            _state[i] = (_state[i] ^ ((_state[i - 1] ^ (_state[i - 1] >> 30)) * 1664525)) + seeds[j] + (uint)j;
            if (++i == N) (_state[0], i) = (_state[N - 1], 1);
            if (++j == seeds.Length) j = 0;
        }
        for (int k = N - 1; k > 0; k--)
        {
            _state[i] = (_state[i] ^ ((_state[i - 1] ^ (_state[i - 1] >> 30)) * 1566083941)) - i;
            if (++i == N) (_state[0], i) = (_state[N - 1], 1);
        }
        _state[0] = 0x80000000;
    }

    /// <summary>32 random bits.</summary>
    /// <returns>The next output of the twister.</returns>
    public uint NextUInt32()
    {
        if (_position == N) Twist();
        uint y = _state[_position++];
        y ^= y >> 11;
        y ^= (y << 7) & 0x9D2C5680;
        y ^= (y << 15) & 0xEFC60000;
        return y ^ (y >> 18);
    }

    /// <summary>As random_sample(): uniform in [0, 1) with 53 bits.</summary>
    /// <returns>The number.</returns>
    public double NextDouble() => ((NextUInt32() >> 5) * 67108864.0 + (NextUInt32() >> 6)) / 9007199254740992.0;

    /// <summary>numpy's random_interval: uniform in [0, max] by masking and rejection.</summary>
    /// <param name="max">Largest value.</param>
    /// <returns>The number; 0 draws nothing where max is 0.</returns>
    public uint NextUpTo(uint max)
    {
        if (max == 0) return 0;
        uint mask = uint.MaxValue >> System.Numerics.BitOperations.LeadingZeroCount(max);
        uint value;
        do value = NextUInt32() & mask;
        while (value > max);
        return value;
    }

    /// <summary>As np.random.shuffle of a list.</summary>
    /// <typeparam name="T">Item type.</typeparam>
    /// <param name="items">Shuffled in place.</param>
    public void Shuffle<T>(Span<T> items)
    {
        for (int i = items.Length - 1; i > 0; i--)
        {
            int j = (int)NextUpTo((uint)i);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }

    private void Initialise(uint seed)
    {
        _state[0] = seed;
        for (uint i = 1; i < N; i++) _state[i] = 1812433253 * (_state[i - 1] ^ (_state[i - 1] >> 30)) + i;
    }

    private void Twist()
    {
        for (int i = 0; i < N; i++)
        {
            uint y = (_state[i] & 0x80000000) | (_state[(i + 1) % N] & 0x7FFFFFFF);
            _state[i] = _state[(i + M) % N] ^ (y >> 1) ^ ((y & 1) * 0x9908B0DF);
        }
        _position = 0;
    }
}
