using System.Security.Cryptography;
using System.Text;
using IptNative.Tasks.Sampling;
using Xunit;

namespace IptNative.Tasks.Tests.Sampling;

// All golden values were printed by numpy 1.24.2.
public sealed class NumpyLegacyRandomTests
{
    [Theory]
    [InlineData(0u, new[] { 2357136044u, 2546248239u, 3071714933u, 3626093760u })]
    [InlineData(13u, new[] { 3340206418u, 2608511152u, 1020231754u, 3691240976u })]
    [InlineData(42u, new[] { 1608637542u, 3421126067u, 4083286876u, 787846414u })]
    [InlineData(100u, new[] { 2333906440u, 2882591512u, 1195587395u, 1769725799u })]
    [InlineData(4294967295u, new[] { 419326371u, 479346978u, 3918654476u, 2416749639u })]
    public void BitsAreNumpys(uint seed, uint[] expected)
    {
        var random = new NumpyLegacyRandom(seed);
        Assert.Equal(expected, expected.Select(_ => random.NextUInt32()));
    }

    [Theory]
    [InlineData(100u, new[] { 7, 6, 1, 5, 4, 2, 0, 3, 9, 8 })]
    [InlineData(13u, new[] { 15, 8, 14, 1, 7, 5, 12, 13, 11, 3, 9, 4, 2, 6, 0, 10, 16 })]
    [InlineData(42u, new[] { 31, 15, 26, 17, 8, 9, 19, 21, 12, 0, 4, 16, 5, 13, 11, 24, 1, 2, 29, 3, 27, 23, 30, 22, 18, 25, 6, 20, 32, 7, 10, 14, 28 })]
    [InlineData(21u, new[] { 0 })]
    [InlineData(87u, new[] { 1, 0 })]
    public void ShufflesAreNumpys(uint seed, int[] expected)
    {
        int[] items = [.. Enumerable.Range(0, expected.Length)];
        new NumpyLegacyRandom(seed).Shuffle<int>(items);
        Assert.Equal(expected, items);
    }

    [Fact]
    public void ALongShuffleIsNumpys()
    {
        // 70,000 crosses 2^16, where the rejection mask widens, and many refills of the state.
        int[] items = [.. Enumerable.Range(0, 70000)];
        new NumpyLegacyRandom(13).Shuffle<int>(items);
        Assert.Equal("5ad6026cc0d839a8fbbccf38dbb236e7e3b476c3247017b98eb972f61d262f20", Convert.ToHexStringLower(SHA256.HashData(Encoding.ASCII.GetBytes(string.Join(',', items)))));
    }

    [Fact]
    public void ASecondShuffleGoesOn()
    {
        var random = new NumpyLegacyRandom(100);
        int[] a = [0, 1, 2, 3, 4];
        int[] b = [0, 1, 2, 3, 4, 5, 6];
        random.Shuffle<int>(a);
        random.Shuffle<int>(b);
        Assert.Equal([1, 2, 3, 4, 0], a);
        Assert.Equal([3, 0, 5, 1, 2, 4, 6], b);
    }

    [Fact]
    public void ArraySeedsAreNumpys()
    {
        var random = new NumpyLegacyRandom(7, 3);
        int[] items = [0, 1, 2, 3, 4, 5, 6, 7, 8];
        random.Shuffle<int>(items);
        Assert.Equal([6, 3, 5, 1, 7, 8, 4, 2, 0], items);
        Assert.Equal(0.4449843253924227, random.NextDouble());
        Assert.Throws<ArgumentException>(() => new NumpyLegacyRandom([]));
    }

    [Fact]
    public void DoublesAreNumpys()
    {
        // RandomState(42): two tomaxint() calls take two outputs each, then random_sample(2).
        var random = new NumpyLegacyRandom(42);
        for (int i = 0; i < 4; i++) random.NextUInt32();
        Assert.Equal([0.7319939418114051, 0.5986584841970366], [random.NextDouble(), random.NextDouble()]);
    }
}
