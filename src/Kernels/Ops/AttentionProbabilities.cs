// The contract of the attention softmax; its CPU kernels are in AttentionProbabilities.Cpu.cs. Deliberately not the products around
// it: those are batched GEMMs. T5's scores are not divided by sqrt(d_kv).
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>How a position bias lies in memory; see <see cref="RelativePositionBias"/>.</summary>
public enum BiasLayout
{
    /// <summary>[H, Tq, Tk].</summary>
    Full,

    /// <summary>[H, Tq + Tk - 1], by distance.</summary>
    ByDistance,
}

/// <summary>Which keys a query may see, besides the position bias; every part may be left out.</summary>
/// <param name="Lengths">i32 [batch]: example b sees keys 0 to Lengths[b] - 1, padding last. Empty: all.</param>
/// <param name="Mask">f32 [batch, Tk], added to the scores: 0 or float.MinValue, HF's extended attention mask. Empty: none.</param>
/// <param name="Causal">True: query q sees keys 0 to q + Tk - Tq (with a cache the queries are the last positions).</param>
public readonly record struct KeyMask(Tensor Lengths, Tensor Mask, bool Causal);

/// <summary>Scores to probabilities, row by row (HF: T5Attention, softmax of scores + position_bias + mask).</summary>
/// <remarks>
/// Forward   s = score + bias + mask;   p_k = e^(s_k - max s) / sum_j e^(s_j - max s)
/// Backward  ds_k = p_k (dp_k - sum_j dp_j p_j).   Derivation: docs/derivations/attention_probabilities.md.
/// Shapes    scores, p, dp, ds: [batch, H, Tq, Tk];  bias: [H, Tq, Tk] or by distance;  nothing but p is kept.
/// Masking   HF adds float.MinValue to a masked score: beside a visible key its probability is exactly 0, and where no key is
///           visible all scores are MinValue and the row is uniform over all Tk keys, finite. Both are reproduced, tested, and
///           computed without the addition where lengths or causality tell the visible range. ds is 0 wherever p is.
/// Numerics  row maximum subtracted, sums in double; error bound: see AttentionProbabilitiesTests.
/// Source    Vaswani et al. 2017, eq. 1; HF transformers modeling_t5.py T5Attention.
/// </remarks>
public static partial class AttentionProbabilities
{
    /// <summary>Turns scores into probabilities where they lie.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="scores">f32 [batch, H, Tq, Tk]: products q k, overwritten by p.</param>
    /// <param name="bias">f32, see <paramref name="layout"/>; empty where there is none (cross-attention).</param>
    /// <param name="mask">Which keys are visible.</param>
    /// <param name="batch">Examples, 0 or more.</param>
    /// <param name="H">Heads, 1 or more.</param>
    /// <param name="Tq">Queries, 1 or more.</param>
    /// <param name="Tk">Keys, 1 or more.</param>
    /// <param name="layout">How <paramref name="bias"/> lies.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a length leaves [0, Tk].</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void ForwardInPlace(ComputeDevice device, Tensor scores, Tensor bias, KeyMask mask, long batch, int H, int Tq, int Tk, BiasLayout layout)
    {
        const string Op = "AttentionProbabilities.ForwardInPlace";
        Require.Dim(Op, batch, nameof(batch), 0);
        Require.Dim(Op, H, nameof(H));
        Require.Dim(Op, Tq, nameof(Tq));
        Require.Dim(Op, Tk, nameof(Tk));
        Require.Shape(Op, device, scores, nameof(scores), DType.F32, "[batch, H, Tq, Tk]", batch, H, Tq, Tk);
        if (!bias.IsEmpty && layout == BiasLayout.Full)
            Require.Shape(Op, device, bias, nameof(bias), DType.F32, "[H, Tq, Tk]", H, Tq, Tk);
        else if (!bias.IsEmpty)
            Require.Shape(Op, device, bias, nameof(bias), DType.F32, "[H, Tq + Tk - 1]", H, (long)Tq + Tk - 1);
        if (!mask.Lengths.IsEmpty)
            Require.Shape(Op, device, mask.Lengths, "mask.Lengths", DType.I32, "[batch]", batch);
        if (!mask.Mask.IsEmpty)
            Require.Shape(Op, device, mask.Mask, "mask.Mask", DType.F32, "[batch, Tk]", batch, Tk);
        using OpScope trace = OpTrace.Enter(Op, batch * H * Tq, Tk);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(Op, cpu, scores, bias, mask, batch, H, Tq, Tk, layout); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Forward(Op, gpu, scores, bias, mask, batch, H, Tq, Tk, layout); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>ds from dp.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="p">f32 [rows, Tk], Forward's result.</param>
    /// <param name="dp">f32 [rows, Tk].</param>
    /// <param name="ds">f32 [rows, Tk], overwritten; may be <paramref name="dp"/>, not <paramref name="p"/>.</param>
    /// <param name="rows">batch * H * Tq, 0 or more.</param>
    /// <param name="Tk">Keys, 1 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor p, Tensor dp, Tensor ds, long rows, int Tk)
    {
        const string Op = "AttentionProbabilities.Backward";
        Require.Dim(Op, rows, nameof(rows), 0);
        Require.Dim(Op, Tk, nameof(Tk));
        Require.Shape(Op, device, p, nameof(p), DType.F32, "[rows, Tk]", rows, Tk);
        Require.Shape(Op, device, dp, nameof(dp), DType.F32, "[rows, Tk]", rows, Tk);
        Require.Shape(Op, device, ds, nameof(ds), DType.F32, "[rows, Tk]", rows, Tk);
        using OpScope trace = OpTrace.Enter(Op, rows, Tk);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Backward(cpu, p, dp, ds, rows, Tk); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Backward(gpu, p, dp, ds, rows, Tk); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }
}
