// Attention with bf16 operands against double loops over rounded q, k, v and dcontext: on machine code, and in every managed way.
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Ops;
using IptNative.Kernels.Tests.Reference;
using Xunit;

namespace IptNative.Kernels.Tests.MachineCode;

public sealed class BF16AttentionTests : OpTests<CpuTestDevice>
{
    // bf16 has 8 significant bits: neighbours at 1 are 2^-7 apart, and rounding moves a number by at most half of that, relative to it.
    private const double HalfStep = 1.0 / 256;

    private delegate void Kernel(CpuDevice cpu, in PackedAttention.Operands operands, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets);

    [Theory]
    [MemberData(nameof(PackedAttentionShapes.All), MemberType = typeof(PackedAttentionShapes))]
    public void MachineCodeMatchesTheReference(int[] queries, int[] keys, int K, bool causal, bool biased)
    {
        LoaderTests.SkipWithoutMachineCode();
        var c = new PackedAttentionCase(queries, keys, 2, K, causal, biased);
        Check(c, Computed(c, PackedAttention.RunMachineCode));
    }

    [Theory]
    [MemberData(nameof(PackedAttentionShapes.All), MemberType = typeof(PackedAttentionShapes))]
    public void EveryMicroKernelMatchesTheReference(int[] queries, int[] keys, int K, bool causal, bool biased)
    {
        var c = new PackedAttentionCase(queries, keys, 2, K, causal, biased);
        Check(c, Computed(c, PackedAttention.RunWith<MicroKernel512, F32x16>));
        Check(c, Computed(c, PackedAttention.RunWith<MicroKernel256, F32x8>));
        Check(c, Computed(c, PackedAttention.RunWith<MicroKernel128, F32x4>));
        Check(c, Computed(c, PackedAttention.RunWith<MicroKernelScalar, F32x1>));
    }

    // More keys than one visit of the tiles takes, more queries than one block of p, an odd number of both.
    [Fact]
    public void LongExamplesGoOverSeveralBlocks()
    {
        foreach (bool causal in (bool[])[false, true])
        {
            var c = new PackedAttentionCase([801], [801], 1, 18, causal, true);
            Check(c, Computed(c, (CpuDevice cpu, in PackedAttention.Operands o, ReadOnlySpan<int> q, ReadOnlySpan<int> k) => OnDevice(o, q, k)));
        }
    }

    // The tests of the float kernels' contract, where the device is set to bf16: results over what they belong to, dq left out, any number of threads.
    [Fact]
    public void TheDevicesPrecisionCountsAndTheContractHolds()
    {
        var c = new PackedAttentionCase([61, 1, 20], [61, 1, 20], 3, 17, true, true);
        PackedAttentionResult apart = Computed(c, (CpuDevice cpu, in PackedAttention.Operands o, ReadOnlySpan<int> q, ReadOnlySpan<int> k) => OnDevice(o, q, k));
        Check(c, apart);
        foreach (int threads in (int[])[1, 3])
        {
            using var device = new CpuDevice(threads, ComputeType.BF16);
            using var on = new Memory(device);
            Tensor q = on.Of(c.Q), k = on.Of(c.K), v = on.Of(c.V), dc = on.Of(c.Dc), context = on.Of(c.Q), dk = on.Of(c.K), dv = on.Of(c.V);
            var bias = new DistanceBias(on.Of(c.Bias!), c.BiasLength);
            PackedAttention.Forward(device, context, k, v, bias, context, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, true);
            TensorAssert.SameBits(apart.Context, Download(context), "context over q");
            PackedAttention.Backward(device, q, k, v, bias, dc, default, dk, dv, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, true);
            TensorAssert.SameBits(apart.Dk, Download(dk), "dk without dq");
            TensorAssert.SameBits(apart.Dv, Download(dv), "dv without dq");
            PackedAttention.Backward(device, q, k, v, bias, dc, q, k, v, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, true);
            TensorAssert.SameBits(apart.Dq, Download(q), "dq over q");
            TensorAssert.SameBits(apart.Dk, Download(k), "dk over k");
            TensorAssert.SameBits(apart.Dv, Download(v), "dv over v");
            // A pass that insists on float32 gets it.
            Tensor exact = on.Of(c.Q), here = Upload(c.Q);
            PackedAttention.Forward(device, exact, on.Of(c.K), on.Of(c.V), bias, exact, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, true, ComputeType.F32);
            PackedAttention.Forward(Device, here, Upload(c.K), Upload(c.V), new DistanceBias(Upload(c.Bias!), c.BiasLength), here, c.QueryOffsets, c.KeyOffsets, c.H, c.Width, true);
            TensorAssert.SameBits(Download(here), Download(exact), "float32 on a bf16 device");
        }
    }

    [Fact]
    public void ExamplesDoNotTouchEachOther()
    {
        var c = new PackedAttentionCase([5, 33], [5, 33], 2, 16, true, true);
        PackedAttentionResult clean = Computed(c, (CpuDevice cpu, in PackedAttention.Operands o, ReadOnlySpan<int> q, ReadOnlySpan<int> k) => OnDevice(o, q, k));
        int before = 5 * 2 * 16;
        Array.Fill(c.Q, float.NaN, 0, before);
        Array.Fill(c.V, float.PositiveInfinity, 0, before);
        PackedAttentionResult beside = Computed(c, (CpuDevice cpu, in PackedAttention.Operands o, ReadOnlySpan<int> q, ReadOnlySpan<int> k) => OnDevice(o, q, k));
        TensorAssert.SameBits(clean.Context.AsSpan(before), beside.Context.AsSpan(before), "context beside an example of NaN");
        TensorAssert.SameBits(clean.Dq.AsSpan(before), beside.Dq.AsSpan(before), "dq beside an example of NaN");
        TensorAssert.SameBits(clean.Dk.AsSpan(before), beside.Dk.AsSpan(before), "dk beside an example of NaN");
        TensorAssert.SameBits(clean.Dv.AsSpan(before), beside.Dv.AsSpan(before), "dv beside an example of NaN");
        Assert.All(beside.Context[..before], x => Assert.True(float.IsNaN(x)));
    }

    // As the model calls it: the device chooses.
    private static void OnDevice(in PackedAttention.Operands o, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets)
    {
        using var device = new CpuDevice(2, ComputeType.BF16);
        using var on = new Memory(device);
        Tensor q = on.Of(Download(o.Q)), k = on.Of(Download(o.K)), v = on.Of(Download(o.V)), context = on.Of(Download(o.Context));
        DistanceBias bias = o.Bias.Table.IsEmpty ? default : new DistanceBias(on.Of(Download(o.Bias.Table)), o.Bias.Length);
        if (o.Dk.IsEmpty)
        {
            PackedAttention.Forward(device, q, k, v, bias, context, queryOffsets, keyOffsets, o.Heads, o.Width, o.Causal);
            Copy(context, o.Context);
            return;
        }
        Tensor dq = on.Of(Download(o.Dq)), dk = on.Of(Download(o.Dk)), dv = on.Of(Download(o.Dv));
        PackedAttention.Backward(device, q, k, v, bias, context, dq, dk, dv, queryOffsets, keyOffsets, o.Heads, o.Width, o.Causal);
        Copy(dq, o.Dq);
        Copy(dk, o.Dk);
        Copy(dv, o.Dv);
    }

    private static unsafe void Copy(Tensor from, Tensor to) => to.Device.CopyFromHost(new ReadOnlySpan<byte>((void*)from.Address, checked((int)from.Elements * sizeof(float))), to);

    private PackedAttentionResult Computed(PackedAttentionCase c, Kernel kernel)
    {
        var cpu = (CpuDevice)Device;
        Tensor q = Upload(c.Q), k = Upload(c.K), v = Upload(c.V), dc = Upload(c.Dc);
        Tensor context = Empty(c.Q.Length), dq = Empty(c.Q.Length), dk = Empty(c.K.Length), dv = Empty(c.V.Length);
        DistanceBias bias = c.Bias is null ? default : new DistanceBias(Upload(c.Bias), c.BiasLength);
        kernel(cpu, new PackedAttention.Operands(q, k, v, bias, context, default, default, default, c.H, c.Width, c.Causal, ComputeType.BF16), c.QueryOffsets, c.KeyOffsets);
        kernel(cpu, new PackedAttention.Operands(q, k, v, bias, dc, dq, dk, dv, c.H, c.Width, c.Causal, ComputeType.BF16), c.QueryOffsets, c.KeyOffsets);
        return new PackedAttentionResult(Download(context), Download(dq), Download(dk), Download(dv));
    }

    // The reference reads rounded q, k, v and dcontext, as the kernels do. What is left are the roundings of p and ds, each half a step of its own term, and float32's errors as PackedAttentionTests has them.
    private static void Check(PackedAttentionCase c, PackedAttentionResult actual)
    {
        for (int b = 0; b + 1 < c.QueryOffsets.Length; b++)
        {
            int queries = c.QueryOffsets[b + 1] - c.QueryOffsets[b], keys = c.KeyOffsets[b + 1] - c.KeyOffsets[b], K = c.Width;
            for (int h = 0; h < c.H; h++)
            {
                float[] Same(float[] x, int first, int rows) => [.. Enumerable.Range(0, rows * K).Select(i => x[((first + i / K) * c.H + h) * K + i % K])];
                double[] Operand(float[] x, int first, int rows) => Array.ConvertAll(Same(x, first, rows), y => (double)BitConverter.UInt32BitsToSingle((uint)BF16Bits.Round(y) << 16));
                double[] q = Operand(c.Q, c.QueryOffsets[b], queries), k = Operand(c.K, c.KeyOffsets[b], keys), v = Operand(c.V, c.KeyOffsets[b], keys);
                double[] dc = Operand(c.Dc, c.QueryOffsets[b], queries);
                double[]? bias = c.Bias is null ? null : Widen(c.Bias[(h * (2 * c.BiasLength - 1))..((h + 1) * (2 * c.BiasLength - 1))]);
                double[] p = PackedAttentionReference.Probabilities<double, DoubleMath>(q, k, bias, c.BiasLength, queries, keys, K, c.Causal);
                double[] context = PackedAttentionReference.Mix(p, v, queries, keys, K);
                (double[] dq, double[] dk, double[] dv) = PackedAttentionReference.Backward(q, k, v, p, dc, queries, keys, K);
                (double[] ofContext, double[] ofDq, double[] ofDk, double[] ofDv) = Roundings(q, k, v, p, dc, queries, keys, K);

                double relative = 3 * (PackedAttentionCase.ScoreScale * (Math.Sqrt(K) + 5) + Math.Sqrt(Math.Max(keys, queries)) + 8);
                double gradient = Math.Max(v.Max(Math.Abs) * dc.Max(Math.Abs) * Math.Sqrt(K), 1e-3);
                double ofContextF32 = relative * TensorAssert.Eps * context.Max(Math.Abs), ofDvF32 = relative * TensorAssert.Eps * dv.Max(Math.Abs);
                double ofDqF32 = 2 * relative * TensorAssert.Eps * gradient * k.Max(Math.Abs), ofDkF32 = 2 * relative * TensorAssert.Eps * gradient * q.Max(Math.Abs) * Math.Sqrt(queries);
                string what = $"bf16 attention, example {b} head {h}";
                TensorAssert.Close(context, Same(actual.Context, c.QueryOffsets[b], queries), i => ofContext[i] + ofContextF32, what + " context");
                TensorAssert.Close(dv, Same(actual.Dv, c.KeyOffsets[b], keys), i => ofDv[i] + ofDvF32, what + " dv");
                TensorAssert.Close(dq, Same(actual.Dq, c.QueryOffsets[b], queries), i => ofDq[i] + ofDqF32, what + " dq");
                TensorAssert.Close(dk, Same(actual.Dk, c.KeyOffsets[b], keys), i => ofDk[i] + ofDkF32, what + " dk");
            }
        }
    }

    private static (double[] Context, double[] Dq, double[] Dk, double[] Dv) Roundings(double[] q, double[] k, double[] v, double[] p, double[] dc, int queries, int keys, int K)
    {
        double[] context = new double[queries * K], dq = new double[queries * K], dk = new double[keys * K], dv = new double[keys * K], dp = new double[keys];
        for (int i = 0; i < queries; i++)
        {
            double mean = 0;
            for (int j = 0; j < keys; j++)
            {
                dp[j] = 0;
                for (int d = 0; d < K; d++)
                    dp[j] += dc[i * K + d] * v[j * K + d];
                mean += dp[j] * p[i * keys + j];
            }
            for (int j = 0; j < keys; j++)
            {
                double ofP = HalfStep * p[i * keys + j], ofDs = ofP * Math.Abs(dp[j] - mean);
                for (int d = 0; d < K; d++)
                {
                    context[i * K + d] += ofP * Math.Abs(v[j * K + d]);
                    dv[j * K + d] += ofP * Math.Abs(dc[i * K + d]);
                    dq[i * K + d] += ofDs * Math.Abs(k[j * K + d]);
                    dk[j * K + d] += ofDs * Math.Abs(q[i * K + d]);
                }
            }
        }
        return (context, dq, dk, dv);
    }

    private sealed class Memory(CpuDevice device) : IDisposable
    {
        private readonly List<DeviceBuffer> _buffers = [];

        public Tensor Of(float[] data)
        {
            DeviceBuffer buffer = device.Allocate(DType.F32, data.Length, "test data");
            _buffers.Add(buffer);
            device.CopyFromHost(System.Runtime.InteropServices.MemoryMarshal.AsBytes(data.AsSpan()), buffer.Tensor);
            return buffer.Tensor;
        }

        public void Dispose() => _buffers.ForEach(b => b.Dispose());
    }
}
