using System.Numerics;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Reference;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

public sealed class AttentionReferenceTests
{
    [Fact]
    public void BackwardIsTheDerivative()
    {
        const int Tk = 7;
        var random = new Random(1);
        double[] s = [.. Enumerable.Range(0, 2 * Tk).Select(_ => 4 * random.NextDouble())], dp = [.. s.Select(_ => random.NextDouble() - 0.5)];
        bool[] visible = [.. Enumerable.Range(0, 2 * Tk).Select(i => i % Tk < 5)];
        double[] expected = ComplexStep.Gradient(at => AttentionReference.Forward<Complex, ComplexMath>(at, null, visible, 2, 1, 1, Tk), s, dp);
        double[] p = AttentionReference.Forward<double, DoubleMath>(s, null, visible, 2, 1, 1, Tk);
        double[] actual = AttentionReference.Backward(p, dp, 2, Tk);
        for (int i = 0; i < s.Length; i++)
            Assert.Equal(expected[i], actual[i], 1e-14);
    }
}

public abstract class AttentionProbabilitiesTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    [Theory]
    [MemberData(nameof(OpSizes.Widths), MemberType = typeof(OpSizes))]
    public void ForwardMatchesTheReference(int Tk)
    {
        const int Batch = 3, H = 2, Tq = 3;
        float[] scores = Normal(Batch * H * Tq * Tk, 1, 4), bias = Normal(H * Tq * Tk, 2);
        // Full, padded, and an example without any key.
        int[] lengths = [Tk, (Tk + 1) / 2, 0];
        bool[] visible = Visible(Batch, Tq, Tk, (b, _, k) => k < lengths[b]);
        Tensor p = Upload(scores);
        AttentionProbabilities.ForwardInPlace(Device, p, Upload(bias), new KeyMask(Upload(lengths), default, false), Batch, H, Tq, Tk, BiasLayout.Full);
        Check(scores, bias, visible, Download(p), Batch, H, Tq, Tk);
        Assert.All(Download(p)[^Tk..], v => Assert.Equal(1f / Tk, v));

        // The same mask as numbers.
        float[] mask = [.. Enumerable.Range(0, Batch * Tk).Select(i => i % Tk < lengths[i / Tk] ? 0f : float.MinValue)];
        Tensor masked = Upload(scores);
        AttentionProbabilities.ForwardInPlace(Device, masked, Upload(bias), new KeyMask(default, Upload(mask), false), Batch, H, Tq, Tk, BiasLayout.Full);
        Check(scores, bias, visible, Download(masked), Batch, H, Tq, Tk);
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(9, 9)]
    [InlineData(3, 17)]
    [InlineData(5, 2)]
    public void CausalRowsSeeThemselvesAndWhatLiesBefore(int Tq, int Tk)
    {
        float[] scores = Normal(2 * Tq * Tk, 1, 4);
        bool[] visible = Visible(1, Tq, Tk, (_, q, k) => k <= q + Tk - Tq);
        Tensor p = Upload(scores);
        AttentionProbabilities.ForwardInPlace(Device, p, default, new KeyMask(default, default, true), 1, 2, Tq, Tk, BiasLayout.Full);
        Check(scores, null, visible, Download(p), 1, 2, Tq, Tk);
    }

    [Fact]
    public void BiasByDistanceEqualsBiasInFull()
    {
        const int H = 3, Tq = 5, Tk = 17;
        float[] table = Normal(32 * H, 1), scores = Normal(H * Tq * Tk, 2);
        Tensor full = Empty(H * Tq * Tk), distance = Empty(H * (Tq + Tk - 1)), a = Upload(scores), b = Upload(scores);
        RelativePositionBias.Forward(Device, Upload(table), full, 32, H, Tq, Tk, true, 128);
        RelativePositionBias.ForwardByDistance(Device, Upload(table), distance, 32, H, Tq, Tk, true, 128);
        AttentionProbabilities.ForwardInPlace(Device, a, full, default, 1, H, Tq, Tk, BiasLayout.Full);
        AttentionProbabilities.ForwardInPlace(Device, b, distance, default, 1, H, Tq, Tk, BiasLayout.ByDistance);
        TensorAssert.SameBits(Download(a), Download(b), "the two layouts");
    }

    [Fact]
    public void LargeScoresDoNotOverflow()
    {
        Tensor p = Upload([1000f, 1f, 1000f, -1000f]);
        AttentionProbabilities.ForwardInPlace(Device, p, default, default, 1, 1, 2, 2, BiasLayout.Full);
        Assert.Equal([1f, 0f, 1f, 0f], Download(p));
    }

    [Fact]
    public void NaNReachesTheWholeRowAndNoOther()
    {
        float[] scores = Normal(2 * 33, 1);
        scores[20] = float.NaN;
        Tensor p = Upload(scores);
        AttentionProbabilities.ForwardInPlace(Device, p, default, default, 1, 1, 2, 33, BiasLayout.Full);
        Assert.All(Download(p)[..33], v => Assert.True(float.IsNaN(v)));
        Assert.All(Download(p)[33..], v => Assert.True(float.IsFinite(v)));
    }

    [Theory]
    [MemberData(nameof(OpSizes.Widths), MemberType = typeof(OpSizes))]
    public void BackwardMatchesTheReference(int Tk)
    {
        const int Rows = 5;
        Tensor p = Upload(Normal(Rows * Tk, 1, 3)), ds = Empty(Rows * Tk);
        AttentionProbabilities.ForwardInPlace(Device, p, default, default, 1, 1, Rows, Tk, BiasLayout.Full);
        float[] dp = Normal(Rows * Tk, 2), probabilities = Download(p);
        AttentionProbabilities.Backward(Device, p, Upload(dp), ds, Rows, Tk);
        double[] expected = AttentionReference.Backward(Widen(probabilities), Widen(dp), Rows, Tk);
        double largest = dp.Max(Math.Abs);
        // The mean rounded, the difference, the product: three halves of an eps of p max|dp|.
        TensorAssert.Close(expected, Download(ds), i => 2 * TensorAssert.Eps * probabilities[i] * largest, $"AttentionProbabilities.Backward Tk={Tk}");
        Tensor inPlace = Upload(dp);
        AttentionProbabilities.Backward(Device, p, inPlace, inPlace, Rows, Tk);
        TensorAssert.SameBits(Download(ds), Download(inPlace), "ds over dp");
    }

    [Fact]
    public void ThreadsDoNotMatter()
    {
        (float[] one, float[] two) = OnOneAndTwoThreads(() =>
        {
            Tensor p = Upload(Normal(4 * 3 * 50 * 129, 1)), ds = Empty(4 * 3 * 50 * 129);
            AttentionProbabilities.ForwardInPlace(Device, p, default, new KeyMask(Upload([129, 64, 1, 0]), default, false), 4, 3, 50, 129, BiasLayout.Full);
            AttentionProbabilities.Backward(Device, p, Upload(Normal(4 * 3 * 50 * 129, 2)), ds, 600, 129);
            return Download(ds);
        });
        TensorAssert.SameBits(one, two, "attention on 1 and 2 threads");
    }

    [Fact]
    public void AnImpossibleLengthIsNamed()
    {
        Tensor p = Upload(new float[6]);
        var e = Refusal(() => AttentionProbabilities.ForwardInPlace(Device, p, default, new KeyMask(Upload([4, 2]), default, false), 2, 1, 1, 3, BiasLayout.Full));
        Assert.StartsWith("AttentionProbabilities.ForwardInPlace: mask.Lengths[0] is 4, expected 0 to Tk = 3.", e.Message);
    }

    private static bool[] Visible(int batch, int Tq, int Tk, Func<int, int, int, bool> visible) =>
        [.. Enumerable.Range(0, batch * Tq * Tk).Select(i => visible(i / Tk / Tq, i / Tk % Tq, i % Tk))];

    private static void Check(float[] scores, float[]? bias, bool[] visible, float[] actual, int batch, int H, int Tq, int Tk)
    {
        double[] expected = AttentionReference.Forward<double, DoubleMath>(Widen(scores), bias is null ? null : Widen(bias), visible, batch, H, Tq, Tk);
        // An error of half an eps in s - max, about 20 here at most, is relative in p: 2 * 20 / 2; exp and scaling add 2.
        TensorAssert.Close(expected, actual, i => 24 * TensorAssert.Eps * expected[i], $"AttentionProbabilities Tk={Tk}");
    }
}

public sealed class CpuAttentionProbabilitiesTests : AttentionProbabilitiesTests<CpuTestDevice>;
