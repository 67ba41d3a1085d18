// One AdamW step of one tensor, fused: gradient, moments and parameter are read and written once. Deliberately not: which of the published
// variants (Optimizers/AdamW.cs turns a variant into these coefficients), and no gradient clipping (Optimizers/GradientClipping.cs).
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>The numbers of one AdamW step.</summary>
/// <param name="Keep">p is first multiplied by this: decay before the step; 1 for none.</param>
/// <param name="Beta1">Decay of the first moment.</param>
/// <param name="NewWeight1">1 - beta1, rounded from the exact difference.</param>
/// <param name="Beta2">Decay of the second moment.</param>
/// <param name="NewWeight2">1 - beta2.</param>
/// <param name="RootDivisor">sqrt(v) is divided by this before epsilon is added.</param>
/// <param name="Epsilon">Added to the root.</param>
/// <param name="StepSize">Factor of m / denominator.</param>
/// <param name="Shrink">p times this is added last: decay after the step, 0 or less.</param>
public readonly record struct AdamWCoefficients(
    float Keep, float Beta1, float NewWeight1, float Beta2, float NewWeight2, float RootDivisor, float Epsilon, float StepSize, float Shrink);

/// <summary>AdamW's update of a tensor.</summary>
/// <remarks>
/// Formula   m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2;   p = keep p - step m / (sqrt(v) / divisor + epsilon);   p = p + shrink p
/// Shapes    g, m, v, p: [elements].
/// Numerics  float, element by element: the same bits for any number of threads. Two or three roundings differ from PyTorch's.
/// Source    Loshchilov &amp; Hutter 2019, algorithm 2; torch.optim.AdamW; transformers.AdamW (4.20).
/// </remarks>
public static partial class AdamWUpdate
{
    /// <summary>Does the step.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="g">f32 [elements], the gradient.</param>
    /// <param name="m">f32 [elements], first moment, updated.</param>
    /// <param name="v">f32 [elements], second moment, updated.</param>
    /// <param name="p">f32 [elements], the parameter, updated.</param>
    /// <param name="elements">1 or more.</param>
    /// <param name="coefficients">The step's numbers.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static unsafe void Run(ComputeDevice device, Tensor g, Tensor m, Tensor v, Tensor p, long elements, in AdamWCoefficients coefficients)
    {
        const string Op = "AdamWUpdate.Run";
        Require.Dim(Op, elements, nameof(elements));
        Require.Shape(Op, device, g, nameof(g), DType.F32, "[elements]", elements);
        Require.Shape(Op, device, m, nameof(m), DType.F32, "[elements]", elements);
        Require.Shape(Op, device, v, nameof(v), DType.F32, "[elements]", elements);
        Require.Shape(Op, device, p, nameof(p), DType.F32, "[elements]", elements);
        using OpScope trace = OpTrace.Enter(Op, elements);
        switch (device)
        {
            case CpuDevice cpu:
                CpuRows.RunElements(cpu, elements, new Kernel { G = (float*)g.Address, M = (float*)m.Address, V = (float*)v.Address, P = (float*)p.Address, C = coefficients });
                break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Run(gpu, g, m, v, p, elements, coefficients); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    // Also the last stage of OuterProductAdamW, whose gradient is a tile in the first-level cache.
    internal unsafe struct Kernel : IElementKernel
    {
        public float* G, M, V, P;
        public AdamWCoefficients C;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public readonly void At<T>(long i)
            where T : unmanaged, ISimd<T>
        {
            T g = T.Load(G + i);
            T m = T.MultiplyAdd(g, T.Broadcast(C.NewWeight1), T.Load(M + i) * T.Broadcast(C.Beta1));
            T v = T.MultiplyAdd(g * g, T.Broadcast(C.NewWeight2), T.Load(V + i) * T.Broadcast(C.Beta2));
            m.Store(M + i);
            v.Store(V + i);
            T denominator = T.Sqrt(v) / T.Broadcast(C.RootDivisor) + T.Broadcast(C.Epsilon);
            T p = T.Load(P + i) * T.Broadcast(C.Keep) - T.Broadcast(C.StepSize) * (m / denominator);
            T.MultiplyAdd(p, T.Broadcast(C.Shrink), p).Store(P + i);
        }
    }
}
