// The Walsh-Hadamard transform, the fast half of a Fastfood projection. Deliberately without the diagonals and the permutation: those are the projection's.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Each row times Hadamard's matrix.</summary>
/// <remarks>
/// Forward   H_1 = [1],  H_2n = [H_n H_n; H_n -H_n];   x = H x, unnormalised: H H = n I.
/// Backward  the same: H is symmetric.
/// Shapes    x: [rows, n], n a power of two.
/// Numerics  float, log2 n additions an element in a fixed order: |error| &lt;= log2(n) eps sum|x|. The same bits for any threads and any vector width.
/// Source    Fino and Algazi 1976; Le, Sarlos and Smola 2013 (Fastfood).
/// </remarks>
public static partial class WalshHadamard
{
    /// <summary>Transforms in place.</summary>
    /// <param name="device">Where x lies.</param>
    /// <param name="x">f32 [rows, n], overwritten.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="n">A power of two.</param>
    /// <exception cref="ArgumentException">n is no power of two, or a tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static unsafe void RunInPlace(ComputeDevice device, Tensor x, int rows, long n)
    {
        const string Op = "WalshHadamard.RunInPlace";
        Require.Dim(Op, rows, nameof(rows));
        if (n < 1 || (n & (n - 1)) != 0)
            throw new ArgumentException($"{Op}: n is {n}, expected a power of two. Pad with zeros.", nameof(n));
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[rows, n]", rows, n);
        using OpScope trace = OpTrace.Enter(Op, rows, n);
#if ILGPU
        if (device is IlgpuDevice gpu)
        {
            Ilgpu.Run(gpu, x, rows, n);
            return;
        }
#endif
        if (device is not CpuDevice cpu)
            throw Require.NoKernel(Op, device);
        CpuRows.Run(cpu, rows, n * (1 + long.Log2(n)), new Kernel { X = (float*)x.Address, N = n });
    }

    /// <summary>One row, by the calling thread.</summary>
    [MethodImpl(Jit.Loop)]
    internal static unsafe void Row<V>(float* x, long n)
        where V : unmanaged, ISimd<V>
    {
        for (long half = 1; half < n; half *= 2)
        {
            if (half < V.Lanes)
                Stage<F32x1>(x, n, half);
            else
                Stage<V>(x, n, half);
        }
    }

    [MethodImpl(Jit.Loop)]
    private static unsafe void Stage<V>(float* x, long n, long half)
        where V : unmanaged, ISimd<V>
    {
        for (long block = 0; block < n; block += 2 * half)
        {
            float* lower = x + block, upper = lower + half;
            for (long i = 0; i < half; i += V.Lanes)
            {
                V a = V.Load(lower + i), b = V.Load(upper + i);
                (a + b).Store(lower + i);
                (a - b).Store(upper + i);
            }
        }
    }

    private unsafe struct Kernel : IRowKernel
    {
        public float* X;
        public long N;

        [MethodImpl(Jit.Loop)]
        public readonly void Rows<V>(long first, long end)
            where V : unmanaged, ISimd<V>
        {
            for (long row = first; row < end; row++)
                Row<V>(X + row * N, N);
        }
    }
}
