// A frozen linear layer as a decoder's steps use it: few rows at a time, read as it is stored or packed once where the copy is small.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Model.Blocks;

/// <summary>y = x W^T; a row's bits do not depend on the rows beside it.</summary>
/// <param name="device">Does the work.</param>
/// <param name="stored">[outer, inner], as the checkpoint has it.</param>
/// <param name="inner">Columns of W.</param>
/// <param name="outer">Rows of W.</param>
/// <param name="compute">What products multiply.</param>
/// <param name="pack">On the CPU: whether the model is small enough that a packed copy of float32 weights pays: at 8 to 32 rows of the shipped checkpoint a sixth faster, at one slower.</param>
internal sealed class StepWeight(ComputeDevice device, Tensor stored, int inner, int outer, ComputeType compute, bool pack) : IDisposable
{
    private readonly CpuDevice? _cpu = device as CpuDevice;

    // Packed ones multiply float32; what is stored narrower is read as it is.
    private readonly PackedMatrix? _packed = pack && device is CpuDevice cpu && compute == ComputeType.F32 && stored.DType == DType.F32 ? new PackedMatrix(cpu, stored, outer, inner) : null;

    /// <summary>One row a text.</summary>
    /// <param name="x">f32 [rows, inner].</param>
    /// <param name="y">f32 [rows, outer]; not <paramref name="x"/>.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="accumulate">Add to y.</param>
    /// <param name="alpha">Factor.</param>
    public void Step(Tensor x, Tensor y, int rows, bool accumulate = false, float alpha = 1)
    {
        if (_packed is not null)
            _packed.Multiply(x, y, rows, accumulate, alpha);
        else if (_cpu is not null)
            FewRows.Run(_cpu, Product(x, y, rows) with { Accumulate = accumulate, Alpha = alpha });
        else
            Gemm.Run(device, Product(x, y, rows) with { Accumulate = accumulate, Alpha = alpha });
    }

    /// <summary>All positions of texts that join.</summary>
    /// <param name="x">f32 [rows, inner].</param>
    /// <param name="y">f32 [rows, outer], overwritten; not <paramref name="x"/>.</param>
    /// <param name="rows">1 or more.</param>
    public void Whole(Tensor x, Tensor y, int rows)
    {
        if (_packed is not null)
            _packed.Multiply(x, y, rows);
        else
            Gemm.Run(device, Product(x, y, rows));
    }

    public void Dispose() => _packed?.Dispose();

    private GemmArgs Product(Tensor x, Tensor y, int rows) => new() { A = x, B = stored, C = y, M = rows, N = outer, K = inner, TransB = true, Compute = compute };
}
