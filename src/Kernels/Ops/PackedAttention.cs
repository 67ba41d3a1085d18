// The contract of attention over packed rows; its CPU kernels are in PackedAttention.Cpu.cs. Deliberately without padding, dropout or a scale:
// T5's scores are not divided by sqrt(d_kv). Score matrices in memory are for graphs (AttentionProbabilities.cs); here none is ever whole.
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>A position bias by distance, one table for all examples up to its length; default: none.</summary>
/// <param name="Table">f32 [H, 2 Length - 1], as <see cref="RelativePositionBias.ForwardByDistance"/> makes it for Length queries and keys: distance k - q stands at k - q + Length - 1.</param>
/// <param name="Length">Positions of the longest example that the table serves, 1 or more.</param>
public readonly record struct DistanceBias(Tensor Table, int Length);

/// <summary>Attention of ragged examples that lie packed row after row: scores, softmax and mixing in one pass (HF: T5Attention without its linear layers).</summary>
/// <remarks>
/// Forward   s = q k^T + bias;   p = softmax(s);   context = p v, for each example and head on its own.
/// Backward  dv = p^T dc;  dp = dc v^T;  ds = p (dp - sum_k dp_k p_k);  dq = ds k;  dk = ds^T q.  p is computed again: keeping it costs H Tq Tk floats an example.
///           Derivation: docs/derivations/packed_attention.md.
/// Shapes    q, context, dcontext, dq: [Rq, H*K];  k, v, dk, dv: [Rk, H*K];  head h is columns h*K to h*K + K - 1. Example b holds the rows
///           queryOffsets[b] to queryOffsets[b + 1] - 1 of q and keyOffsets[b] to keyOffsets[b + 1] - 1 of k and v.
/// Numerics  f32 sums, products in blocks of 256 keys; the row maximum is subtracted. Nothing depends on the number of threads. Error bound: PackedAttentionTests.
///           With <see cref="ComputeType.BF16"/> on the CPU the products' operands (q, k, v, dc, e^(s - max), p, ds) are rounded to bf16; softmax and sums stay f32.
/// Source    Vaswani et al. 2017, eq. 1; Dao et al. 2022 (FlashAttention) for recomputing p. Differs from it: whole rows of scores are held, a few
///           queries at a time, so that nothing has to be rescaled.
/// </remarks>
public static partial class PackedAttention
{
    /// <summary>context from q, k and v.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="q">f32 [Rq, H*K].</param>
    /// <param name="k">f32 [Rk, H*K].</param>
    /// <param name="v">f32 [Rk, H*K].</param>
    /// <param name="bias">Self-attention's position bias, for the longest example at least; default in cross-attention.</param>
    /// <param name="context">f32 [Rq, H*K], overwritten; may be <paramref name="q"/>.</param>
    /// <param name="queryOffsets">[B + 1], from 0, ascending: where each example's queries begin, and Rq.</param>
    /// <param name="keyOffsets">[B + 1]: the same for keys, and Rk.</param>
    /// <param name="H">Heads, 1 or more.</param>
    /// <param name="dKv">K, width of a head, 1 or more.</param>
    /// <param name="causal">Query q sees keys 0 to q. As with a bias, each example then has as many keys as queries.</param>
    /// <param name="compute">Precision of the products' operands, on the CPU; null: what the device is set to (<see cref="ComputeDevice.Compute"/>).</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or the examples do not fit.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor q, Tensor k, Tensor v, DistanceBias bias, Tensor context, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets, int H, int dKv, bool causal, ComputeType? compute = null)
    {
        const string Op = "PackedAttention.Forward";
        Check(Op, device, q, k, v, bias, queryOffsets, keyOffsets, H, dKv, causal);
        Require.Shape(Op, device, context, nameof(context), DType.F32, "[Rq, H*K]", queryOffsets[^1], H, dKv);
        using OpScope trace = OpTrace.Enter(Op, queryOffsets, keyOffsets, (long)H * dKv, causal);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Run(cpu, new Operands(q, k, v, bias, context, default, default, default, H, dKv, causal, compute ?? device.Compute), queryOffsets, keyOffsets); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Run(Op, gpu, new Operands(q, k, v, bias, context, default, default, default, H, dKv, causal, compute ?? device.Compute), queryOffsets, keyOffsets); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>dq, dk and dv from dcontext.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="q">f32 [Rq, H*K], as Forward had it.</param>
    /// <param name="k">f32 [Rk, H*K].</param>
    /// <param name="v">f32 [Rk, H*K].</param>
    /// <param name="bias">As Forward had it.</param>
    /// <param name="dcontext">f32 [Rq, H*K].</param>
    /// <param name="dq">f32 [Rq, H*K], overwritten; may be <paramref name="q"/> or <paramref name="dcontext"/>. Empty: not computed.</param>
    /// <param name="dk">f32 [Rk, H*K], overwritten; may be <paramref name="k"/>.</param>
    /// <param name="dv">f32 [Rk, H*K], overwritten; may be <paramref name="v"/>.</param>
    /// <param name="queryOffsets">As Forward had them.</param>
    /// <param name="keyOffsets">As Forward had them.</param>
    /// <param name="H">Heads, 1 or more.</param>
    /// <param name="dKv">K, width of a head, 1 or more.</param>
    /// <param name="causal">As Forward had it.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or the examples do not fit.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor q, Tensor k, Tensor v, DistanceBias bias, Tensor dcontext, Tensor dq, Tensor dk, Tensor dv, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets, int H, int dKv, bool causal)
    {
        const string Op = "PackedAttention.Backward";
        Check(Op, device, q, k, v, bias, queryOffsets, keyOffsets, H, dKv, causal);
        Require.Shape(Op, device, dcontext, nameof(dcontext), DType.F32, "[Rq, H*K]", queryOffsets[^1], H, dKv);
        if (!dq.IsEmpty)
            Require.Shape(Op, device, dq, nameof(dq), DType.F32, "[Rq, H*K]", queryOffsets[^1], H, dKv);
        Require.Shape(Op, device, dk, nameof(dk), DType.F32, "[Rk, H*K]", keyOffsets[^1], H, dKv);
        Require.Shape(Op, device, dv, nameof(dv), DType.F32, "[Rk, H*K]", keyOffsets[^1], H, dKv);
        using OpScope trace = OpTrace.Enter(Op, queryOffsets, keyOffsets, (long)H * dKv, causal);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Run(cpu, new Operands(q, k, v, bias, dcontext, dq, dk, dv, H, dKv, causal, device.Compute), queryOffsets, keyOffsets); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Run(Op, gpu, new Operands(q, k, v, bias, dcontext, dq, dk, dv, H, dKv, causal, device.Compute), queryOffsets, keyOffsets); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static void Check(string op, ComputeDevice device, Tensor q, Tensor k, Tensor v, DistanceBias bias, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets, int H, int dKv, bool causal)
    {
        Require.Dim(op, H, nameof(H));
        Require.Dim(op, dKv, nameof(dKv));
        bool square = causal || !bias.Table.IsEmpty;
        if (queryOffsets.Length < 2 || queryOffsets.Length != keyOffsets.Length)
            throw new ArgumentException($"{op}: found {queryOffsets.Length} query offsets and {keyOffsets.Length} key offsets, expected B + 1 of each for B examples, B 1 or more.", nameof(keyOffsets));
        if (queryOffsets[0] != 0 || keyOffsets[0] != 0)
            throw new ArgumentException($"{op}: the first query and key offsets are {queryOffsets[0]} and {keyOffsets[0]}, expected 0.", nameof(queryOffsets));
        for (int b = 0; b + 1 < queryOffsets.Length; b++)
        {
            long queries = (long)queryOffsets[b + 1] - queryOffsets[b], keys = (long)keyOffsets[b + 1] - keyOffsets[b];
            if (queries < 1 || keys < 1)
                throw new ArgumentException($"{op}: example {b} has {queries} queries and {keys} keys, expected 1 or more of each.", nameof(queryOffsets));
            if (square && queries != keys)
                throw new ArgumentException($"{op}: example {b} has {queries} queries and {keys} keys, expected as many of each with {(causal ? "causal attention" : "a position bias")}.", nameof(keyOffsets));
            if (!bias.Table.IsEmpty && keys > bias.Length)
                throw new ArgumentException($"{op}: example {b} has {keys} positions, expected {bias.Length} at most, the length of the bias table. Make it for the longest example.", nameof(bias));
        }
        if (!bias.Table.IsEmpty)
        {
            Require.Dim(op, bias.Length, "bias.Length");
            Require.Shape(op, device, bias.Table, "bias.Table", DType.F32, "[H, 2 Length - 1]", H, 2L * bias.Length - 1);
        }
        Require.Shape(op, device, q, nameof(q), DType.F32, "[Rq, H*K]", queryOffsets[^1], H, dKv);
        Require.Shape(op, device, k, nameof(k), DType.F32, "[Rk, H*K]", keyOffsets[^1], H, dKv);
        Require.Shape(op, device, v, nameof(v), DType.F32, "[Rk, H*K]", keyOffsets[^1], H, dKv);
    }

    /// <summary>What a device works on, validated; <see cref="Context"/> is dcontext where dk is given, which is what makes it a backward pass.</summary>
    internal readonly record struct Operands(Tensor Q, Tensor K, Tensor V, DistanceBias Bias, Tensor Context, Tensor Dq, Tensor Dk, Tensor Dv, int Heads, int Width, bool Causal, ComputeType Compute = ComputeType.F32);
}
