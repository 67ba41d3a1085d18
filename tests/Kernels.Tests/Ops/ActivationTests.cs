using System.Numerics;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Reference;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

public sealed class ActivationReferenceTests
{
    [Fact]
    public void TheDerivativesAreThose()
    {
        double[] x = [-4.5, -1, -0.3, 0.01, 0.7, 2, 5], ones = [1, 1, 1, 1, 1, 1, 1];
        double[] gelu = ComplexStep.Gradient(at => Array.ConvertAll(at, ActivationReference.Gelu<Complex, ComplexMath>), x, ones);
        double[] relu = ComplexStep.Gradient(at => Array.ConvertAll(at, ActivationReference.Relu<Complex, ComplexMath>), x, ones);
        for (int i = 0; i < x.Length; i++)
        {
            Assert.Equal(gelu[i], ActivationReference.GeluDerivative(x[i]), 1e-14);
            Assert.Equal(relu[i], ActivationReference.ReluDerivative(x[i]), 1e-14);
        }
    }
}

public abstract class ActivationTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    [Theory]
    [MemberData(nameof(OpSizes.Widths), MemberType = typeof(OpSizes))]
    public void GeluMatchesTheReference(int n)
    {
        float[] x = Normal(n, 1, 3), h1 = Normal(n, 2), dy = Normal(n, 3);
        double[] f = Array.ConvertAll(Widen(x), ActivationReference.Gelu<double, DoubleMath>), d = Array.ConvertAll(Widen(x), ActivationReference.GeluDerivative);
        Check(n, x, h1, dy, f, d, Gelu.Forward, Gelu.Backward, GatedGelu.Forward, GatedGelu.Backward, gelu: true);
    }

    [Theory]
    [MemberData(nameof(OpSizes.Widths), MemberType = typeof(OpSizes))]
    public void ReluMatchesTheReference(int n)
    {
        float[] x = Normal(n, 1, 3), h1 = Normal(n, 2), dy = Normal(n, 3);
        x[0] = 0;
        double[] f = Array.ConvertAll(Widen(x), ActivationReference.Relu<double, DoubleMath>), d = Array.ConvertAll(Widen(x), ActivationReference.ReluDerivative);
        Check(n, x, h1, dy, f, d, Relu.Forward, Relu.Backward, GatedRelu.Forward, GatedRelu.Backward, gelu: false);
    }

    [Fact]
    public void GeluFarOutIsZeroOrTheIdentity()
    {
        Tensor x = Upload([-1e30f, -100f, -20f, 20f, 1e18f, float.NaN]), y = Empty(6), dx = Empty(6);
        Gelu.Forward(Device, x, y, 6);
        Gelu.Backward(Device, x, Upload([1f, 1f, 1f, 1f, 1f, 1f]), dx, 6);
        float[] value = Download(y), slope = Download(dx);
        for (int i = 1; i < 3; i++)
        {
            Assert.Equal(0, value[i], 1e-30);
            Assert.Equal(0, slope[i], 1e-30);
        }
        Assert.True(float.IsFinite(value[0]));
        Assert.Equal([20f, 1e18f, float.NaN], value[3..]);
        Assert.Equal([1f, 1f, float.NaN], slope[3..]);
    }

    [Fact]
    public void ReluKeepsNaN()
    {
        Tensor x = Upload([float.NaN, -1f, 2f]), y = Empty(3);
        Relu.Forward(Device, x, y, 3);
        Assert.Equal([float.NaN, 0f, 2f], Download(y));
    }

    [Fact]
    public void ThreadsDoNotMatter()
    {
        const int N = 100_003;
        (float[] one, float[] two) = OnOneAndTwoThreads(() =>
        {
            Tensor h0 = Upload(Normal(N, 1, 3)), h1 = Upload(Normal(N, 2)), d0 = Empty(N), d1 = Empty(N);
            GatedGelu.Backward(Device, h0, h1, Upload(Normal(N, 3)), d0, d1, N);
            return [.. Download(d0), .. Download(d1)];
        });
        TensorAssert.SameBits(one, two, "GatedGelu.Backward on 1 and 2 threads");
    }

    [Fact]
    public void WrongSizesAreNamed()
    {
        Tensor three = Upload(new float[3]), four = Upload(new float[4]);
        var e = Assert.Throws<ArgumentException>(() => GatedGelu.Backward(Device, three, three, three, three, four, 3));
        Assert.StartsWith("GatedGelu.Backward: dh1 has 4 elements, expected [elements] = [3].", e.Message);
    }

    private delegate void Plain(ComputeDevice device, Tensor x, Tensor y, long n);

    private delegate void PlainBack(ComputeDevice device, Tensor x, Tensor dy, Tensor dx, long n);

    private delegate void Gated(ComputeDevice device, Tensor h0, Tensor h1, Tensor y, long n);

    private delegate void GatedBack(ComputeDevice device, Tensor h0, Tensor h1, Tensor dy, Tensor dh0, Tensor dh1, long n);

    private void Check(int n, float[] x, float[] h1, float[] dy, double[] f, double[] d, Plain forward, PlainBack backward, Gated gated, GatedBack gatedBack, bool gelu)
    {
        // ReLU is exact. GELU: u has a relative error of an eps or two, and e^-2u turns the absolute one, |2u| eps, into a relative
        // one of s where s is small; the derivative x s (1 - s) 2u' multiplies it again by |x|. Products add a half each.
        double C(int i) => gelu ? 4 + 3 * Math.Abs(2 * 0.8 * (x[i] + 0.045 * Math.Pow(x[i], 3))) : 1;
        // The reference itself loses 1 + tanh u far left, where the kernel does not: an eps of double, absolute.
        double Lost(int i) => gelu ? 1e-15 * (1 + Math.Pow(Math.Abs(x[i]), 3)) : 0;
        double Value(int i) => C(i) * TensorAssert.Eps * Math.Abs(f[i]) + Lost(i);
        // s, and x s (1 - s) 2u', may cancel: relative to the larger of them, which |f / x| (1 + |x| 2u') is.
        double Slope(int i) => !gelu || x[i] == 0 ? TensorAssert.Eps * Math.Abs(d[i])
            : C(i) * TensorAssert.Eps * Math.Abs(f[i] / x[i]) * (1 + Math.Abs(x[i]) * 1.6 * (1 + 0.135 * x[i] * x[i]) * Math.Min(1, 2 / (1 + Math.Exp(1.6 * x[i])))) + Lost(i);
        Tensor tx = Upload(x), t1 = Upload(h1), tdy = Upload(dy), y = Empty(n), dx = Empty(n), d1 = Empty(n);
        forward(Device, tx, y, n);
        TensorAssert.Close(f, Download(y), Value, "Forward");
        backward(Device, tx, tdy, dx, n);
        TensorAssert.Close(Product(d, Widen(dy)), Download(dx), i => Slope(i) * Math.Abs(dy[i]), "Backward");
        gated(Device, tx, t1, y, n);
        TensorAssert.Close(Product(f, Widen(h1)), Download(y), i => Value(i) * Math.Abs(h1[i]), "gated Forward");
        gatedBack(Device, tx, t1, tdy, dx, d1, n);
        double[] linear = Product(Widen(h1), Widen(dy));
        TensorAssert.Close(Product(d, linear), Download(dx), i => Slope(i) * Math.Abs(linear[i]), "dh0");
        TensorAssert.Close(Product(f, Widen(dy)), Download(d1), i => Value(i) * Math.Abs(dy[i]), "dh1");
        // In place over the saved tensors.
        gatedBack(Device, tx, t1, tdy, tx, t1, n);
        TensorAssert.SameBits(Download(dx), Download(tx), "dh0 over h0");
        TensorAssert.SameBits(Download(d1), Download(t1), "dh1 over h1");
    }

    private static double[] Product(double[] a, double[] b) => [.. a.Zip(b, (x, y) => x * y)];
}

public sealed class CpuActivationTests : ActivationTests<CpuTestDevice>;
