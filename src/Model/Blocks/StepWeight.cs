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
/// <param name="shared">Holds the packed copies of batches that run side by side; null: a copy of its own.</param>
internal sealed class StepWeight(ComputeDevice device, Tensor stored, int inner, int outer, ComputeType compute, bool pack, PackedWeights? shared = null) : IDisposable
{
    private readonly CpuDevice? _cpu = device as CpuDevice;

    // Packed ones multiply float32; what is stored narrower is read as it is.
    private readonly PackedMatrix? _packed = pack && device is CpuDevice cpu && compute == ComputeType.F32 && stored.DType == DType.F32 ? shared?.Of(cpu, stored, outer, inner) ?? new PackedMatrix(cpu, stored, outer, inner) : null;

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

    /// <summary>One row a text, by two or three matrices that read the same rows.</summary>
    /// <param name="x">f32 [rows, inner].</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="a">The first, and f32 [rows, its outer].</param>
    /// <param name="b">The second.</param>
    /// <param name="c">The third; its weight may be null.</param>
    public static void All(Tensor x, int rows, (StepWeight Weight, Tensor Y) a, (StepWeight? Weight, Tensor Y) b, (StepWeight? Weight, Tensor Y) c = default)
    {
        if (a.Weight._packed is { } first && b.Weight?._packed is { } second && c.Weight is null)
        {
            PackedMatrix.MultiplyAll(x, [new(first, a.Y), new(second, b.Y)], rows);
            return;
        }
        if (a.Weight._packed is { } one && b.Weight?._packed is { } two && c.Weight?._packed is { } three)
        {
            PackedMatrix.MultiplyAll(x, [new(one, a.Y), new(two, b.Y), new(three, c.Y)], rows);
            return;
        }
        a.Weight.Step(x, a.Y, rows);
        b.Weight?.Step(x, b.Y, rows);
        c.Weight?.Step(x, c.Y, rows);
    }

    /// <summary>All positions of texts that join, by two matrices.</summary>
    /// <param name="x">f32 [rows, inner].</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="a">The first, and f32 [rows, its outer], overwritten; not <paramref name="x"/>.</param>
    /// <param name="b">The second.</param>
    public static void Whole(Tensor x, int rows, (StepWeight Weight, Tensor Y) a, (StepWeight Weight, Tensor Y) b)
    {
        if (a.Weight._packed is { } first && b.Weight._packed is { } second)
        {
            PackedMatrix.MultiplyAll(x, [new(first, a.Y), new(second, b.Y)], rows);
            return;
        }
        a.Weight.Whole(x, a.Y, rows);
        b.Weight.Whole(x, b.Y, rows);
    }

    private void Whole(Tensor x, Tensor y, int rows)
    {
        if (_packed is not null)
            _packed.Multiply(x, y, rows);
        else
            Gemm.Run(device, Product(x, y, rows));
    }

    public void Dispose()
    {
        // A shared copy is its owner's.
        if (shared is null)
            _packed?.Dispose();
    }

    private GemmArgs Product(Tensor x, Tensor y, int rows) => new() { A = x, B = stored, C = y, M = rows, N = outer, K = inner, TransB = true, Compute = compute };
}
