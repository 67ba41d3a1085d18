using System.Numerics;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Reference;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

public sealed class RmsNormReferenceTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    public void BackwardIsTheDerivative(int D)
    {
        var random = new Random(D);
        double[] Draw(int n) => [.. Enumerable.Range(0, n).Select(_ => random.NextDouble() - 0.5)];
        double[] x = Draw(2 * D), w = Draw(D), dy = Draw(2 * D);
        Complex[] wc = [.. w.Select(v => new Complex(v, 0))];
        double[] expected = ComplexStep.Gradient(at => RmsNormReference.Forward<Complex, ComplexMath>(at, wc, 2, D, 1e-6), x, dy);
        double[] actual = RmsNormReference.Backward(x, w, dy, 2, D, 1e-6);
        for (int i = 0; i < x.Length; i++)
            Assert.Equal(expected[i], actual[i], 1e-12);
    }
}

public abstract class RmsNormTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    private const float Epsilon = 1e-6f;

    [Theory]
    [MemberData(nameof(OpSizes.Widths), MemberType = typeof(OpSizes))]
    public void ForwardMatchesTheReference(int D)
    {
        float[] x = Normal(3 * D, 1), w = Normal(D, 2);
        Tensor y = Empty(3 * D), r = Empty(3);
        RmsNorm.Forward(Device, Upload(x), Upload(w), r, y, 3, D, Epsilon);
        double[] expected = RmsNormReference.Forward<double, DoubleMath>(Widen(x), Widen(w), 3, D, Epsilon);
        // Three roundings (r, x r, times w), each half an eps of the element itself.
        TensorAssert.Close(expected, Download(y), i => 2 * TensorAssert.Eps * Math.Abs(expected[i]), $"RmsNorm.Forward D={D}");
    }

    [Theory]
    [MemberData(nameof(OpSizes.Widths), MemberType = typeof(OpSizes))]
    public void AddForwardIsAddThenForward(int D)
    {
        float[] x = Normal(3 * D, 1), delta = Normal(3 * D, 5), w = Normal(D, 2);
        Tensor sum = Empty(3 * D), y = Empty(3 * D), r = Empty(3), y2 = Empty(3 * D), r2 = Empty(3);
        RmsNorm.AddForward(Device, Upload(x), Upload(delta), Upload(w), r, sum, y, 3, D, Epsilon);
        float[] added = [.. x.Zip(delta, (a, b) => a + b)];
        RmsNorm.Forward(Device, Upload(added), Upload(w), r2, y2, 3, D, Epsilon);
        TensorAssert.SameBits(added, Download(sum), "sum");
        TensorAssert.SameBits(Download(y2), Download(y), "y");
        TensorAssert.SameBits(Download(r2), Download(r), "r");
    }

    [Theory]
    [MemberData(nameof(OpSizes.Widths), MemberType = typeof(OpSizes))]
    public void BackwardMatchesTheReference(int D)
    {
        float[] x = Normal(3 * D, 1), w = Normal(D, 2), dy = Normal(3 * D, 3), old = Normal(3 * D, 4);
        Tensor tx = Upload(x), tw = Upload(w), r = Empty(3), dx = Empty(3 * D), accumulated = Upload(old);
        RmsNorm.Forward(Device, tx, tw, r, Empty(3 * D), 3, D, Epsilon);
        RmsNorm.Backward(Device, tx, tw, r, Upload(dy), dx, 3, D);
        RmsNorm.BackwardAccumulate(Device, tx, tw, r, Upload(dy), accumulated, 3, D);
        double[] expected = RmsNormReference.Backward(Widen(x), Widen(w), Widen(dy), 3, D, Epsilon);
        // The two terms cancel (wholly at D = 1): errors are relative to their size, |r g|, not to the result.
        double[] scale = new double[3 * D];
        float[] saved = Download(r);
        for (int i = 0; i < scale.Length; i++)
            scale[i] = saved[i / D] * (Math.Abs(w[i % D] * dy[i]) + Math.Abs(x[i] * saved[i / D]) * Largest(w) * Largest(dy));
        float[] actual = Download(dx);
        TensorAssert.Close(expected, actual, i => 2 * TensorAssert.Eps * scale[i], $"RmsNorm.Backward D={D}");
        TensorAssert.SameBits([.. old.Zip(actual, (a, b) => a + b)], Download(accumulated), "BackwardAccumulate");
    }

    [Fact]
    public void ZeroRowStaysFinite()
    {
        Tensor x = Upload(new float[33]), w = Upload(Normal(33, 1)), r = Empty(1), y = Empty(33), dx = Empty(33);
        RmsNorm.Forward(Device, x, w, r, y, 1, 33, Epsilon);
        RmsNorm.Backward(Device, x, w, r, Upload(Normal(33, 2)), dx, 1, 33);
        Assert.All(Download(y), v => Assert.Equal(0, v));
        Assert.All(Download(dx), v => Assert.True(float.IsFinite(v)));
    }

    [Fact]
    public void LargeNumbersDoNotOverflow()
    {
        Tensor x = Upload(Enumerable.Repeat(1e30f, 17).ToArray()), y = Empty(17);
        RmsNorm.Forward(Device, x, Upload(Enumerable.Repeat(1f, 17).ToArray()), default, y, 1, 17, Epsilon);
        Assert.All(Download(y), v => Assert.Equal(1, v, 1e-6));
    }

    [Fact]
    public void ThreadsDoNotMatter()
    {
        (float[] one, float[] two) = OnOneAndTwoThreads(() =>
        {
            Tensor x = Upload(Normal(301 * 768, 1)), w = Upload(Normal(768, 2)), r = Empty(301), dx = Empty(301 * 768);
            RmsNorm.Forward(Device, x, w, r, Empty(301 * 768), 301, 768, Epsilon);
            RmsNorm.Backward(Device, x, w, r, Upload(Normal(301 * 768, 3)), dx, 301, 768);
            return Download(dx);
        });
        TensorAssert.SameBits(one, two, "RmsNorm.Backward on 1 and 2 threads");
    }

    [Fact]
    public void WrongSizesAndDevicesAreNamed()
    {
        Tensor x = Upload(Normal(12, 1)), w = Upload(Normal(4, 2)), y = Empty(15);
        var e = Assert.Throws<ArgumentException>(() => RmsNorm.Forward(Device, x, w, default, y, 3, 4, Epsilon));
        Assert.Equal("y", e.ParamName);
        Assert.StartsWith("RmsNorm.Forward: y has 15 elements, expected [rows, D] = [3, 4].", e.Message);
        e = Assert.Throws<ArgumentException>(() => RmsNorm.Backward(Device, x, w, default, x, x, 3, 4));
        Assert.StartsWith("RmsNorm.Backward: r has no memory, expected [rows] = [3].", e.Message);
        e = Assert.Throws<ArgumentException>(() => RmsNorm.Forward(Device, Upload(new int[12]), w, default, y, 3, 4, Epsilon));
        Assert.StartsWith("RmsNorm.Forward: x [rows, D] holds i32, expected f32.", e.Message);
        using ComputeDevice other = TDevice.Create(1);
        e = Assert.Throws<ArgumentException>(() => RmsNorm.Forward(other, x, w, default, x, 3, 4, Epsilon));
        Assert.Contains("Copy it there first.", e.Message);
        using var foreign = new ForeignDevice();
        Tensor Abroad(Tensor t) => t with { Device = foreign };
        var none = Assert.Throws<NotSupportedException>(() => RmsNorm.Forward(foreign, Abroad(x), Abroad(w), default, Abroad(x), 3, 4, Epsilon));
        Assert.Contains("RmsNorm.Forward: found device 'abacus' (ForeignDevice)", none.Message);
    }

    private static double Largest(float[] x) => x.Max(Math.Abs);
}

public sealed class CpuRmsNormTests : RmsNormTests<CpuTestDevice>;
