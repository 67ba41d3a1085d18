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
public static unsafe partial class LstmCell
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
        using OpScope trace = OpTrace.Enter(Op, rows, h);
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
        using OpScope trace = OpTrace.Enter(Op, rows, h);
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

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V Sigmoid<V>(V x)
        where V : unmanaged, ISimd<V> => V.Broadcast(1) / (V.Broadcast(1) + VectorMath.Exp(V.Broadcast(0) - x));

    private static class Cpu
    {
        public static void Forward(CpuDevice cpu, Tensor gates, Tensor previous, Tensor cell, Tensor y, long rows, long h) =>
            CpuRows.Run(cpu, rows, 8 * h, new ForwardKernel { Gates = (float*)gates.Address, Previous = (float*)previous.Address, Cell = (float*)cell.Address, Y = (float*)y.Address, H = h });

        public static void Backward(CpuDevice cpu, Tensor gates, Tensor previous, Tensor cell, Tensor dy, Tensor dcell, Tensor dgates, long rows, long h) =>
            CpuRows.Run(cpu, rows, 16 * h, new BackwardKernel
            {
                Gates = (float*)gates.Address,
                Previous = (float*)previous.Address,
                Cell = (float*)cell.Address,
                Dy = (float*)dy.Address,
                Dcell = (float*)dcell.Address,
                Dgates = (float*)dgates.Address,
                H = h,
            });

        private struct ForwardKernel : IRowKernel
        {
            public float* Gates, Previous, Cell, Y;
            public long H;

            [MethodImpl(MethodImplOptions.AggressiveOptimization)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                {
                    long i = 0;
                    for (; i <= H - V.Lanes; i += V.Lanes)
                        At<V>(row, i);
                    for (; i < H; i++)
                        At<F32x1>(row, i);
                }
            }

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            private readonly void At<V>(long row, long i)
                where V : unmanaged, ISimd<V>
            {
                float* gate = Gates + row * 4 * H + i;
                V input = Sigmoid(V.Load(gate)), forget = Sigmoid(V.Load(gate + H)), candidate = VectorMath.Tanh(V.Load(gate + 2 * H)), output = Sigmoid(V.Load(gate + 3 * H));
                V before = Previous == null ? V.Broadcast(0) : V.Load(Previous + row * H + i);
                V cell = V.MultiplyAdd(forget, before, input * candidate);
                input.Store(gate);
                forget.Store(gate + H);
                candidate.Store(gate + 2 * H);
                output.Store(gate + 3 * H);
                cell.Store(Cell + row * H + i);
                (output * VectorMath.Tanh(cell)).Store(Y + row * H + i);
            }
        }

        private struct BackwardKernel : IRowKernel
        {
            public float* Gates, Previous, Cell, Dy, Dcell, Dgates;
            public long H;

            [MethodImpl(MethodImplOptions.AggressiveOptimization)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                {
                    long i = 0;
                    for (; i <= H - V.Lanes; i += V.Lanes)
                        At<V>(row, i);
                    for (; i < H; i++)
                        At<F32x1>(row, i);
                }
            }

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            private readonly void At<V>(long row, long i)
                where V : unmanaged, ISimd<V>
            {
                float* gate = Gates + row * 4 * H + i;
                float* to = Dgates + row * 4 * H + i;
                long at = row * H + i;
                V one = V.Broadcast(1);
                V input = V.Load(gate), forget = V.Load(gate + H), candidate = V.Load(gate + 2 * H), output = V.Load(gate + 3 * H);
                V tanh = VectorMath.Tanh(V.Load(Cell + at)), dy = V.Load(Dy + at);
                V before = Previous == null ? V.Broadcast(0) : V.Load(Previous + at);
                // forward: y = o tanh(c), so: o (1 - t^2), as a product that does not cancel near 1.
                V dcell = V.MultiplyAdd(dy * output, (one - tanh) * (one + tanh), V.Load(Dcell + at));
                (dcell * candidate * input * (one - input)).Store(to);
                (dcell * before * forget * (one - forget)).Store(to + H);
                (dcell * input * ((one - candidate) * (one + candidate))).Store(to + 2 * H);
                (dy * tanh * output * (one - output)).Store(to + 3 * H);
                (dcell * forget).Store(Dcell + at);
            }
        }
    }
}
