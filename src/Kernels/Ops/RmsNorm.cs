// The contract of RMSNorm; its CPU kernels are in RmsNorm.Cpu.cs. Deliberately without a weight gradient: w is frozen.
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Root-mean-square normalisation of the last axis (HF: T5LayerNorm).</summary>
/// <remarks>
/// Forward   r = 1/sqrt(mean_i(x_i^2) + eps);   y_i = w_i (r x_i)
/// Backward  g_i = w_i dy_i;   dx_i = r g_i - x_i r^3 mean_j(g_j x_j).   Derivation: docs/derivations/rms_norm.md.
/// Shapes    x, y, dy, dx: [rows, D];  w: [D];  r: [rows], saved by Forward: 4 bytes a row spare Backward a pass over x.
/// Numerics  sums in double on the CPU; error bound: see RmsNormTests.
/// Source    Zhang &amp; Sennrich 2019, eq. 4; HF transformers modeling_t5.py T5LayerNorm.
/// </remarks>
public static partial class RmsNorm
{
    /// <summary>y = RMSNorm(x).</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [rows, D], the caller's.</param>
    /// <param name="w">f32 [D], the caller's.</param>
    /// <param name="r">f32 [rows], written: the reciprocal root mean square; an empty tensor where no Backward follows.</param>
    /// <param name="y">f32 [rows, D], overwritten; may be <paramref name="x"/>.</param>
    /// <param name="rows">Rows, 0 or more.</param>
    /// <param name="D">Width of a row, 1 or more.</param>
    /// <param name="epsilon">layer_norm_epsilon of the model, 0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor x, Tensor w, Tensor r, Tensor y, long rows, long D, float epsilon)
    {
        const string Op = "RmsNorm.Forward";
        RequireRows(Op, device, w, r, rows, D, rOptional: true);
        Require.Range(Op, epsilon, nameof(epsilon), 0, 1);
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[rows, D]", rows, D);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[rows, D]", rows, D);
        using OpScope trace = OpTrace.Enter(Op, rows, D);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(cpu, x, default, default, w, r, y, rows, D, epsilon); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Forward(gpu, x, default, default, w, r, y, rows, D, epsilon); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>sum = x + delta; y = RMSNorm(sum): the residual add fused with the norm of the next sublayer.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [rows, D], the residual stream.</param>
    /// <param name="delta">f32 [rows, D], what a sublayer adds.</param>
    /// <param name="w">f32 [D].</param>
    /// <param name="r">f32 [rows], written; an empty tensor where no Backward follows.</param>
    /// <param name="sum">f32 [rows, D], overwritten; may be <paramref name="x"/> or <paramref name="delta"/>.</param>
    /// <param name="y">f32 [rows, D], overwritten; not <paramref name="sum"/>.</param>
    /// <param name="rows">Rows, 0 or more.</param>
    /// <param name="D">Width of a row, 1 or more.</param>
    /// <param name="epsilon">layer_norm_epsilon of the model, 0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void AddForward(ComputeDevice device, Tensor x, Tensor delta, Tensor w, Tensor r, Tensor sum, Tensor y, long rows, long D, float epsilon)
    {
        const string Op = "RmsNorm.AddForward";
        RequireRows(Op, device, w, r, rows, D, rOptional: true);
        Require.Range(Op, epsilon, nameof(epsilon), 0, 1);
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[rows, D]", rows, D);
        Require.Shape(Op, device, delta, nameof(delta), DType.F32, "[rows, D]", rows, D);
        Require.Shape(Op, device, sum, nameof(sum), DType.F32, "[rows, D]", rows, D);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[rows, D]", rows, D);
        using OpScope trace = OpTrace.Enter(Op, rows, D);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(cpu, x, delta, sum, w, r, y, rows, D, epsilon); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Forward(gpu, x, delta, sum, w, r, y, rows, D, epsilon); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>r alone: for a Backward whose Forward's y is not needed again.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [rows, D].</param>
    /// <param name="r">f32 [rows], overwritten: the same bits that Forward writes.</param>
    /// <param name="rows">Rows, 0 or more.</param>
    /// <param name="D">Width of a row, 1 or more.</param>
    /// <param name="epsilon">layer_norm_epsilon of the model, 0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void InverseRms(ComputeDevice device, Tensor x, Tensor r, long rows, long D, float epsilon)
    {
        const string Op = "RmsNorm.InverseRms";
        Require.Dim(Op, D, nameof(D));
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[rows, D]", rows, D);
        Require.Shape(Op, device, r, nameof(r), DType.F32, "[rows]", rows);
        using OpScope trace = OpTrace.Enter(Op, rows, D);
        switch (device)
        {
            case CpuDevice cpu: Cpu.InverseRms(cpu, x, r, rows, D, epsilon); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Forward(gpu, x, default, default, default, r, default, rows, D, epsilon); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>dx from dy.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [rows, D], Forward's input (AddForward's sum).</param>
    /// <param name="w">f32 [D].</param>
    /// <param name="r">f32 [rows], as Forward saved it.</param>
    /// <param name="dy">f32 [rows, D].</param>
    /// <param name="dx">f32 [rows, D], overwritten; may be <paramref name="dy"/>.</param>
    /// <param name="rows">Rows, 0 or more.</param>
    /// <param name="D">Width of a row, 1 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor x, Tensor w, Tensor r, Tensor dy, Tensor dx, long rows, long D) =>
        Backward("RmsNorm.Backward", device, x, w, r, dy, dx, rows, D, accumulate: false);

    /// <summary>Adds the gradient to dx, which then is the residual stream's: its own plus what comes through the norm.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [rows, D], Forward's input (AddForward's sum).</param>
    /// <param name="w">f32 [D].</param>
    /// <param name="r">f32 [rows], as Forward saved it.</param>
    /// <param name="dy">f32 [rows, D].</param>
    /// <param name="dx">f32 [rows, D], added to; not <paramref name="dy"/>.</param>
    /// <param name="rows">Rows, 0 or more.</param>
    /// <param name="D">Width of a row, 1 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void BackwardAccumulate(ComputeDevice device, Tensor x, Tensor w, Tensor r, Tensor dy, Tensor dx, long rows, long D) =>
        Backward("RmsNorm.BackwardAccumulate", device, x, w, r, dy, dx, rows, D, accumulate: true);

    private static void Backward(string op, ComputeDevice device, Tensor x, Tensor w, Tensor r, Tensor dy, Tensor dx, long rows, long D, bool accumulate)
    {
        RequireRows(op, device, w, r, rows, D, rOptional: false);
        Require.Shape(op, device, x, nameof(x), DType.F32, "[rows, D]", rows, D);
        Require.Shape(op, device, dy, nameof(dy), DType.F32, "[rows, D]", rows, D);
        Require.Shape(op, device, dx, nameof(dx), DType.F32, "[rows, D]", rows, D);
        using OpScope trace = OpTrace.Enter(op, rows, D);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Backward(cpu, x, w, r, dy, dx, rows, D, accumulate); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Backward(gpu, x, w, r, dy, dx, rows, D, accumulate); break;
#endif
            default: throw Require.NoKernel(op, device);
        }
    }

    private static void RequireRows(string op, ComputeDevice device, Tensor w, Tensor r, long rows, long D, bool rOptional)
    {
        Require.Dim(op, rows, nameof(rows), 0);
        Require.Dim(op, D, nameof(D));
        Require.Shape(op, device, w, nameof(w), DType.F32, "[D]", D);
        if (!rOptional || !r.IsEmpty)
            Require.Shape(op, device, r, nameof(r), DType.F32, "[rows]", rows);
    }
}
