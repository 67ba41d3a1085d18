using System.Numerics;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Reference;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

public sealed class PackedAttentionReferenceTests
{
    [Theory]
    [InlineData(3, 5, 4, false)]
    [InlineData(4, 4, 3, true)]
    public void BackwardIsTheDerivative(int queries, int keys, int K, bool causal)
    {
        var random = new Random(1);
        double[] Draw(int n) => [.. Enumerable.Range(0, n).Select(_ => 2 * random.NextDouble() - 1)];
        double[] q = Draw(queries * K), k = Draw(keys * K), v = Draw(keys * K), dc = Draw(queries * K), bias = Draw(2 * 6 - 1);
        static Complex[] Up(double[] x) => [.. x.Select(y => new Complex(y, 0))];
        Complex[] Forward(Complex[] q, Complex[] k, Complex[] v) =>
            PackedAttentionReference.Mix(PackedAttentionReference.Probabilities<Complex, ComplexMath>(q, k, bias, 6, queries, keys, K, causal), v, queries, keys, K);
        double[] p = PackedAttentionReference.Probabilities<double, DoubleMath>(q, k, bias, 6, queries, keys, K, causal);
        (double[] dq, double[] dk, double[] dv) = PackedAttentionReference.Backward(q, k, v, p, dc, queries, keys, K);
        Same(ComplexStep.Gradient(x => Forward(x, Up(k), Up(v)), q, dc), dq);
        Same(ComplexStep.Gradient(x => Forward(Up(q), x, Up(v)), k, dc), dk);
        Same(ComplexStep.Gradient(x => Forward(Up(q), Up(k), x), v, dc), dv);
    }

    private static void Same(double[] expected, double[] actual)
    {
        for (int i = 0; i < expected.Length; i++)
            Assert.Equal(expected[i], actual[i], 1e-14);
    }
}

public abstract class PackedAttentionTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    /// <summary>Positions of a long example, above every tile of the CPU.</summary>
    protected virtual int Longest => 228;

    [Theory]
    [MemberData(nameof(PackedAttentionShapes.Small), MemberType = typeof(PackedAttentionShapes))]
    public void MatchesTheReference(int[] queries, int[] keys, int K, bool causal, bool biased)
    {
        var c = new PackedAttentionCase(queries, keys, 2, K, causal, biased);
        Check(c, Computed(c));
    }

    [Fact]
    public void GradientsMayOverwriteWhatTheyBelongTo()
    {
        foreach (bool causal in (bool[])[false, true])
        {
            var c = new PackedAttentionCase([Longest, 1, 20], [Longest, 1, 20], 3, 17, causal, true);
            PackedAttentionResult apart = Computed(c);
            Tensor q = Upload(c.Q), k = Upload(c.K), v = Upload(c.V), bias = Upload(c.Bias!), dc = Upload(c.Dc);
            Tensor context = Upload(c.Q);
            PackedAttention.Forward(Device, context, k, v, new DistanceBias(bias, c.BiasLength), context, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, causal);
            TensorAssert.SameBits(apart.Context, Download(context), "context over q");
            PackedAttention.Backward(Device, q, k, v, new DistanceBias(bias, c.BiasLength), dc, q, k, v, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, causal);
            TensorAssert.SameBits(apart.Dq, Download(q), "dq over q");
            TensorAssert.SameBits(apart.Dk, Download(k), "dk over k");
            TensorAssert.SameBits(apart.Dv, Download(v), "dv over v");
            Tensor k2 = Upload(c.K), v2 = Upload(c.V);
            PackedAttention.Backward(Device, Upload(c.Q), k2, v2, new DistanceBias(bias, c.BiasLength), dc, dc, k2, v2, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, causal);
            TensorAssert.SameBits(apart.Dq, Download(dc), "dq over dcontext");
        }
    }

    [Fact]
    public void DqMayBeLeftOut()
    {
        var c = new PackedAttentionCase([9, 40], [70, 3], 2, 12, false, false);
        PackedAttentionResult whole = Computed(c);
        Tensor dk = Empty(c.K.Length), dv = Empty(c.V.Length);
        PackedAttention.Backward(Device, Upload(c.Q), Upload(c.K), Upload(c.V), default, Upload(c.Dc), default, dk, dv, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, false);
        TensorAssert.SameBits(whole.Dk, Download(dk), "dk without dq");
        TensorAssert.SameBits(whole.Dv, Download(dv), "dv without dq");
    }

    [Fact]
    public void ALongerBiasTableServesShorterExamples()
    {
        var c = new PackedAttentionCase([20, 7], [20, 7], 3, 8, false, true);
        PackedAttentionResult exact = Computed(c);
        // 50 positions instead of 20: 30 more distances on either side.
        float[] wide = new float[3 * (2 * 50 - 1)];
        for (int h = 0; h < 3; h++)
            Array.Copy(c.Bias!, h * 39, wide, h * 99 + 30, 39);
        Tensor context = Empty(c.Q.Length);
        PackedAttention.Forward(Device, Upload(c.Q), Upload(c.K), Upload(c.V), new DistanceBias(Upload(wide), 50), context, c.QueryOffsets, c.KeyOffsets, 3, 8, false);
        TensorAssert.SameBits(exact.Context, Download(context), "context by a longer table");
    }

    [Fact]
    public void ExamplesDoNotTouchEachOther()
    {
        var alone = new PackedAttentionCase([33], [33], 2, 16, true, true);
        var both = new PackedAttentionCase([5, 33], [5, 33], 2, 16, true, true);
        int before = 5 * 2 * 16;
        alone.Q.CopyTo(both.Q, before);
        alone.K.CopyTo(both.K, before);
        alone.V.CopyTo(both.V, before);
        alone.Dc.CopyTo(both.Dc, before);
        alone.Bias!.CopyTo(both.Bias!, 0);
        Array.Fill(both.Q, float.NaN, 0, before);
        PackedAttentionResult one = Computed(alone), two = Computed(both);
        TensorAssert.SameBits(one.Context, two.Context.AsSpan(before), "context beside an example of NaN");
        TensorAssert.SameBits(one.Dq, two.Dq.AsSpan(before), "dq beside an example of NaN");
        TensorAssert.SameBits(one.Dk, two.Dk.AsSpan(before), "dk beside an example of NaN");
        TensorAssert.SameBits(one.Dv, two.Dv.AsSpan(before), "dv beside an example of NaN");
        Assert.All(two.Context[..before], x => Assert.True(float.IsNaN(x)));
    }

    [Fact]
    public void LargeScoresDoNotOverflow()
    {
        Tensor context = Empty(2);
        PackedAttention.Forward(Device, Upload([1f, -1f]), Upload([1000f, 1f, -1000f]), Upload([2f, 3f, 5f]), default, context, [0, 2], [0, 3], 1, 1, false);
        Assert.Equal([2f, 5f], Download(context));
    }

    [Fact]
    public void ThreadsDoNotMatter()
    {
        var c = new PackedAttentionCase([Longest, 3, 29], [Longest, 3, 29], 3, 24, true, true);
        (float[] one, float[] two) = OnOneAndTwoThreads(() =>
        {
            PackedAttentionResult r = Computed(c);
            return [.. r.Context, .. r.Dq, .. r.Dk, .. r.Dv];
        });
        TensorAssert.SameBits(one, two, "packed attention on 1 and 2 threads");
    }

    [Fact]
    public void MisfitsAreNamed()
    {
        Tensor x = Upload(new float[2 * 3 * 4]), y = Upload(new float[3 * 3 * 4]), bias = Upload(new float[3 * 3]);
        Message("PackedAttention.Forward: example 1 has 0 queries and 1 keys, expected 1 or more of each.", [0, 2, 2], [0, 1, 2], x, x, default, false);
        Message("PackedAttention.Forward: found 2 query offsets and 3 key offsets, expected B + 1 of each", [0, 2], [0, 1, 2], x, x, default, false);
        Message("PackedAttention.Forward: the first query and key offsets are 0 and 1, expected 0.", [0, 2], [1, 2], x, x, default, false);
        Message("PackedAttention.Forward: example 0 has 2 queries and 3 keys, expected as many of each with causal attention.", [0, 2], [0, 3], x, y, default, true);
        Message("PackedAttention.Forward: example 0 has 3 positions, expected 2 at most, the length of the bias table.", [0, 3], [0, 3], y, y, new DistanceBias(bias, 2), false);
        Message("PackedAttention.Forward: bias.Table has 9 elements, expected [H, 2 Length - 1] = [3, 7].", [0, 3], [0, 3], y, y, new DistanceBias(bias, 4), false);
        Message("PackedAttention.Forward: k has 24 elements, expected [Rk, H*K] = [3, 3, 4].", [0, 2], [0, 3], x, x, default, false);

        void Message(string expected, int[] queries, int[] keys, Tensor q, Tensor k, DistanceBias table, bool causal)
        {
            var e = Assert.Throws<ArgumentException>(() => PackedAttention.Forward(Device, q, k, k, table, q, queries, keys, 3, 4, causal));
            Assert.StartsWith(expected, e.Message);
        }
    }

    private protected PackedAttentionResult Computed(PackedAttentionCase c) => Computed(c, null);

    private protected PackedAttentionResult Computed(PackedAttentionCase c, Action<PackedAttention.Operands, int[], int[]>? kernel)
    {
        Tensor q = Upload(c.Q), k = Upload(c.K), v = Upload(c.V), dc = Upload(c.Dc);
        Tensor context = Empty(c.Q.Length), dq = Empty(c.Q.Length), dk = Empty(c.K.Length), dv = Empty(c.V.Length);
        DistanceBias bias = c.Bias is null ? default : new DistanceBias(Upload(c.Bias), c.BiasLength);
        if (kernel is null)
        {
            PackedAttention.Forward(Device, q, k, v, bias, context, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, c.Causal);
            PackedAttention.Backward(Device, q, k, v, bias, dc, dq, dk, dv, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, c.Causal);
        }
        else
        {
            kernel(new PackedAttention.Operands(q, k, v, bias, context, default, default, default, c.H, c.Width, c.Causal), c.QueryOffsets, c.KeyOffsets);
            kernel(new PackedAttention.Operands(q, k, v, bias, dc, dq, dk, dv, c.H, c.Width, c.Causal), c.QueryOffsets, c.KeyOffsets);
        }
        return new PackedAttentionResult(Download(context), Download(dq), Download(dk), Download(dv));
    }

    private protected static void Check(PackedAttentionCase c, PackedAttentionResult actual)
    {
        for (int b = 0; b + 1 < c.QueryOffsets.Length; b++)
        {
            int queries = c.QueryOffsets[b + 1] - c.QueryOffsets[b], keys = c.KeyOffsets[b + 1] - c.KeyOffsets[b];
            for (int h = 0; h < c.H; h++)
            {
                double[] Head(float[] x, int first, int rows) =>
                    [.. Enumerable.Range(0, rows * c.Width).Select(i => (double)x[((first + i / c.Width) * c.H + h) * c.Width + i % c.Width])];
                float[] Same(float[] x, int first, int rows) => Array.ConvertAll(Head(x, first, rows), y => (float)y);
                double[] q = Head(c.Q, c.QueryOffsets[b], queries), k = Head(c.K, c.KeyOffsets[b], keys), v = Head(c.V, c.KeyOffsets[b], keys);
                double[] dc = Head(c.Dc, c.QueryOffsets[b], queries);
                double[]? bias = c.Bias is null ? null : Widen(c.Bias[(h * (2 * c.BiasLength - 1))..((h + 1) * (2 * c.BiasLength - 1))]);
                double[] p = PackedAttentionReference.Probabilities<double, DoubleMath>(q, k, bias, c.BiasLength, queries, keys, c.Width, c.Causal);
                double[] context = PackedAttentionReference.Mix(p, v, queries, keys, c.Width);
                (double[] dq, double[] dk, double[] dv) = PackedAttentionReference.Backward(q, k, v, p, dc, queries, keys, c.Width);

                // A score of K products has an error of about sqrt(K) eps times its spread of PackedAttentionCase.ScoreScale plus half an eps of its size, 5 times PackedAttentionCase.ScoreScale at most;
                // that is relative in p. The sums over keys or queries behind it add the square root of their count; 3 for what is rare, 2 for ds' difference.
                double relative = 3 * (PackedAttentionCase.ScoreScale * (Math.Sqrt(c.Width) + 5) + Math.Sqrt(Math.Max(keys, queries)) + 8);
                string what = $"PackedAttention example {b} head {h}";
                TensorAssert.CloseToLargest(context, Same(actual.Context, c.QueryOffsets[b], queries), relative, what + " context");
                // One key: p is 1 whatever its score, ds is a difference of equal numbers, and no gradient is left to compare with.
                double gradient = Math.Max(v.Max(Math.Abs) * dc.Max(Math.Abs) * Math.Sqrt(c.Width), 1e-3);
                double dqTolerance = 2 * relative * TensorAssert.Eps * gradient * k.Max(Math.Abs), dkTolerance = 2 * relative * TensorAssert.Eps * gradient * q.Max(Math.Abs) * Math.Sqrt(queries);
                TensorAssert.CloseToLargest(dv, Same(actual.Dv, c.KeyOffsets[b], keys), relative, what + " dv");
                TensorAssert.Close(dq, Same(actual.Dq, c.QueryOffsets[b], queries), _ => dqTolerance, what + " dq");
                TensorAssert.Close(dk, Same(actual.Dk, c.KeyOffsets[b], keys), _ => dkTolerance, what + " dk");
            }
        }
    }
}

public sealed class CpuPackedAttentionTests : PackedAttentionTests<CpuTestDevice>
{
    [Theory]
    [MemberData(nameof(PackedAttentionShapes.Large), MemberType = typeof(PackedAttentionShapes))]
    public void LargeShapesMatchTheReference(int[] queries, int[] keys, int K, bool causal, bool biased) => MatchesTheReference(queries, keys, K, causal, biased);

    [Theory]
    [MemberData(nameof(PackedAttentionShapes.All), MemberType = typeof(PackedAttentionShapes))]
    public void EveryMicroKernelMatchesTheReference(int[] queries, int[] keys, int K, bool causal, bool biased)
    {
        var cpu = (CpuDevice)Device;
        var c = new PackedAttentionCase(queries, keys, 2, K, causal, biased);
        Check(c, Computed(c, (o, q, k) => PackedAttention.RunWith<MicroKernel512, F32x16>(cpu, o, q, k)));
        Check(c, Computed(c, (o, q, k) => PackedAttention.RunWith<MicroKernel256, F32x8>(cpu, o, q, k)));
        Check(c, Computed(c, (o, q, k) => PackedAttention.RunWith<MicroKernel128, F32x4>(cpu, o, q, k)));
        Check(c, Computed(c, (o, q, k) => PackedAttention.RunWith<MicroKernelScalar, F32x1>(cpu, o, q, k)));
    }

    [Fact]
    public void NothingIsAllocated()
    {
        var c = new PackedAttentionCase([50, 9], [50, 9], 4, 16, true, true);
        Tensor q = Upload(c.Q), k = Upload(c.K), v = Upload(c.V), dc = Upload(c.Dc), context = Empty(c.Q.Length);
        var bias = new DistanceBias(Upload(c.Bias!), c.BiasLength);
        void Pass()
        {
            PackedAttention.Forward(Device, q, k, v, bias, context, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, true);
            PackedAttention.Backward(Device, q, k, v, bias, dc, q, k, v, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, true);
        }
        Pass();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Pass();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Fact]
    public void WorksInsideAnotherOpsBody()
    {
        var c = new PackedAttentionCase([50, 9], [50, 9], 4, 16, true, true);
        PackedAttentionResult expected = Computed(c);
        Tensor context = Empty(c.Q.Length);
        Inner.Work = () => PackedAttention.Forward(Device, Upload(c.Q), Upload(c.K), Upload(c.V), new DistanceBias(Upload(c.Bias!), c.BiasLength), context, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, true);
        var body = default(Inner);
        ((CpuDevice)Device).Pool.Run(1, ref body);
        TensorAssert.SameBits(expected.Context, Download(context), "context from inside a body");
    }

    private struct Inner : IParallelBody
    {
        public static Action? Work;

        public readonly void Invoke(int task, int worker) => Work!();
    }
}
