// The activation functions of T5's feed-forward layer, one formula each for every vector width, and the loops that apply them plain or
// gated. Contracts: Ops/Gelu.cs, Relu.cs, GatedGelu.cs, GatedRelu.cs.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Cpu;

/// <summary>A scalar function and its derivative.</summary>
internal interface IActivation
{
    /// <summary>f(x), and f'(x).</summary>
    static abstract V Evaluate<V>(V x, out V derivative)
        where V : unmanaged, ISimd<V>;
}

/// <summary>GELU in its tanh form (HF: gelu_new), through the logistic function.</summary>
/// <remarks>
/// With u = sqrt(2/pi) (x + 0.044715 x^3) and s = 1 / (1 + e^-2u) = (1 + tanh u) / 2:  f = x s,  f' = s + 2 x s (1 - s) u'.
/// Differs from HF: 1 + tanh u cancels for x below -1, s does not; the functions are equal.
/// </remarks>
internal readonly struct GeluTanh : IActivation
{
    // 2 sqrt(2/pi), and that times 0.044715, and three times that.
    private const float C1 = 1.5957691216057308f;
    private const float C3 = 0.07135481282759825f;
    private const float C3Slope = 0.21406443848279475f;

    // e^-2u stays finite, so that e s = 1 - s never is infinity times zero; below it f is |x| 2e-38 instead of 0.
    private const float Least2U = -87f;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Evaluate<V>(V x, out V derivative)
        where V : unmanaged, ISimd<V>
    {
        V square = x * x;
        V twoU = V.Max(V.Broadcast(Least2U), x * V.MultiplyAdd(V.Broadcast(C3), square, V.Broadcast(C1)));
        V e = VectorMath.Exp(V.Broadcast(0f) - twoU);
        V s = V.Broadcast(1f) / (V.Broadcast(1f) + e);
        V slope = x * V.MultiplyAdd(V.Broadcast(C3Slope), square, V.Broadcast(C1));
        // forward: f = x s(2u), so: s, and x s (1 - s) (2u)'. Far left the cubic's slope overflows long after s (1 - s) is 0.
        derivative = V.MultiplyAdd(s * (e * s), V.Max(V.Broadcast(-1e30f), V.Min(V.Broadcast(1e30f), slope)), s);
        return x * s;
    }
}

/// <summary>max(x, 0); the derivative at 0 is 0, as in PyTorch.</summary>
internal readonly struct ReluActivation : IActivation
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Evaluate<V>(V x, out V derivative)
        where V : unmanaged, ISimd<V>
    {
        V zero = V.Broadcast(0f);
        derivative = V.SelectLess(zero, x, V.Broadcast(1f), zero);
        // The operand order keeps NaN.
        return V.Max(zero, x);
    }
}

/// <summary>Runs an activation over tensors whose shapes the op has checked.</summary>
/// <typeparam name="TActivation">The function.</typeparam>
internal static unsafe class CpuActivation<TActivation>
    where TActivation : unmanaged, IActivation
{
    public static void Forward(CpuDevice cpu, Tensor x, Tensor y) =>
        CpuRows.RunElements(cpu, x.Elements, new PlainForward { X = (float*)x.Address, Y = (float*)y.Address });

    public static void Backward(CpuDevice cpu, Tensor x, Tensor dy, Tensor dx) =>
        CpuRows.RunElements(cpu, x.Elements, new PlainBackward { X = (float*)x.Address, Dy = (float*)dy.Address, Dx = (float*)dx.Address });

    public static void GatedForward(CpuDevice cpu, Tensor h0, Tensor h1, Tensor y) =>
        CpuRows.RunElements(cpu, h0.Elements, new GateForward { H0 = (float*)h0.Address, H1 = (float*)h1.Address, Y = (float*)y.Address });

    public static void GatedBackward(CpuDevice cpu, Tensor h0, Tensor h1, Tensor dy, Tensor dh0, Tensor dh1) =>
        CpuRows.RunElements(cpu, h0.Elements, new GateBackward
        {
            H0 = (float*)h0.Address,
            H1 = (float*)h1.Address,
            Dy = (float*)dy.Address,
            Dh0 = (float*)dh0.Address,
            Dh1 = (float*)dh1.Address,
        });

    private struct PlainForward : IElementKernel
    {
        public float* X, Y;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public readonly void At<V>(long i)
            where V : unmanaged, ISimd<V> => TActivation.Evaluate(V.Load(X + i), out _).Store(Y + i);
    }

    private struct PlainBackward : IElementKernel
    {
        public float* X, Dy, Dx;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public readonly void At<V>(long i)
            where V : unmanaged, ISimd<V>
        {
            TActivation.Evaluate(V.Load(X + i), out V derivative);
            (V.Load(Dy + i) * derivative).Store(Dx + i);
        }
    }

    private struct GateForward : IElementKernel
    {
        public float* H0, H1, Y;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public readonly void At<V>(long i)
            where V : unmanaged, ISimd<V> => (TActivation.Evaluate(V.Load(H0 + i), out _) * V.Load(H1 + i)).Store(Y + i);
    }

    private struct GateBackward : IElementKernel
    {
        public float* H0, H1, Dy, Dh0, Dh1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public readonly void At<V>(long i)
            where V : unmanaged, ISimd<V>
        {
            V dy = V.Load(Dy + i);
            V h1 = V.Load(H1 + i);
            // forward: y = f(h0) h1, so: each factor's gradient is dy times the other one.
            V f = TActivation.Evaluate(V.Load(H0 + i), out V derivative);
            (dy * h1 * derivative).Store(Dh0 + i);
            (dy * f).Store(Dh1 + i);
        }
    }
}
