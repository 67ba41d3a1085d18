using IptNative.Kernels;
using IptNative.Model.Decoding;
using Xunit;

namespace IptNative.Model.Tests.Decoding;

public sealed class TokenSamplerTests
{
    private const int Draws = 20000;

    private static double[] Frequencies(GenerationOptions options, float[] logits, int forbidden = -1)
    {
        var sampler = new TokenSampler(options with { DoSample = true }, logits.Length);
        SplitMix64 random = SplitMix64.Of(1, 2, 3);
        var counts = new double[logits.Length];
        for (int i = 0; i < Draws; i++) counts[sampler.Draw(logits, forbidden, ref random)] += 1.0 / Draws;
        return counts;
    }

    private static float[] Log(params double[] p) => [.. p.Select(x => (float)Math.Log(x))];

    // Five standard deviations of a frequency at 20,000 draws: 5 * sqrt(0.25 / 20000); the draws are seeded, so nothing here is left to chance.
    private static void Near(double[] expected, double[] actual)
    {
        for (int v = 0; v < expected.Length; v++)
            if (expected[v] == 0) Assert.Equal(0, actual[v]);
            else Assert.Equal(expected[v], actual[v], 0.018);
    }

    [Fact]
    public void PlainSamplingHasTheModelsFrequencies() =>
        Near([0.1, 0.2, 0.3, 0.4], Frequencies(new GenerationOptions(), Log(0.1, 0.2, 0.3, 0.4)));

    [Fact]
    public void TemperatureDividesTheLogits() =>
        Near([1 / 21.0, 4 / 21.0, 16 / 21.0], Frequencies(new GenerationOptions { Temperature = 0.5 }, Log(1 / 7.0, 2 / 7.0, 4 / 7.0)));

    [Fact]
    public void TopKKeepsTies() =>
        Near([0, 0.3, 0.3, 0.4], Frequencies(new GenerationOptions { TopK = 2 }, Log(0.1, 0.27, 0.27, 0.36)));

    [Fact]
    public void TopKOfAllOrMoreKeepsAll() =>
        Near([0.5, 0.25, 0.25], Frequencies(new GenerationOptions { TopK = 3 }, Log(0.5, 0.25, 0.25)));

    [Theory]
    [InlineData(0.6, new[] { 0.0, 0.0, 3 / 7.0, 4 / 7.0 })]
    [InlineData(0.39, new[] { 0.0, 0, 0, 1 })]
    [InlineData(0.95, new[] { 0.1, 0.2, 0.3, 0.4 })]
    public void TopPKeepsTheShortestPrefixThatReachesTheMass(double topP, double[] expected) =>
        Near(expected, Frequencies(new GenerationOptions { TopP = topP }, Log(0.1, 0.2, 0.3, 0.4)));

    [Fact]
    public void TopPTakesTheLowestIdAmongEquals() =>
        Near([1, 0, 0, 0], Frequencies(new GenerationOptions { TopP = 0.2 }, [0, 0, 0, 0]));

    [Fact]
    public void AForbiddenTokenIsNeverDrawn()
    {
        Near([0.5, 0, 0.5], Frequencies(new GenerationOptions { TopK = 2 }, Log(0.1, 0.8, 0.1), forbidden: 1));
        Near([1, 0, 0], Frequencies(new GenerationOptions(), [float.NegativeInfinity, 0, float.NegativeInfinity], forbidden: 1));
    }

    [Theory]
    [InlineData(7)]
    [InlineData(33)]
    [InlineData(1000)]
    public void TopKEqualsASort(int vocab)
    {
        SplitMix64 random = SplitMix64.Of(vocab, 0, 0);
        float[] logits = [.. Enumerable.Range(0, vocab).Select(_ => (float)(random.NextDouble() * 0.1))];
        foreach (int k in new[] { 1, 2, 5, 6 })
        {
            float least = logits.OrderDescending().ElementAt(k - 1);
            double[] drawn = Frequencies(new GenerationOptions { TopK = k }, logits);
            Assert.Equal(logits.Select(x => x >= least), drawn.Select(f => f > 0));
        }
    }

    [Fact]
    public void TheRandomNumbersArePinned()
    {
        // splitmix64.c seeded with 1234567, as published with its test vectors.
        var random = new SplitMix64(1234567);
        Assert.Equal([6457827717110365317UL, 3203168211198807973UL, 9817491932198370423UL, 4593380528125082431UL], [random.NextUInt64(), random.NextUInt64(), random.NextUInt64(), random.NextUInt64()]);
    }
}
