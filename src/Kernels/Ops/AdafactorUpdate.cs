// One Adafactor step of one tensor: the contract. Kernels: AdafactorUpdate.Cpu.cs. Deliberately not: which of the published variants
// (Optimizers/Adafactor.cs), and no momentum, relative step or parameter scale: no recipe for soft prompts uses them.
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>The numbers of one Adafactor step.</summary>
/// <param name="Beta2">Decay of the second moment, 1 - t^-0.8.</param>
/// <param name="NewWeight">1 - beta2, rounded from the exact difference.</param>
/// <param name="Epsilon">Added to squared gradients (1e-30).</param>
/// <param name="ClipThreshold">Root mean square that the update is scaled down to where it is larger.</param>
/// <param name="LearningRate">Factor of the clipped update.</param>
/// <param name="Keep">p is multiplied by this; 1 for no decay in this form.</param>
/// <param name="Shrink">p times this is added to that; 0 for no decay in this form.</param>
public readonly record struct AdafactorCoefficients(
    float Beta2, float NewWeight, float Epsilon, float ClipThreshold, float LearningRate, float Keep, float Shrink);

/// <summary>Adafactor's update of a matrix; a vector is a matrix of one row.</summary>
/// <remarks>
/// Full      v = beta2 v + (1 - beta2) (g^2 + eps);   y = g / sqrt(v)
/// Factored  r_i = beta2 r_i + (1 - beta2) mean_j(g_ij^2 + eps);   c_j likewise over i;   y_ij = g_ij / sqrt(r_i / mean(r)) / sqrt(c_j)
/// Both      u = y / max(1, rms(y) / threshold);   p = keep p + shrink p - lr u
/// Shapes    g, v, p: [rows, columns];  r: [rows];  c: [columns].
/// Passes    rms(y) is known only after a whole pass, and y is cheaper to make again than to keep: two passes, factored three.
/// Numerics  elements in float, sums in double in an order that does not depend on threads.
/// Source    Shazeer &amp; Stern 2018, algorithms 4 and 5; T5X adafactor.py; transformers.Adafactor (4.20).
/// </remarks>
public static partial class AdafactorUpdate
{
    /// <summary>Elements of f64 scratch that a step needs.</summary>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <returns>One per row and column.</returns>
    public static long SumElements(long rows, long columns) => checked(rows + columns);

    /// <summary>A step with the whole second moment.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="g">f32 [rows, columns], the gradient.</param>
    /// <param name="v">f32 [rows, columns], second moment, updated.</param>
    /// <param name="p">f32 [rows, columns], the parameter, updated.</param>
    /// <param name="sums">f64 [rows + columns], scratch.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="columns">1 or more.</param>
    /// <param name="coefficients">The step's numbers.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void RunFull(ComputeDevice device, Tensor g, Tensor v, Tensor p, Tensor sums, long rows, long columns, in AdafactorCoefficients coefficients)
    {
        const string Op = "AdafactorUpdate.RunFull";
        Check(Op, device, g, p, sums, rows, columns);
        Require.Shape(Op, device, v, nameof(v), DType.F32, "[rows, columns]", rows, columns);
        using OpScope trace = OpTrace.Enter(Op, rows, columns);
        switch (device)
        {
            case CpuDevice cpu: Cpu.RunFull(cpu, g, v, p, sums, rows, columns, coefficients); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.RunFull(gpu, g, v, p, sums, rows, columns, coefficients); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>A step with row and column means of the second moment.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="g">f32 [rows, columns], the gradient.</param>
    /// <param name="r">f32 [rows], row means, updated.</param>
    /// <param name="c">f32 [columns], column means, updated.</param>
    /// <param name="p">f32 [rows, columns], the parameter, updated.</param>
    /// <param name="sums">f64 [rows + columns], scratch.</param>
    /// <param name="factors">f32 [rows + columns], scratch: the reciprocal roots.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="columns">1 or more.</param>
    /// <param name="coefficients">The step's numbers.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void RunFactored(
        ComputeDevice device, Tensor g, Tensor r, Tensor c, Tensor p, Tensor sums, Tensor factors, long rows, long columns, in AdafactorCoefficients coefficients)
    {
        const string Op = "AdafactorUpdate.RunFactored";
        Check(Op, device, g, p, sums, rows, columns);
        Require.Shape(Op, device, r, nameof(r), DType.F32, "[rows]", rows);
        Require.Shape(Op, device, c, nameof(c), DType.F32, "[columns]", columns);
        Require.Shape(Op, device, factors, nameof(factors), DType.F32, "[rows + columns]", rows + columns);
        using OpScope trace = OpTrace.Enter(Op, rows, columns);
        switch (device)
        {
            case CpuDevice cpu: Cpu.RunFactored(cpu, g, r, c, p, sums, factors, rows, columns, coefficients); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.RunFactored(gpu, g, r, c, p, sums, factors, rows, columns, coefficients); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static void Check(string op, ComputeDevice device, Tensor g, Tensor p, Tensor sums, long rows, long columns)
    {
        Require.Dim(op, rows, nameof(rows));
        Require.Dim(op, columns, nameof(columns));
        Require.Shape(op, device, g, nameof(g), DType.F32, "[rows, columns]", rows, columns);
        Require.Shape(op, device, p, nameof(p), DType.F32, "[rows, columns]", rows, columns);
        Require.Shape(op, device, sums, nameof(sums), DType.F64, "[rows + columns]", rows + columns);
    }
}
