using System.Numerics;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Reference;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

public sealed class CrossEntropyReferenceTests
{
    [Theory]
    [InlineData(0, 0)]
    [InlineData(0.1, 0)]
    [InlineData(0.1, 0.01)]
    public void BackwardIsTheDerivative(double smoothing, double zLoss)
    {
        const int V = 9;
        var random = new Random(1);
        double[] x = [.. Enumerable.Range(0, 3 * V).Select(_ => 6 * random.NextDouble())], weights = [0.5, 1, 2];
        int[] labels = [4, -100, 0];
        double[] expected = ComplexStep.Gradient(at => CrossEntropyReference.Forward<Complex, ComplexMath>(at, labels, V, -100, smoothing, zLoss), x, weights);
        double[] actual = CrossEntropyReference.Backward(x, labels, weights, V, -100, smoothing, zLoss);
        for (int i = 0; i < x.Length; i++)
            Assert.Equal(expected[i], actual[i], 1e-14);
    }
}

public static class CrossEntropyCases
{
    public static TheoryData<int, double, double> All()
    {
        var cases = new TheoryData<int, double, double>();
        foreach (int v in new[] { 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 1023, 1024, 1025, 4099, 32128 })
        {
            cases.Add(v, 0, 0);
            cases.Add(v, 0.1, 0);
            cases.Add(v, 0, 1e-4);
            cases.Add(v, 0.1, 1e-2);
        }
        return cases;
    }
}

public abstract class CrossEntropyTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    // x - max reaches -40 here, where rounding errs by 2^-19 = 16 eps, which is relative in p; exp, scale and products add 4.
    private const double C = 20;

    [Theory]
    [MemberData(nameof(CrossEntropyCases.All), MemberType = typeof(CrossEntropyCases))]
    public void MatchesTheReference(int V, double smoothing, double zLoss)
    {
        const int Rows = 4;
        float[] x = Normal(Rows * V, 1, 4);
        int[] labels = [V - 1, -100, 0, V / 2];
        double[] weights = [0.25, 1, 1.0 / 3, 2];
        var options = new TokenLoss(-100, smoothing, zLoss);
        Tensor logits = Upload(x), loss = Upload(new double[Rows]), again = Upload(new double[Rows]);
        CrossEntropy.Forward(Device, logits, Upload(labels), again, Rows, V, options);
        TensorAssert.SameBits(x, Download(logits), "Forward leaves the logits");
        CrossEntropy.ForwardBackwardInPlace(Device, logits, Upload(labels), Upload(weights), loss, Rows, V, options);
        double[] expected = CrossEntropyReference.Forward<double, DoubleMath>(Widen(x), labels, V, -100, smoothing, zLoss), actual = Download<double>(loss);
        Assert.Equal(actual, Download<double>(again));
        for (int row = 0; row < Rows; row++)
            Assert.Equal(expected[row], actual[row], 1e-6);
        double[] gradient = CrossEntropyReference.Backward(Widen(x), labels, weights, V, -100, smoothing, zLoss);
        TensorAssert.Close(gradient, Download(logits), i => C * TensorAssert.Eps * (Math.Abs(gradient[i]) + 2 * weights[i / V] * smoothing / V), $"dlogits V={V}");
        Assert.All(Download(logits)[V..(2 * V)], d => Assert.Equal(0, d));
    }

    [Fact]
    public void ASureModelHasASmallExactGradientAtTheLabel()
    {
        // p = 1 - 1.2e-13: computed as p - 1 in float this would be 0.
        float[] x = [30f, 0.25f, 0.5f];
        Tensor logits = Upload(x), loss = Upload(new double[1]);
        CrossEntropy.ForwardBackwardInPlace(Device, logits, Upload([0]), Upload([1.0]), loss, 1, 3, TokenLoss.Plain);
        double expected = -(Math.Exp(-29.75) + Math.Exp(-29.5));
        Assert.Equal(expected, Download(logits)[0], 1e-3 * -expected);
    }

    [Fact]
    public void RisingAndHugeLogitsDoNotOverflow()
    {
        float[] x = [.. Enumerable.Range(0, 5000).Select(i => i == 4999 ? 1e30f : i)];
        Tensor logits = Upload(x), loss = Upload(new double[1]);
        CrossEntropy.ForwardBackwardInPlace(Device, logits, Upload([4999]), Upload([1.0]), loss, 1, 5000, TokenLoss.Plain);
        Assert.Equal(0, Download<double>(loss)[0]);
        Assert.All(Download(logits), d => Assert.Equal(0, d));
    }

    [Fact]
    public void MinusInfinityIsAProbabilityOfZero()
    {
        float[] x = Normal(3000, 1);
        Array.Fill(x, float.NegativeInfinity, 0, 2000);
        Tensor logits = Upload(x), loss = Upload(new double[1]);
        CrossEntropy.ForwardBackwardInPlace(Device, logits, Upload([2500]), Upload([1.0]), loss, 1, 3000, TokenLoss.Plain);
        Assert.True(double.IsFinite(Download<double>(loss)[0]));
        Assert.All(Download(logits)[..2000], d => Assert.Equal(0, d));
    }

    [Fact]
    public void NaNStaysVisible()
    {
        float[] x = Normal(2 * 2000, 1);
        x[7] = float.NaN;
        Tensor logits = Upload(x), loss = Upload(new double[2]);
        CrossEntropy.Forward(Device, logits, Upload([3, 3]), loss, 2, 2000, TokenLoss.Plain);
        Assert.True(double.IsNaN(Download<double>(loss)[0]));
        Assert.True(double.IsFinite(Download<double>(loss)[1]));
    }

    [Fact]
    public void EachGroupHasItsOwnMean()
    {
        // Groups 0 and 2; group 1 has an example without a token.
        int[] labels = [5, 3, -100, -100, -100, -100, 1, 2, 3], groups = [0, 1, 2];
        Tensor weights = Upload(new double[9]), tokens = Upload(new long[3], DType.I64), groupLoss = Upload(new double[3]);
        CrossEntropy.RowWeights(Device, Upload(labels), Upload(groups), weights, tokens, 3, 3, 3, -100, LossReduction.Mean, 1);
        Assert.Equal([0.5, 0.5, 0, 0, 0, 0, 1 / 3.0, 1 / 3.0, 1 / 3.0], Download<double>(weights));
        Assert.Equal([2L, 0, 3], Download<long>(tokens));
        CrossEntropy.GroupLoss(Device, Upload([1.0, 2, 9, 9, 9, 9, 3, 4, 5]), weights, Upload(groups), groupLoss, 3, 3, 3);
        double[] actual = Download<double>(groupLoss);
        Assert.Equal(1.5, actual[0], 1e-15);
        Assert.Equal(0, actual[1]);
        Assert.Equal(4, actual[2], 1e-14);
        CrossEntropy.RowWeights(Device, Upload(labels), default, weights, Upload(new long[1], DType.I64), 3, 3, 1, -100, LossReduction.Sum, 2);
        Assert.Equal([2.0, 2, 0, 0, 0, 0, 2, 2, 2], Download<double>(weights));
    }

    [Fact]
    public void PyTorchsLossesAreReached()
    {
        float[] logits = Goldens.Read<float>("logits");
        int[] labels = Array.ConvertAll(Goldens.Read<long>("labels"), l => (int)l);
        int rows = labels.Length, V = logits.Length / rows;
        Assert.Equal(Goldens.Expected("loss"), Total(LossReduction.Mean, TokenLoss.Plain), 2e-6);
        // A sum near 1e2 in PyTorch's float: about ten of its eps.
        Assert.Equal(Goldens.Expected("loss_label_smoothed_sum"), Total(LossReduction.Sum, new TokenLoss(-100, 0.1)), 1e-4);

        double Total(LossReduction reduction, TokenLoss options)
        {
            Tensor loss = Upload(new double[rows]), weights = Upload(new double[rows]), total = Upload(new double[1]), t = Upload(labels);
            CrossEntropy.RowWeights(Device, t, default, weights, Upload(new long[1], DType.I64), rows, 1, 1, -100, reduction, 1);
            CrossEntropy.ForwardBackwardInPlace(Device, Upload(logits), t, weights, loss, rows, V, options);
            CrossEntropy.GroupLoss(Device, loss, weights, default, total, rows, 1, 1);
            return Download<double>(total)[0];
        }
    }

    [Fact]
    public void ThreadsDoNotMatter()
    {
        (float[] one, float[] two) = OnOneAndTwoThreads(() =>
        {
            Tensor logits = Upload(Normal(30 * 4099, 1)), loss = Upload(new double[30]);
            CrossEntropy.ForwardBackwardInPlace(Device, logits, Upload(Enumerable.Range(0, 30).ToArray()), Upload(Enumerable.Repeat(1 / 30.0, 30).ToArray()), loss, 30, 4099, new TokenLoss(-100, 0.1, 1e-4));
            return Download(logits);
        });
        TensorAssert.SameBits(one, two, "CrossEntropy on 1 and 2 threads");
    }

    [Fact]
    public void ImpossibleLabelsAndSmoothingAreNamed()
    {
        Tensor x = Upload(new float[6]), loss = Upload(new double[2]);
        var e = Refusal(() => CrossEntropy.Forward(Device, x, Upload([0, 3]), loss, 2, 3, TokenLoss.Plain));
        Assert.StartsWith("CrossEntropy.Forward: labels[1] is 3, expected 0 to V - 1 = 2, or -100 to ignore the row.", e.Message);
        e = Assert.Throws<ArgumentException>(() => CrossEntropy.Forward(Device, x, Upload([0, 1]), loss, 2, 3, new TokenLoss(-100, 1.5)));
        Assert.StartsWith("CrossEntropy.Forward: options.LabelSmoothing is 1.5, expected 0 to 1.", e.Message);
        e = Refusal(() => CrossEntropy.GroupLoss(Device, loss, loss, Upload([0, 2]), loss, 2, 1, 2));
        Assert.StartsWith("CrossEntropy.GroupLoss: groups[1] is 2, expected 0 to groupCount - 1 = 1.", e.Message);
    }
}

public sealed class CpuCrossEntropyTests : CrossEntropyTests<CpuTestDevice>;
