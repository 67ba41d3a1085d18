// Attention of one query per row over keys and values that are kept from step to step, every row over memory of its own. Deliberately not: filling that
// memory (KeyValueStore), many queries at once (PackedAttention).
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>One decoding step's attention (HF: T5Attention with past_key_values, without its linear layers).</summary>
/// <remarks>
/// Forward   s = q K^T + bias;   p = softmax(s);   context = p V, for each row and head on its own.
/// Shapes    q, context: [R, H*K];  head h is columns h*K to h*K + K - 1.
/// Numerics  f32 products, the row maximum subtracted, the normaliser in double. A row's bits depend on nothing but that row: not on its neighbours, their
///           lengths, its capacity or the number of threads. That is what makes a text in a batch the same bits as the text alone.
/// </remarks>
public static partial class CachedAttention
{
    /// <summary>Capacities are whole multiples of this: the widest vector, so that no load leaves a row of keys.</summary>
    public const int Granule = 16;

    /// <summary>context from q and what is kept.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="q">f32 [R, H*K].</param>
    /// <param name="rows">Each row's keys and values, sent to the device.</param>
    /// <param name="first">Which of them is row 0's.</param>
    /// <param name="count">R, 1 or more.</param>
    /// <param name="bias">Position bias by distance, the query standing at its row's last key; for the longest row at least. Default: none.</param>
    /// <param name="scores">f32, scratch of [R, H, largest capacity] at least.</param>
    /// <param name="context">f32 [R, H*K], overwritten; may be <paramref name="q"/>.</param>
    /// <param name="H">Heads, 1 or more.</param>
    /// <param name="dKv">K, width of a head, 1 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a row does not fit.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor q, CachedRows rows, int first, int count, DistanceBias bias, Tensor scores, Tensor context, int H, int dKv)
    {
        const string Op = "CachedAttention.Forward";
        ArgumentNullException.ThrowIfNull(rows);
        Require.Dim(Op, H, nameof(H));
        Require.Dim(Op, dKv, nameof(dKv));
        long inner = (long)H * dKv;
        (int capacity, int longest) = rows.Range(Op, device, first, count, inner);
        Require.Shape(Op, device, q, nameof(q), DType.F32, "[R, H*K]", count, inner);
        Require.Shape(Op, device, context, nameof(context), DType.F32, "[R, H*K]", count, inner);
        long needed = (long)count * H * capacity;
        Require.Shape(Op, device, scores.Elements > needed ? scores.Slice(0, needed) : scores, nameof(scores), DType.F32, "[R, H, capacity]", count, H, capacity);
        if (!bias.Table.IsEmpty)
        {
            if (longest > bias.Length)
                throw new ArgumentException($"{Op}: a row has {longest} positions, expected {bias.Length} at most, the length of the bias table. Make it for the longest row.", nameof(bias));
            Require.Shape(Op, device, bias.Table, "bias.Table", DType.F32, "[H, 2 Length - 1]", H, 2L * bias.Length - 1);
        }
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(cpu, q, rows, first, count, bias, scores, context, H, dKv, capacity, longest); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Forward(gpu, q, rows, first, count, bias, scores, context, H, dKv, capacity); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }
}
