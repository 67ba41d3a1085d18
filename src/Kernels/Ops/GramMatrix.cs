// Inner products of all pairs of rows: what norms of outer-product sums (clipping) and the principal components of few long prompts need.
// Deliberately not Gemm: the sums are double, because a norm of a sum of products cancels.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>gram = x x^T, in double, to host memory.</summary>
/// <remarks>
/// Formula   gram[a, b] = sum_i x[a, i] x[b, i].   Of few rows: the work is rows^2 n / 2.
/// Norm      |sum_c l_c r_c^T|^2 = sum_ab (l_a . l_b)(r_a . r_b): the norm of a gradient in factors, see docs/derivations/outer_product_adamw.md.
/// Numerics  exact products, double sums in an order that depends on n alone.
/// </remarks>
public static partial class GramMatrix
{
    /// <summary>Computes the matrix.</summary>
    /// <param name="device">Where x lies.</param>
    /// <param name="x">f32 [rows, n].</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="n">1 or more.</param>
    /// <param name="gram">Host memory [rows, rows], overwritten; symmetric.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static unsafe void Run(ComputeDevice device, Tensor x, int rows, long n, Span<double> gram)
    {
        const string Op = "GramMatrix.Run";
        Require.Dim(Op, rows, nameof(rows));
        Require.Dim(Op, n, nameof(n));
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[rows, n]", rows, n);
        if (gram.Length != (long)rows * rows)
            throw new ArgumentException($"{Op}: gram has {gram.Length} elements, expected [rows, rows] = [{rows}, {rows}].", nameof(gram));
        using OpScope trace = OpTrace.Enter(Op, rows, n);
#if ILGPU
        if (device is IlgpuDevice gpu)
        {
            Ilgpu.Run(gpu, x, rows, n, gram);
            return;
        }
#endif
        if (device is not CpuDevice cpu)
            throw Require.NoKernel(Op, device);
        fixed (double* results = gram)
            CpuRows.Run(cpu, (long)rows * (rows + 1) / 2, n, new PairKernel { X = (float*)x.Address, N = n, Width = rows, Results = results });
    }

    /// <summary>The squared Frobenius norm of sum_c left_c right_c^T from the two Gram matrices.</summary>
    /// <param name="left">[count, count].</param>
    /// <param name="right">[count, count].</param>
    /// <returns>0 or more; NaN where a factor has one.</returns>
    /// <exception cref="ArgumentException">The sizes differ.</exception>
    public static double OuterProductNormSquared(ReadOnlySpan<double> left, ReadOnlySpan<double> right)
    {
        if (left.Length != right.Length)
            throw new ArgumentException($"GramMatrix.OuterProductNormSquared: right has {right.Length} elements, expected {left.Length}, as left.", nameof(right));
        double sum = 0;
        for (int i = 0; i < left.Length; i++)
            sum += left[i] * right[i];
        // Rounding can leave a vanishing gradient below 0. Math.Max keeps NaN.
        return Math.Max(0, sum);
    }

    private unsafe struct PairKernel : IRowKernel
    {
        public float* X;
        public long N;
        public int Width;
        public double* Results;

        [MethodImpl(Jit.Loop)]
        public readonly void Rows<V>(long first, long end)
            where V : unmanaged, ISimd<V>
        {
            // Pair number a (a + 1) / 2 + b with b <= a.
            for (long pair = first; pair < end; pair++)
            {
                long a = (long)((Math.Sqrt(8.0 * pair + 1) - 1) / 2), b = pair - a * (a + 1) / 2;
                Results[a * Width + b] = Results[b * Width + a] = RowMath.Dot<V>(X + a * N, X + b * N, N);
            }
        }
    }
}
