using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

public abstract class ElementwiseTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    [Theory]
    [MemberData(nameof(OpSizes.Widths), MemberType = typeof(OpSizes))]
    public void ArithmeticIsThatOfFloats(int n)
    {
        float[] x = Normal(n, 1), y = Normal(n, 2);
        Tensor tx = Upload(x), ty = Upload(y), z = Empty(n);
        ResidualAdd.Forward(Device, tx, ty, z, n);
        TensorAssert.SameBits([.. x.Zip(y, (a, b) => a + b)], Download(z), "ResidualAdd.Forward");
        Elementwise.Scale(Device, tx, z, n, -0.3f);
        TensorAssert.SameBits([.. x.Select(a => a * -0.3f)], Download(z), "Scale");
        Elementwise.Copy(Device, tx, z, n);
        TensorAssert.SameBits(x, Download(z), "Copy");
        Elementwise.Fill(Device, z, n, 2.5f);
        Assert.All(Download(z), v => Assert.Equal(2.5f, v));
        ResidualAdd.BackwardAccumulate(Device, tx, ty, n);
        TensorAssert.SameBits([.. x.Zip(y, (a, b) => b + a)], Download(ty), "ResidualAdd.BackwardAccumulate");
        ty = Upload(y);
        Elementwise.Axpy(Device, tx, ty, n, 0.7f);
        // Fused or not: one or two roundings.
        TensorAssert.Close([.. x.Zip(y, (a, b) => b + 0.7f * (double)a)], Download(ty), i => TensorAssert.Eps * (Math.Abs(x[i]) + Math.Abs(y[i])), "Axpy");
    }

    [Theory]
    [MemberData(nameof(OpSizes.Widths), MemberType = typeof(OpSizes))]
    public void TanhMatchesTheReference(int n)
    {
        float[] x = Normal(n, 1, 2), dy = Normal(n, 2);
        Tensor y = Empty(n), dx = Empty(n);
        HyperbolicTangent.Forward(Device, Upload(x), y, n);
        double[] expected = Array.ConvertAll(x, v => Math.Tanh(v));
        // Two ulp, each at most an eps of the value.
        TensorAssert.Close(expected, Download(y), i => 2 * TensorAssert.Eps * Math.Abs(expected[i]), "tanh");
        float[] saved = Download(y);
        HyperbolicTangent.Backward(Device, y, Upload(dy), dx, n);
        double[] gradient = [.. saved.Zip(dy, (v, d) => d * (1 - (double)v * v))];
        // 1 - y is exact near 1; three products.
        TensorAssert.Close(gradient, Download(dx), i => 2 * TensorAssert.Eps * Math.Abs(gradient[i]), "tanh backward");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(17)]
    [InlineData(16 * 1024 + 1)]
    [InlineData(2_000_003)]
    public void ReductionsMatchTheReference(int n)
    {
        float[] x = Normal(n, 1), y = Normal(n, 2);
        Tensor tx = Upload(x), ty = Upload(y);
        double tolerance = 1e-12 * (1 + n);
        Assert.Equal(x.Sum(v => (double)v), Reductions.Sum(Device, tx, n), tolerance);
        Assert.Equal(x.Zip(y, (a, b) => (double)a * b).Sum(), Reductions.Dot(Device, tx, ty, n), tolerance);
        Assert.Equal(n == 0 ? 0 : x.Max(Math.Abs), Reductions.MaxAbs(Device, tx, n));
        Assert.Equal(-1, Reductions.FirstNonFinite(Device, tx, n));
    }

    [Theory]
    [InlineData(float.NaN, 0)]
    [InlineData(float.NaN, 37)]
    [InlineData(float.PositiveInfinity, 20_000)]
    [InlineData(float.NegativeInfinity, 99_999)]
    public void TheFirstNonFiniteElementIsFound(float value, int index)
    {
        float[] x = Normal(100_000, 1);
        x[index] = value;
        x[^1] = float.NaN;
        if (index == x.Length - 1)
            x[index] = value;
        Assert.Equal(index, Reductions.FirstNonFinite(Device, Upload(x), x.Length));
        x[^1] = value;
        Assert.Equal(Math.Abs(value), Reductions.MaxAbs(Device, Upload(x), x.Length));
    }

    [Fact]
    public void ASegmentsSumDoesNotDependOnItsNeighbours()
    {
        float[] x = Normal(50_000, 1);
        long[] offsets = [3, 3, 1000, 40_001, 50_000];
        var sums = new double[4];
        var squares = new double[4];
        Reductions.Sum(Device, Upload(x), offsets, sums);
        Reductions.SumOfSquares(Device, Upload(x), offsets, squares);
        for (int s = 0; s < 4; s++)
        {
            float[] alone = x[(int)offsets[s]..(int)offsets[s + 1]];
            Assert.Equal(Reductions.Sum(Device, Upload(alone), alone.Length), sums[s]);
            Assert.Equal(Reductions.Dot(Device, Upload(alone), Upload(alone), alone.Length), squares[s]);
        }
        var e = Assert.Throws<ArgumentException>(() => Reductions.Sum(Device, Upload(x), [0, 50_001], new double[1]));
        Assert.StartsWith("Reductions.Sum: segment 0 is [0, 50001), expected a range inside [0, 50000).", e.Message);
    }

    [Fact]
    public void ThreadsDoNotMatter()
    {
        (float[] one, float[] two) = OnOneAndTwoThreads(() =>
        {
            Tensor x = Upload(Normal(1_000_003, 1));
            byte[] sum = BitConverter.GetBytes(Reductions.Dot(Device, x, x, x.Elements));
            HyperbolicTangent.Forward(Device, x, x, x.Elements);
            return [.. Download(x), BitConverter.ToSingle(sum, 0), BitConverter.ToSingle(sum, 4)];
        });
        TensorAssert.SameBits(one, two, "reductions and tanh on 1 and 2 threads");
    }
}

public sealed class CpuElementwiseTests : ElementwiseTests<CpuTestDevice>;
