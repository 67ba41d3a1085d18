// A linear layer with a frozen weight in the checkpoint's own [out, in] layout: the two products that T5 needs of it.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Model.Blocks;

/// <summary>y = x W^T and its input gradient dx = dy W (HF: nn.Linear without bias). Both read the same bytes of W, so one copy serves both.</summary>
/// <remarks>Shapes: x, dx: [rows, inner];  y, dy: [rows, outer];  W: [outer, inner], f32, bf16, f16, or i8 or u4 with scales.</remarks>
internal static class Linear
{
    /// <summary>y = x W^T, in the precision that <paramref name="on"/> asks for.</summary>
    public static void Forward(BlockScratch on, Tensor x, Tensor w, Tensor y, int rows, int inner, int outer) =>
        Gemm.Run(on.Device, new GemmArgs { A = x, B = w, C = y, M = rows, N = outer, K = inner, TransB = true, Compute = on.Compute });

    /// <summary>y += x W^T: the residual add costs no pass of its own.</summary>
    public static void ForwardAccumulate(BlockScratch on, Tensor x, Tensor w, Tensor y, int rows, int inner, int outer) =>
        Gemm.Run(on.Device, new GemmArgs { A = x, B = w, C = y, M = rows, N = outer, K = inner, TransB = true, Accumulate = true, Compute = on.Compute });

    /// <summary>dx = dy W. forward: y = x W^T.</summary>
    public static void Backward(ComputeDevice device, Tensor dy, Tensor w, Tensor dx, int rows, int inner, int outer) =>
        Gemm.Run(device, new GemmArgs { A = dy, B = w, C = dx, M = rows, N = inner, K = outer });

    /// <summary>dx += dy W.</summary>
    public static void BackwardAccumulate(ComputeDevice device, Tensor dy, Tensor w, Tensor dx, int rows, int inner, int outer) =>
        Gemm.Run(device, new GemmArgs { A = dy, B = w, C = dx, M = rows, N = inner, K = outer, Accumulate = true });
}
