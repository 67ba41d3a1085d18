// One step of an LSTM without its products: gates, cell and output. Deliberately not: the sequence (the caller's loop, whose products are Gemm's).
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>The cell of torch.nn.LSTM, gates in its order: i, f, g, o.</summary>
/// <remarks>
/// Forward   i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o);  g = tanh(a_g);  c = f c' + i g;  y = o tanh(c)
/// Backward  t = tanh(c);  do = dy t;  dc += dy o (1 - t^2);  di = dc g;  df = dc c';  dg = dc i;  dc' = dc f;
///           da_i = di i (1 - i), likewise f and o;  da_g = dg (1 - g^2).  Derivation: docs/derivations/lstm.md.
/// Shapes    gates, dgates: [rows, 4 h];  c', c, y, dy, dc: [rows, h].
/// Numerics  sigmoid is 1 / (1 + e^-a), which neither cancels nor overflows to NaN; a few ulp an element.
/// Source    Hochreiter and Schmidhuber 1997; PyTorch torch.nn.LSTM.
/// </remarks>
public static partial class LstmCell
{
    /// <summary>Gates, cell and output from the gates' sums.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="gates">f32 [rows, 4 h]: the sums in, the gates out.</param>
    /// <param name="previous">f32 [rows, h], c'; empty for zeros.</param>
    /// <param name="cell">f32 [rows, h], overwritten; not <paramref name="previous"/>.</param>
    /// <param name="y">f32 [rows, h], overwritten.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="h">1 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor gates, Tensor previous, Tensor cell, Tensor y, long rows, long h)
    {
        const string Op = "LstmCell.Forward";
        Check(Op, device, gates, previous, cell, rows, h);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[rows, h]", rows, h);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(cpu, gates, previous, cell, y, rows, h); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Forward(gpu, gates, previous, cell, y, rows, h); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>Gradients of the gates' sums and of the cell before.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="gates">f32 [rows, 4 h], Forward's gates.</param>
    /// <param name="previous">f32 [rows, h], as Forward had it.</param>
    /// <param name="cell">f32 [rows, h], Forward's.</param>
    /// <param name="dy">f32 [rows, h].</param>
    /// <param name="dcell">f32 [rows, h]: what later steps say of c in, the gradient of c' out.</param>
    /// <param name="dgates">f32 [rows, 4 h], overwritten; may be <paramref name="gates"/>.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="h">1 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor gates, Tensor previous, Tensor cell, Tensor dy, Tensor dcell, Tensor dgates, long rows, long h)
    {
        const string Op = "LstmCell.Backward";
        Check(Op, device, gates, previous, cell, rows, h);
        Require.Shape(Op, device, dy, nameof(dy), DType.F32, "[rows, h]", rows, h);
        Require.Shape(Op, device, dcell, nameof(dcell), DType.F32, "[rows, h]", rows, h);
        Require.Shape(Op, device, dgates, nameof(dgates), DType.F32, "[rows, 4 h]", rows, 4, h);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Backward(cpu, gates, previous, cell, dy, dcell, dgates, rows, h); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Backward(gpu, gates, previous, cell, dy, dcell, dgates, rows, h); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static void Check(string op, ComputeDevice device, Tensor gates, Tensor previous, Tensor cell, long rows, long h)
    {
        Require.Dim(op, rows, nameof(rows));
        Require.Dim(op, h, nameof(h));
        Require.Shape(op, device, gates, nameof(gates), DType.F32, "[rows, 4 h]", rows, 4, h);
        if (!previous.IsEmpty)
            Require.Shape(op, device, previous, nameof(previous), DType.F32, "[rows, h]", rows, h);
        Require.Shape(op, device, cell, nameof(cell), DType.F32, "[rows, h]", rows, h);
    }

    // The formulas, once for a vector of a row's units and for a GPU's one.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Unit<V> Forward<V>(V input, V forget, V candidate, V output, V before)
        where V : unmanaged, ISimd<V>
    {
        var u = default(Unit<V>);
        u.I = Sigmoid(input);
        u.F = Sigmoid(forget);
        u.G = VectorMath.Tanh(candidate);
        u.O = Sigmoid(output);
        u.Cell = V.MultiplyAdd(u.F, before, u.I * u.G);
        u.Y = u.O * VectorMath.Tanh(u.Cell);
        return u;
    }

    // The gates' sums' gradients in the gates' places, the one of c' in the cell's; y has none.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Unit<V> Backward<V>(Unit<V> u, V before, V dy, V later)
        where V : unmanaged, ISimd<V>
    {
        V one = V.Broadcast(1), tanh = VectorMath.Tanh(u.Cell);
        // forward: y = o tanh(c), so: o (1 - t^2), as a product that does not cancel near 1.
        V dcell = V.MultiplyAdd(dy * u.O, (one - tanh) * (one + tanh), later);
        var d = default(Unit<V>);
        d.I = dcell * u.G * u.I * (one - u.I);
        d.F = dcell * before * u.F * (one - u.F);
        d.G = dcell * u.I * ((one - u.G) * (one + u.G));
        d.O = dy * tanh * u.O * (one - u.O);
        d.Cell = dcell * u.F;
        return d;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V Sigmoid<V>(V x)
        where V : unmanaged, ISimd<V> => V.Broadcast(1) / (V.Broadcast(1) + VectorMath.Exp(V.Broadcast(0) - x));

    private struct Unit<V>
        where V : unmanaged, ISimd<V>
    {
        public V I, F, G, O, Cell, Y;
    }
}
