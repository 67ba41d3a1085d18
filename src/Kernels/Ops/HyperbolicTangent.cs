// tanh, the activation of the subspace's autoencoder.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>The hyperbolic tangent.</summary>
/// <remarks>
/// Forward   y = tanh x
/// Backward  dx = dy (1 - y^2)
/// Shapes    all tensors [elements]; y is kept: the result spares a second tanh.
/// Numerics  at most 2 ulp off; see VectorMathTests.
/// </remarks>
public static partial class HyperbolicTangent
{
    /// <summary>y = tanh x.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="y">f32 [elements], overwritten; may be <paramref name="x"/>.</param>
    /// <param name="elements">0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor x, Tensor y, long elements)
    {
        const string Op = "HyperbolicTangent.Forward";
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[elements]", elements);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[elements]", elements);
        using OpScope trace = OpTrace.Enter(Op, elements);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(cpu, x, y); break;
#if ILGPU
            case IlgpuDevice gpu: Elements.Run<TanhElement>(gpu, elements, x, out0: y); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>dx from dy.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="y">f32 [elements], Forward's result.</param>
    /// <param name="dy">f32 [elements].</param>
    /// <param name="dx">f32 [elements], overwritten; may be an input.</param>
    /// <param name="elements">0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor y, Tensor dy, Tensor dx, long elements)
    {
        const string Op = "HyperbolicTangent.Backward";
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[elements]", elements);
        Require.Shape(Op, device, dy, nameof(dy), DType.F32, "[elements]", elements);
        Require.Shape(Op, device, dx, nameof(dx), DType.F32, "[elements]", elements);
        using OpScope trace = OpTrace.Enter(Op, elements);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Backward(cpu, y, dy, dx); break;
#if ILGPU
            case IlgpuDevice gpu: Elements.Run<TanhBackwardElement>(gpu, elements, y, dy, out0: dx); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static unsafe class Cpu
    {
        public static void Forward(CpuDevice cpu, Tensor x, Tensor y) =>
            CpuRows.RunElements(cpu, x.Elements, new ForwardKernel { X = (float*)x.Address, Y = (float*)y.Address });

        public static void Backward(CpuDevice cpu, Tensor y, Tensor dy, Tensor dx) =>
            CpuRows.RunElements(cpu, y.Elements, new BackwardKernel { Y = (float*)y.Address, Dy = (float*)dy.Address, Dx = (float*)dx.Address });

        private struct ForwardKernel : IElementKernel
        {
            public float* X, Y;

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public readonly void At<V>(long i)
                where V : unmanaged, ISimd<V> => VectorMath.Tanh(V.Load(X + i)).Store(Y + i);
        }

        private struct BackwardKernel : IElementKernel
        {
            public float* Y, Dy, Dx;

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public readonly void At<V>(long i)
                where V : unmanaged, ISimd<V>
            {
                V y = V.Load(Y + i);
                // forward: y = tanh x, so: 1 - y^2, as a product that does not cancel near 1.
                (V.Load(Dy + i) * ((V.Broadcast(1f) - y) * (V.Broadcast(1f) + y))).Store(Dx + i);
            }
        }
    }
}
