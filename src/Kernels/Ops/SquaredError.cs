// The reconstruction loss of the subspace: how far decoded prompts are from the trained ones, row by row. Deliberately not the mean: which rows count
// how often is the caller's (a task may have several examples in a batch), and so is alpha.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Squared distance of rows.</summary>
/// <remarks>
/// Forward   loss_r = sum_i (x_ri - y_ri)^2
/// Backward  dx_ri += 2 w_r (x_ri - y_ri)
/// Shapes    x, y, dx: [rows, n];  loss, w: host memory [rows].
/// Numerics  the difference is rounded to float, its square is exact, sums are double.
/// </remarks>
public static partial class SquaredError
{
    /// <summary>Each row's squared distance.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [rows, n].</param>
    /// <param name="y">f32 [rows, n].</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="n">1 or more.</param>
    /// <param name="loss">Host memory [rows], overwritten.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static unsafe void Forward(ComputeDevice device, Tensor x, Tensor y, int rows, long n, Span<double> loss)
    {
        const string Op = "SquaredError.Forward";
        Validate(Op, device, x, y, rows, n);
        if (loss.Length != rows)
            throw new ArgumentException($"{Op}: loss has {loss.Length} elements, expected [rows] = [{rows}].", nameof(loss));
        using OpScope trace = OpTrace.Enter(Op, rows, n);
#if ILGPU
        if (device is IlgpuDevice gpu)
        {
            Ilgpu.Forward(gpu, x, y, rows, n, loss);
            return;
        }
#endif
        if (device is not CpuDevice cpu)
            throw Require.NoKernel(Op, device);
        fixed (double* results = loss)
            CpuRows.Run(cpu, rows, n, new ForwardKernel { X = (float*)x.Address, Y = (float*)y.Address, N = n, Loss = results });
    }

    /// <summary>Adds the gradient to dx.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [rows, n].</param>
    /// <param name="y">f32 [rows, n].</param>
    /// <param name="weights">Host memory [rows]: the gradient at each row's loss.</param>
    /// <param name="dx">f32 [rows, n], added to.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="n">1 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static unsafe void BackwardAccumulate(ComputeDevice device, Tensor x, Tensor y, ReadOnlySpan<float> weights, Tensor dx, int rows, long n)
    {
        const string Op = "SquaredError.BackwardAccumulate";
        Validate(Op, device, x, y, rows, n);
        Require.Shape(Op, device, dx, nameof(dx), DType.F32, "[rows, n]", rows, n);
        if (weights.Length != rows)
            throw new ArgumentException($"{Op}: weights has {weights.Length} elements, expected [rows] = [{rows}].", nameof(weights));
        using OpScope trace = OpTrace.Enter(Op, rows, n);
#if ILGPU
        if (device is IlgpuDevice gpu)
        {
            Ilgpu.BackwardAccumulate(gpu, x, y, weights, dx, rows, n);
            return;
        }
#endif
        if (device is not CpuDevice cpu)
            throw Require.NoKernel(Op, device);
        fixed (float* w = weights)
            CpuRows.Run(cpu, rows, n, new BackwardKernel { X = (float*)x.Address, Y = (float*)y.Address, Dx = (float*)dx.Address, N = n, W = w });
    }

    private static void Validate(string op, ComputeDevice device, Tensor x, Tensor y, int rows, long n)
    {
        Require.Dim(op, rows, nameof(rows));
        Require.Dim(op, n, nameof(n));
        Require.Shape(op, device, x, nameof(x), DType.F32, "[rows, n]", rows, n);
        Require.Shape(op, device, y, nameof(y), DType.F32, "[rows, n]", rows, n);
    }

    private unsafe struct ForwardKernel : IRowKernel
    {
        public float* X, Y;
        public long N;
        public double* Loss;

        [MethodImpl(Jit.Loop)]
        public readonly void Rows<V>(long first, long end)
            where V : unmanaged, ISimd<V>
        {
            for (long row = first; row < end; row++)
            {
                float* x = X + row * N, y = Y + row * N;
                double sum = 0;
                long i = 0;
                if (V.Lanes > 1)
                {
                    V lower = V.Broadcast(0), upper = V.Broadcast(0);
                    for (; i <= N - V.Lanes; i += V.Lanes)
                    {
                        V d = V.Load(x + i) - V.Load(y + i);
                        lower = V.AddProductsLower(lower, d, d);
                        upper = V.AddProductsUpper(upper, d, d);
                    }
                    sum = V.SumDoubles(lower, upper);
                }
                for (; i < N; i++)
                {
                    float d = x[i] - y[i];
                    sum += (double)d * d;
                }
                Loss[row] = sum;
            }
        }
    }

    private unsafe struct BackwardKernel : IRowKernel
    {
        public float* X, Y, Dx, W;
        public long N;

        [MethodImpl(Jit.Loop)]
        public readonly void Rows<V>(long first, long end)
            where V : unmanaged, ISimd<V>
        {
            for (long row = first; row < end; row++)
            {
                float* x = X + row * N, y = Y + row * N, dx = Dx + row * N;
                // forward: loss = sum (x - y)^2, so: 2 (x - y).
                float w = 2 * W[row];
                long i = 0;
                for (; i <= N - V.Lanes; i += V.Lanes)
                    V.MultiplyAdd(V.Load(x + i) - V.Load(y + i), V.Broadcast(w), V.Load(dx + i)).Store(dx + i);
                for (; i < N; i++)
                    F32x1.MultiplyAdd(F32x1.Load(x + i) - F32x1.Load(y + i), F32x1.Broadcast(w), F32x1.Load(dx + i)).Store(dx + i);
            }
        }
    }
}
