// The residual connection. Where a norm follows at once, RmsNorm.AddForward does both in one pass.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Adds what a sublayer computed to the residual stream.</summary>
/// <remarks>
/// Forward   y = x + delta
/// Backward  dx = dy, ddelta = dy: the same tensor serves as both, so nothing is computed; where two branches meet, add them.
/// Shapes    all tensors [rows, D], taken as [elements]; nothing is kept.
/// </remarks>
public static partial class ResidualAdd
{
    /// <summary>y = x + delta.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="delta">f32 [elements].</param>
    /// <param name="y">f32 [elements], overwritten; may be an input.</param>
    /// <param name="elements">0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor x, Tensor delta, Tensor y, long elements)
    {
        const string Op = "ResidualAdd.Forward";
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[elements]", elements);
        Require.Shape(Op, device, delta, nameof(delta), DType.F32, "[elements]", elements);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[elements]", elements);
        using OpScope trace = OpTrace.Enter(Op, elements);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(cpu, x, delta, y); break;
#if ILGPU
            case IlgpuDevice gpu: Elements.Run<AddElement>(gpu, elements, x, delta, out0: y); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>dx = dx + dy: the gradient of one more branch.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="dy">f32 [elements].</param>
    /// <param name="dx">f32 [elements], added to.</param>
    /// <param name="elements">0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void BackwardAccumulate(ComputeDevice device, Tensor dy, Tensor dx, long elements)
    {
        const string Op = "ResidualAdd.BackwardAccumulate";
        Require.Shape(Op, device, dy, nameof(dy), DType.F32, "[elements]", elements);
        Require.Shape(Op, device, dx, nameof(dx), DType.F32, "[elements]", elements);
        using OpScope trace = OpTrace.Enter(Op, elements);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(cpu, dx, dy, dx); break;
#if ILGPU
            case IlgpuDevice gpu: Elements.Run<AddElement>(gpu, elements, dx, dy, out0: dx); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static unsafe class Cpu
    {
        public static void Forward(CpuDevice cpu, Tensor x, Tensor delta, Tensor y) =>
            CpuRows.RunElements(cpu, x.Elements, new Kernel { X = (float*)x.Address, Delta = (float*)delta.Address, Y = (float*)y.Address });

        private struct Kernel : IElementKernel
        {
            public float* X, Delta, Y;

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public readonly void At<V>(long i)
                where V : unmanaged, ISimd<V> => (V.Load(X + i) + V.Load(Delta + i)).Store(Y + i);
        }
    }
}
