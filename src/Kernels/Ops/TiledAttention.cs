// Attention without its [Tq, Tk] matrix in memory: the contract. Kernels: TiledAttention.Ilgpu.cs. Deliberately without a CPU half: there the matrix lies in
// the caches, and Gemm with AttentionProbabilities is faster. Masks as numbers are not taken: lengths and causality say all that T5 needs.
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Scores, softmax and context of one attention in one pass, and their gradients with the scores computed again.</summary>
/// <remarks>
/// Forward   s = q k^T + bias;   p = softmax over visible keys of s;   y = p v;   l_q = log sum_k e^(s_qk)
/// Backward  p = e^(s - l);   dv = p^T dy;   dp = dy v^T;   ds = p (dp - sum_j y_j dy_j);   dq = ds k;   dk = ds^T q.
/// Shapes    q, y and gradients: [B, Tq, H, K];  k, v and gradients: [B, Tk, H, K];  bias: [H, Tq + Tk - 1] by distance;  l: [B, H, Tq], saved: 4 bytes a row.
/// Masking   as <see cref="AttentionProbabilities"/>: a row that sees no key is uniform over all Tk.
/// Numerics  T5's scores are not scaled. f32 with running row sums; the order is fixed by the tiles: the same bits every time, no atomic additions.
/// Source    Dao 2023, FlashAttention-2, algorithms 1 and 2; Milakov and Gimelshein 2018 for the running maximum.
/// </remarks>
public static partial class TiledAttention
{
    /// <summary>The widest head that the kernels hold in registers.</summary>
    public const int MaxHeadWidth = 128;

    /// <summary>y and l from q, k, v.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="q">f32 [B, Tq, H, K].</param>
    /// <param name="k">f32 [B, Tk, H, K].</param>
    /// <param name="v">f32 [B, Tk, H, K].</param>
    /// <param name="bias">f32 [H, Tq + Tk - 1], see <see cref="RelativePositionBias.ForwardByDistance"/>; empty for none.</param>
    /// <param name="mask">Lengths and causality; its numbers must be empty.</param>
    /// <param name="logSumExp">f32 [B, H, Tq], overwritten, for Backward.</param>
    /// <param name="y">f32 [B, Tq, H, K], overwritten; not an input.</param>
    /// <param name="B">Examples, 0 or more.</param>
    /// <param name="H">Heads.</param>
    /// <param name="Tq">Queries.</param>
    /// <param name="Tk">Keys.</param>
    /// <param name="dKv">d_kv, at most <see cref="MaxHeadWidth"/>.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or the mask holds numbers.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor q, Tensor k, Tensor v, Tensor bias, KeyMask mask, Tensor logSumExp, Tensor y, long B, int H, int Tq, int Tk, int dKv)
    {
        const string Op = "TiledAttention.Forward";
        RequireShapes(Op, device, q, k, v, bias, mask, logSumExp, y, B, H, Tq, Tk, dKv);
        switch (device)
        {
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Forward(Op, gpu, q, k, v, bias, mask, logSumExp, y, B, H, Tq, Tk, dKv); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>dq, dk and dv from dy.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="q">f32 [B, Tq, H, K], Forward's.</param>
    /// <param name="k">f32 [B, Tk, H, K], Forward's.</param>
    /// <param name="v">f32 [B, Tk, H, K], Forward's.</param>
    /// <param name="bias">Forward's.</param>
    /// <param name="mask">Forward's.</param>
    /// <param name="logSumExp">f32 [B, H, Tq], as Forward saved it.</param>
    /// <param name="y">f32 [B, Tq, H, K], Forward's result.</param>
    /// <param name="dy">f32 [B, Tq, H, K].</param>
    /// <param name="dq">f32 [B, Tq, H, K], overwritten; not an input.</param>
    /// <param name="dk">f32 [B, Tk, H, K], overwritten; not an input. Empty, with <paramref name="dv"/>, where keys need no gradient.</param>
    /// <param name="dv">f32 [B, Tk, H, K], overwritten; not an input.</param>
    /// <param name="B">Examples, 0 or more.</param>
    /// <param name="H">Heads.</param>
    /// <param name="Tq">Queries.</param>
    /// <param name="Tk">Keys.</param>
    /// <param name="dKv">d_kv, at most <see cref="MaxHeadWidth"/>.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or the mask holds numbers.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(
        ComputeDevice device, Tensor q, Tensor k, Tensor v, Tensor bias, KeyMask mask, Tensor logSumExp, Tensor y, Tensor dy, Tensor dq, Tensor dk, Tensor dv,
        long B, int H, int Tq, int Tk, int dKv)
    {
        const string Op = "TiledAttention.Backward";
        RequireShapes(Op, device, q, k, v, bias, mask, logSumExp, y, B, H, Tq, Tk, dKv);
        Require.Shape(Op, device, dy, nameof(dy), DType.F32, "[B, Tq, H, K]", B, Tq, H, dKv);
        Require.Shape(Op, device, dq, nameof(dq), DType.F32, "[B, Tq, H, K]", B, Tq, H, dKv);
        if (!dk.IsEmpty || !dv.IsEmpty)
        {
            Require.Shape(Op, device, dk, nameof(dk), DType.F32, "[B, Tk, H, K]", B, Tk, H, dKv);
            Require.Shape(Op, device, dv, nameof(dv), DType.F32, "[B, Tk, H, K]", B, Tk, H, dKv);
        }
        switch (device)
        {
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Backward(Op, gpu, q, k, v, bias, mask, logSumExp, y, dy, dq, dk, dv, B, H, Tq, Tk, dKv); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static void RequireShapes(string op, ComputeDevice device, Tensor q, Tensor k, Tensor v, Tensor bias, KeyMask mask, Tensor logSumExp, Tensor y, long B, int H, int Tq, int Tk, int dKv)
    {
        Require.Dim(op, B, nameof(B), 0);
        Require.Dim(op, H, nameof(H));
        Require.Dim(op, Tq, nameof(Tq));
        Require.Dim(op, Tk, nameof(Tk));
        Require.Range(op, dKv, nameof(dKv), 1, MaxHeadWidth);
        Require.Shape(op, device, q, nameof(q), DType.F32, "[B, Tq, H, K]", B, Tq, H, dKv);
        Require.Shape(op, device, k, nameof(k), DType.F32, "[B, Tk, H, K]", B, Tk, H, dKv);
        Require.Shape(op, device, v, nameof(v), DType.F32, "[B, Tk, H, K]", B, Tk, H, dKv);
        Require.Shape(op, device, y, nameof(y), DType.F32, "[B, Tq, H, K]", B, Tq, H, dKv);
        Require.Shape(op, device, logSumExp, nameof(logSumExp), DType.F32, "[B, H, Tq]", B, H, Tq);
        if (!bias.IsEmpty)
            Require.Shape(op, device, bias, nameof(bias), DType.F32, "[H, Tq + Tk - 1]", H, (long)Tq + Tk - 1);
        if (!mask.Lengths.IsEmpty)
            Require.Shape(op, device, mask.Lengths, "mask.Lengths", DType.I32, "[B]", B);
        if (!mask.Mask.IsEmpty)
            throw new ArgumentException($"{op}: mask.Mask has {mask.Mask.Elements} elements, expected none. Say what is visible by lengths and causality, or use AttentionProbabilities.", nameof(mask));
    }
}
