// A frozen linear layer for steps of few rows: packed once where the copy is small, read as it is stored otherwise.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Model.Blocks;

/// <summary>y = x W^T for a handful of rows at a time.</summary>
/// <param name="stored">[outer, inner], as the checkpoint has it.</param>
/// <param name="packed">The same packed; null where it would take too much memory.</param>
/// <param name="inner">Columns of W.</param>
/// <param name="outer">Rows of W.</param>
internal sealed class StepWeight(Tensor stored, PackedMatrix? packed, int inner, int outer) : IDisposable
{
    /// <summary>Looks at a weight, or packs it; packed ones multiply float32, so a device that multiplies bf16 reads them as stored.</summary>
    public static StepWeight Make(CpuDevice device, Tensor stored, int inner, int outer, bool pack) => new(stored, pack && device.Compute == ComputeType.F32 ? new PackedMatrix(device, stored, outer, inner) : null, inner, outer);

    /// <summary>y (= or +=) alpha x W^T; x: [rows, inner], y: [rows, outer].</summary>
    public void Multiply(ComputeDevice device, Tensor x, Tensor y, int rows, bool accumulate = false, float alpha = 1)
    {
        if (packed is not null)
            packed.Multiply(x, y, rows, accumulate, alpha);
        else
            Gemm.Run(device, new GemmArgs { A = x, B = stored, C = y, M = rows, N = outer, K = inner, TransB = true, Accumulate = accumulate, Alpha = alpha });
    }

    public void Dispose() => packed?.Dispose();
}
