using IptNative.Model.Decoding;
using Xunit;

namespace IptNative.Model.Tests.Decoding;

/// <summary>The look through a row of logits, with and without its normaliser.</summary>
public sealed class LogSumExpTests
{
    public static TheoryData<int> Sizes => [1, 3, 7, 8, 15, 16, 17, 31, 33, 100];

    [Theory]
    [MemberData(nameof(Sizes))]
    public void BothFindTheSameLargest(int size)
    {
        var random = new Random(size);
        for (int at = 0; at < size; at++)
        {
            float[] logits = [.. Enumerable.Range(0, size).Select(_ => (float)random.NextDouble() - 3)];
            logits[at] = -1.5f;
            if (at > 0)
                logits[0] = float.NegativeInfinity;
            LogSumExp.Of(logits, 0, 0, out float expected);
            Assert.Equal(double.NaN, LogSumExp.Max(logits, 0, 0, out float max));
            Assert.Equal((expected, -1.5f), (max, max));
        }
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void BothRefuseWhatIsNotFinite(int size)
    {
        foreach (float bad in (float[])[float.NaN, float.PositiveInfinity])
        {
            for (int at = 0; at < size; at++)
            {
                float[] logits = new float[size];
                logits[at] = bad;
                Same(logits);
            }
        }
        Same([.. Enumerable.Repeat(float.NegativeInfinity, size)]);

        static void Same(float[] logits)
        {
            string expected = Assert.Throws<InvalidDataException>(() => LogSumExp.Of(logits, 3, 5, out _)).Message;
            Assert.Contains("row 3 at step 5", expected, StringComparison.Ordinal);
            Assert.Equal(expected, Assert.Throws<InvalidDataException>(() => LogSumExp.Max(logits, 3, 5, out _)).Message);
        }
    }
}
