// The ops that only the subspace needs: AdamW on a gradient in factors, Gram matrices, reconstruction loss, Walsh-Hadamard.
using System.Numerics;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Reference;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

/// <summary>Written from the formulas, loop by loop.</summary>
public static class SubspaceReference
{
    /// <summary>count, rows, columns: around the tile (4 rows, 1024 columns) and every vector width, and the two real shapes in small.</summary>
    public static TheoryData<int, int, int> Small => new()
    {
        { 1, 1, 1 }, { 3, 1, 33 }, { 1, 4, 16 }, { 2, 5, 7 }, { 4, 7, 31 }, { 8, 8, 64 }, { 9, 3, 1024 }, { 3, 9, 1025 }, { 16, 32, 16 },
    };

    /// <summary>For devices that compute in hardware.</summary>
    public static TheoryData<int, int, int> Large => new() { { 17, 9, 1025 }, { 5, 13, 2063 }, { 16, 320, 16 }, { 4, 768, 5 }, { 33, 1537, 768 } };

    public static T[] OuterSum<T>(T[] left, T[] right, int count, int rows, int columns)
        where T : INumberBase<T>
    {
        var g = new T[rows * columns];
        for (int o = 0; o < rows; o++)
        {
            for (int i = 0; i < columns; i++)
            {
                for (int c = 0; c < count; c++)
                    g[o * columns + i] += left[c * rows + o] * right[c * columns + i];
            }
        }
        return g;
    }

    public static T SquaredError<T>(T[] x, T[] y)
        where T : INumberBase<T>
    {
        T sum = T.Zero;
        for (int i = 0; i < x.Length; i++)
            sum += (x[i] - y[i]) * (x[i] - y[i]);
        return sum;
    }

    /// <summary>H[i, j] = (-1)^popcount(i and j).</summary>
    public static double[] WalshHadamard(double[] x)
    {
        var y = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            for (int j = 0; j < x.Length; j++)
                y[i] += (BitOperations.PopCount((uint)(i & j)) & 1) == 0 ? x[j] : -x[j];
        }
        return y;
    }
}

public sealed class SubspaceReferenceTests
{
    [Fact]
    public void TheWeightGradientOfALinearLayerIsTheSumOfOuterProducts()
    {
        const int Count = 3, Rows = 4, Columns = 5;
        var random = new Random(5);
        double[] w = Draw(random, Rows * Columns), x = Draw(random, Count * Columns), dy = Draw(random, Count * Rows);
        double[] expected = ComplexStep.Gradient(
            at =>
            {
                var y = new Complex[Count * Rows];
                for (int c = 0; c < Count; c++)
                    for (int o = 0; o < Rows; o++)
                        for (int i = 0; i < Columns; i++)
                            y[c * Rows + o] += at[o * Columns + i] * x[c * Columns + i];
                return y;
            },
            w, dy);
        double[] actual = SubspaceReference.OuterSum(dy, x, Count, Rows, Columns);
        for (int i = 0; i < w.Length; i++)
            Assert.Equal(expected[i], actual[i], 1e-14);
    }

    [Fact]
    public void TheGradientOfTheSquaredErrorIsTwiceTheDifference()
    {
        double[] x = Draw(new Random(1), 7), y = Draw(new Random(2), 7);
        double[] gradient = ComplexStep.Gradient(at => [SubspaceReference.SquaredError(at, Array.ConvertAll(y, v => new Complex(v, 0)))], x, [1]);
        for (int i = 0; i < x.Length; i++)
            Assert.Equal(2 * (x[i] - y[i]), gradient[i], 1e-14);
    }

    private static double[] Draw(Random random, int n) => [.. Enumerable.Range(0, n).Select(_ => random.NextDouble() - 0.5)];
}

public abstract class SubspaceOpsTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    /// <summary>A long row, of no round length.</summary>
    protected virtual int LongRow => 30_011;

    /// <summary>A long transform.</summary>
    protected virtual int PowerOfTwo => 65536;

    private static readonly AdamWCoefficients Coefficients = new(0.999f, 0.9f, 0.1f, 0.999f, 0.001f, 0.5f, 1e-8f, 0.01f, -0.001f);

    [Theory]
    [MemberData(nameof(SubspaceReference.Small), MemberType = typeof(SubspaceReference))]
    public void TheFusedStepIsTheStepOnTheStoredGradient(int count, int rows, int columns)
    {
        int n = rows * columns;
        float[] left = Normal(count * rows, 1), right = Normal(count * columns, 2), m = Normal(n, 3), v = Array.ConvertAll(Normal(n, 4), MathF.Abs), p = Normal(n, 5);
        double[] g = SubspaceReference.OuterSum(Widen(left), Widen(right), count, rows, columns);
        double[] size = SubspaceReference.OuterSum(Array.ConvertAll(left, x => (double)Math.Abs(x)), Array.ConvertAll(right, x => (double)Math.Abs(x)), count, rows, columns);
        const float Scale = 0.3f;
        double[] em = new double[n], ev = new double[n], ep = new double[n];
        for (int i = 0; i < n; i++)
        {
            double gi = Scale * g[i];
            em[i] = (double)Coefficients.Beta1 * m[i] + (double)Coefficients.NewWeight1 * gi;
            ev[i] = (double)Coefficients.Beta2 * v[i] + (double)Coefficients.NewWeight2 * gi * gi;
            ep[i] = (double)Coefficients.Keep * p[i] - (double)Coefficients.StepSize * (em[i] / (Math.Sqrt(ev[i]) / (double)Coefficients.RootDivisor + (double)Coefficients.Epsilon));
            ep[i] += ep[i] * (double)Coefficients.Shrink;
        }
        Tensor tm = Upload(m), tv = Upload(v), tp = Upload(p);
        OuterProductAdamW.Run(Device, Upload(left), Upload(right), tm, tv, tp, count, rows, columns, Scale, Coefficients);
        // g: a rounding a term of its sum, and the scale. m: one more each for the products, which may cancel. p: the quotient's relative error times
        // the step, which a small v makes large.
        double[] dg = Array.ConvertAll(size, s => (count + 2) * TensorAssert.Eps * Scale * s);
        double Moment(int i) => 0.1 * dg[i] + 2 * TensorAssert.Eps * (Math.Abs(m[i]) + 0.1 * Scale * Math.Abs(g[i]));
        double Second(int i) => 0.002 * Scale * Math.Abs(g[i]) * dg[i] + 3 * TensorAssert.Eps * ev[i];
        TensorAssert.Close(em, Download(tm), Moment, "m");
        TensorAssert.Close(ev, Download(tv), Second, "v");
        TensorAssert.Close(ep, Download(tp), i =>
            3 * TensorAssert.Eps * Math.Abs(ep[i])
            + 0.01 * 0.5 * (Moment(i) + Math.Abs(em[i]) * (Second(i) / ev[i] + 4 * TensorAssert.Eps)) / Math.Sqrt(ev[i]), "p");
    }

    [Fact]
    public void ThreadsDoNotMatter()
    {
        const int Count = 5, Columns = 130;
        int rows = LongRow / 30 + 3;
        (float[] one, float[] two) = OnOneAndTwoThreads(() =>
        {
            Tensor p = Upload(Normal(rows * Columns, 5)), m = Upload(Normal(rows * Columns, 6)), v = Upload(new float[rows * Columns]);
            OuterProductAdamW.Run(Device, Upload(Normal(Count * rows, 1)), Upload(Normal(Count * Columns, 2)), m, v, p, Count, rows, Columns, 1, Coefficients);
            var loss = new double[7];
            Tensor x = Upload(Normal(7 * LongRow, 7)), y = Upload(Normal(7 * LongRow, 8)), dx = Upload(new float[7 * LongRow]);
            SquaredError.Forward(Device, x, y, 7, LongRow, loss);
            SquaredError.BackwardAccumulate(Device, x, y, [1, 2, 3, 4, 5, 6, 7], dx, 7, LongRow);
            var gram = new double[49];
            GramMatrix.Run(Device, x, 7, LongRow, gram);
            Tensor h = Upload(Normal(3 * PowerOfTwo, 9));
            WalshHadamard.RunInPlace(Device, h, 3, PowerOfTwo);
            return [.. Download(p), .. Download(m), .. Download(dx), .. Download(h), .. Array.ConvertAll([.. loss, .. gram], d => (float)d)];
        });
        TensorAssert.SameBits(one, two, "subspace ops on 1 and 2 threads");
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(3, 17)]
    [InlineData(16, 333)]
    public void TheNormOfAnOuterProductSumComesFromTheGramMatrices(int count, int rows)
    {
        const int Columns = 31;
        float[] left = Normal(count * rows, 1), right = Normal(count * Columns, 2);
        var a = new double[count * count];
        var b = new double[count * count];
        GramMatrix.Run(Device, Upload(left), count, rows, a);
        GramMatrix.Run(Device, Upload(right), count, Columns, b);
        double expected = SubspaceReference.OuterSum(Widen(left), Widen(right), count, rows, Columns).Sum(g => g * g);
        // Double sums of exact products: some 1e-16 of each of count^2 terms.
        Assert.Equal(1, GramMatrix.OuterProductNormSquared(a, b) / expected, 1e-13);
        Assert.Equal(a[count - 1], a[(count - 1) * count]);
    }

    [Fact]
    public void AGradientThatCancelsHasNoNorm()
    {
        var a = new double[4];
        var b = new double[4];
        GramMatrix.Run(Device, Upload([1f, 2f, -1f, -2f]), 2, 2, a);
        GramMatrix.Run(Device, Upload([3f, 4f, 3f, 4f]), 2, 2, b);
        Assert.Equal(0, GramMatrix.OuterProductNormSquared(a, b));
        Assert.Equal(double.NaN, GramMatrix.OuterProductNormSquared([double.NaN], [1]));
    }

    [Theory]
    [MemberData(nameof(OpSizes.Widths), MemberType = typeof(OpSizes))]
    public void SquaredErrorMatchesTheReference(int n)
    {
        const int Rows = 3;
        float[] x = Normal(Rows * n, 1), y = Normal(Rows * n, 2), dx = Normal(Rows * n, 3), w = [0.5f, 0, -2];
        var loss = new double[Rows];
        Tensor tx = Upload(x), ty = Upload(y), tdx = Upload(dx);
        SquaredError.Forward(Device, tx, ty, Rows, n, loss);
        SquaredError.BackwardAccumulate(Device, tx, ty, w, tdx, Rows, n);
        for (int r = 0; r < Rows; r++)
        {
            double expected = SubspaceReference.SquaredError(Widen(x[(r * n)..((r + 1) * n)]), Widen(y[(r * n)..((r + 1) * n)]));
            // One rounding of each difference, doubled by the square.
            Assert.InRange(loss[r], expected * (1 - 2 * TensorAssert.Eps), expected * (1 + 2 * TensorAssert.Eps));
        }
        double[] gradient = [.. x.Select((_, i) => dx[i] + 2.0 * w[i / n] * ((double)x[i] - y[i]))];
        TensorAssert.Close(gradient, Download(tdx), i => 2 * TensorAssert.Eps * (Math.Abs(dx[i]) + Math.Abs(2 * w[i / n]) * Math.Abs((double)x[i] - y[i])), "dx");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(8)]
    [InlineData(16)]
    [InlineData(32)]
    [InlineData(512)]
    public void WalshHadamardMatchesTheReferenceAndIsItsOwnAdjoint(int n)
    {
        float[] x = Normal(2 * n, 1), dy = Normal(2 * n, 2);
        Tensor y = Upload(x), dx = Upload(dy);
        WalshHadamard.RunInPlace(Device, y, 2, n);
        WalshHadamard.RunInPlace(Device, dx, 2, n);
        for (int r = 0; r < 2; r++)
        {
            double sum = x[(r * n)..((r + 1) * n)].Sum(v => Math.Abs((double)v));
            TensorAssert.Close(SubspaceReference.WalshHadamard(Widen(x[(r * n)..((r + 1) * n)])), Download(y.Slice(r * n, n)), _ => Math.Max(1, Math.Log2(n)) * TensorAssert.Eps * sum, $"row {r}");
        }
        double forward = Download(y).Zip(dy, (a, b) => (double)a * b).Sum(), backward = Download(dx).Zip(x, (a, b) => (double)a * b).Sum();
        Assert.Equal(forward, backward, 1e-5 * n);
    }

    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(5, 13, 16)]
    [InlineData(3, 64, 64)]
    [InlineData(33, 100, 128)]
    public void FastfoodIsTheProductOfItsMatricesAndBackwardItsAdjoint(int d, int n, int padded)
    {
        const int Rows = 2;
        const float Scale = 0.25f;
        float[] z = Normal(Rows * d, 1), dy = Normal(Rows * n, 2), gauss = Normal(padded, 3);
        float[] signs = Array.ConvertAll(Normal(padded, 4), v => v < 0 ? -1f : 1f);
        int[] permutation = [.. Enumerable.Range(0, padded)];
        new Random(5).Shuffle(permutation);
        var map = new FastfoodTensors(Upload(signs), Upload(permutation), Upload(gauss));
        Tensor y = Empty(Rows * n), dz = Empty(Rows * d), work = Empty(Rows * 2 * padded);
        FastfoodProjection.Forward(Device, Upload(z), map, work, y, Rows, d, n, Scale);
        FastfoodProjection.Backward(Device, Upload(dy), map, work, dz, Rows, d, n, Scale);
        var expected = new double[Rows * n];
        double size = 0;
        for (int r = 0; r < Rows; r++)
        {
            var u = new double[padded];
            for (int i = 0; i < d; i++)
                u[i] = (double)z[r * d + i] * signs[i];
            u = SubspaceReference.WalshHadamard(u);
            double[] v = [.. Enumerable.Range(0, padded).Select(i => gauss[i] * u[permutation[i]])];
            size = Math.Max(size, Scale * v.Sum(Math.Abs));
            SubspaceReference.WalshHadamard(v)[..n].Select(x => Scale * x).ToArray().CopyTo(expected, r * n);
        }
        // Two transforms of log2 N additions each, and four products.
        TensorAssert.Close(expected, Download(y), _ => (2 * Math.Log2(padded) + 4) * TensorAssert.Eps * size, "y");
        double forward = Download(y).Zip(dy, (a, b) => (double)a * b).Sum(), backward = Download(dz).Zip(z, (a, b) => (double)a * b).Sum();
        Assert.Equal(forward, backward, 1e-5 * size * Math.Sqrt(n));
    }

    [Fact]
    public void WrongShapesAreNamed()
    {
        Tensor six = Upload(new float[6]), four = Upload(new float[4]);
        Assert.StartsWith(
            "OuterProductAdamW.Run: right has 4 elements, expected [count, columns] = [2, 3].",
            Assert.Throws<ArgumentException>(() => OuterProductAdamW.Run(Device, four, four, six, six, six, 2, 2, 3, 1, Coefficients)).Message);
        Assert.StartsWith("GramMatrix.Run: gram has 3 elements, expected [rows, rows] = [2, 2].", Assert.Throws<ArgumentException>(() => GramMatrix.Run(Device, six, 2, 3, new double[3])).Message);
        Assert.StartsWith("WalshHadamard.RunInPlace: n is 3, expected a power of two. Pad with zeros.", Assert.Throws<ArgumentException>(() => WalshHadamard.RunInPlace(Device, six, 2, 3)).Message);
        var map = new FastfoodTensors(four, Upload([0, 1, 2, 3]), four);
        Assert.StartsWith("FastfoodProjection.Forward: work has 4 elements, expected [rows, 2 N] = [1, 8].", Assert.Throws<ArgumentException>(() => FastfoodProjection.Forward(Device, four, map, four, four, 1, 4, 4, 1)).Message);
        Assert.StartsWith("FastfoodProjection.Backward: d is 6, expected 1 to 4.", Assert.Throws<ArgumentException>(() => FastfoodProjection.Backward(Device, four, map, four, six, 1, 6, 4, 1)).Message);
        Assert.StartsWith("SquaredError.Forward: y has 4 elements, expected [rows, n] = [2, 3].", Assert.Throws<ArgumentException>(() => SquaredError.Forward(Device, six, four, 2, 3, new double[2])).Message);
        Assert.StartsWith("SquaredError.Forward: loss has 1 elements, expected [rows] = [2].", Assert.Throws<ArgumentException>(() => SquaredError.Forward(Device, six, six, 2, 3, new double[1])).Message);
    }
}

public sealed class CpuSubspaceOpsTests : SubspaceOpsTests<CpuTestDevice>
{
    [Theory]
    [MemberData(nameof(SubspaceReference.Large), MemberType = typeof(SubspaceReference))]
    public void TheFusedStepOfLargeShapes(int count, int rows, int columns) => TheFusedStepIsTheStepOnTheStoredGradient(count, rows, columns);
}
