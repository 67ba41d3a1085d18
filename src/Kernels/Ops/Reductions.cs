// Whole tensors to numbers: norms for clipping, sums, and the search for the first number that is none. Deliberately not per-row sums
// inside other ops: those fuse them. The results come back to the caller, so a GPU waits here.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Sums, norms and checks of f32 tensors.</summary>
/// <remarks>
/// Numerics  sums in double, in an order that depends on the number of elements alone: any number of threads gives the same bits,
///           and a segment's sum does not depend on its neighbours (a run in a batch of runs has its solo norm).
/// </remarks>
public static partial class Reductions
{
    /// <summary>sum_i x_i.</summary>
    /// <param name="device">Where the tensor lies.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="elements">0 or more.</param>
    /// <returns>The sum; 0 for no elements.</returns>
    /// <exception cref="ArgumentException">The tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static double Sum(ComputeDevice device, Tensor x, long elements)
    {
        const string Op = "Reductions.Sum";
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[elements]", elements);
        return device switch
        {
            CpuDevice cpu => Cpu.Reduce(cpu, Kind.Sum, x, x),
#if ILGPU
            IlgpuDevice gpu => Ilgpu.Reduce(gpu, Kind.Sum, x, x),
#endif
            _ => throw Require.NoKernel(Op, device),
        };
    }

    /// <summary>sum_i x_i y_i.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="y">f32 [elements]; may be <paramref name="x"/>: the sum of squares.</param>
    /// <param name="elements">0 or more.</param>
    /// <returns>The sum; 0 for no elements.</returns>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static double Dot(ComputeDevice device, Tensor x, Tensor y, long elements)
    {
        const string Op = "Reductions.Dot";
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[elements]", elements);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[elements]", elements);
        return device switch
        {
            CpuDevice cpu => Cpu.Reduce(cpu, Kind.Dot, x, y),
#if ILGPU
            IlgpuDevice gpu => Ilgpu.Reduce(gpu, Kind.Dot, x, y),
#endif
            _ => throw Require.NoKernel(Op, device),
        };
    }

    /// <summary>The largest |x_i|; NaN where any element is NaN.</summary>
    /// <param name="device">Where the tensor lies.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="elements">0 or more.</param>
    /// <returns>0 or more; 0 for no elements.</returns>
    /// <exception cref="ArgumentException">The tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static float MaxAbs(ComputeDevice device, Tensor x, long elements)
    {
        const string Op = "Reductions.MaxAbs";
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[elements]", elements);
        return device switch
        {
            CpuDevice cpu => (float)Cpu.Reduce(cpu, Kind.MaxAbs, x, x),
#if ILGPU
            IlgpuDevice gpu => (float)Ilgpu.Reduce(gpu, Kind.MaxAbs, x, x),
#endif
            _ => throw Require.NoKernel(Op, device),
        };
    }

    /// <summary>The first element that is NaN or infinite.</summary>
    /// <param name="device">Where the tensor lies.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="elements">0 or more.</param>
    /// <returns>Its index; -1 where all are finite.</returns>
    /// <exception cref="ArgumentException">The tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static long FirstNonFinite(ComputeDevice device, Tensor x, long elements)
    {
        const string Op = "Reductions.FirstNonFinite";
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[elements]", elements);
        return device switch
        {
            CpuDevice cpu => (long)Cpu.Reduce(cpu, Kind.FirstNonFinite, x, x),
#if ILGPU
            IlgpuDevice gpu => (long)Ilgpu.Reduce(gpu, Kind.FirstNonFinite, x, x),
#endif
            _ => throw Require.NoKernel(Op, device),
        };
    }

    /// <summary>sum_i x_i^2 over each segment: the squared norm of each prompt.</summary>
    /// <param name="device">Where the tensor lies.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="offsets">Host memory: segment s is elements offsets[s] to offsets[s + 1] - 1.</param>
    /// <param name="sums">Host memory, overwritten: one less than <paramref name="offsets"/>.</param>
    /// <exception cref="ArgumentException">The tensor has another type or device, or the offsets do not rise inside it.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void SumOfSquares(ComputeDevice device, Tensor x, ReadOnlySpan<long> offsets, Span<double> sums) =>
        Segments("Reductions.SumOfSquares", Kind.Dot, device, x, offsets, sums);

    /// <summary>sum_i x_i over each segment.</summary>
    /// <param name="device">Where the tensor lies.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="offsets">Host memory: segment s is elements offsets[s] to offsets[s + 1] - 1.</param>
    /// <param name="sums">Host memory, overwritten: one less than <paramref name="offsets"/>.</param>
    /// <exception cref="ArgumentException">The tensor has another type or device, or the offsets do not rise inside it.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Sum(ComputeDevice device, Tensor x, ReadOnlySpan<long> offsets, Span<double> sums) =>
        Segments("Reductions.Sum", Kind.Sum, device, x, offsets, sums);

    private static void Segments(string op, Kind kind, ComputeDevice device, Tensor x, ReadOnlySpan<long> offsets, Span<double> sums)
    {
        Require.Shape(op, device, x, nameof(x), DType.F32, "[elements]", x.Elements);
        if (offsets.Length != sums.Length + 1)
            throw new ArgumentException($"{op}: offsets has {offsets.Length} entries, expected one more than sums, {sums.Length + 1}.", nameof(offsets));
        for (int s = 0; s < sums.Length; s++)
        {
            if (offsets[s] < 0 || offsets[s + 1] < offsets[s] || offsets[s + 1] > x.Elements)
                throw new ArgumentException($"{op}: segment {s} is [{offsets[s]}, {offsets[s + 1]}), expected a range inside [0, {x.Elements}).", nameof(offsets));
        }
        switch (device)
        {
            case CpuDevice cpu: Cpu.Segments(cpu, kind, x, offsets, sums); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Segments(gpu, kind, x, offsets, sums); break;
#endif
            default: throw Require.NoKernel(op, device);
        }
    }

    internal enum Kind
    {
        Sum,
        Dot,
        MaxAbs,
        FirstNonFinite,
    }

    private static unsafe class Cpu
    {
        // At most this many partial results, on the caller's stack; the least piece is worth handing to a thread.
        private const int MaxParts = 64;
        private const long MinPart = 16 * 1024;

        public static void Segments(CpuDevice cpu, Kind kind, Tensor x, ReadOnlySpan<long> offsets, Span<double> sums)
        {
            for (int s = 0; s < sums.Length; s++)
            {
                Tensor segment = x.Slice(offsets[s], offsets[s + 1] - offsets[s]);
                sums[s] = Reduce(cpu, kind, segment, segment);
            }
        }

        public static double Reduce(CpuDevice cpu, Kind kind, Tensor x, Tensor y)
        {
            long n = x.Elements;
            long part = Math.Max(MinPart, (n + MaxParts - 1) / MaxParts);
            int parts = (int)((n + part - 1) / part);
            double* results = stackalloc double[MaxParts];
            CpuRows.Run(cpu, parts, part, new Kernel { Kind = kind, X = (float*)x.Address, Y = (float*)y.Address, Elements = n, Part = part, Results = results });
            double total = kind == Kind.FirstNonFinite ? -1 : 0;
            for (int p = 0; p < parts; p++)
            {
                switch (kind)
                {
                    case Kind.MaxAbs:
                        // Math.Max keeps NaN.
                        total = Math.Max(total, results[p]);
                        break;
                    case Kind.FirstNonFinite:
                        if (results[p] >= 0)
                            return results[p];
                        break;
                    default:
                        total += results[p];
                        break;
                }
            }
            return total;
        }

        private struct Kernel : IRowKernel
        {
            public Kind Kind;
            public float* X, Y;
            public long Elements, Part;
            public double* Results;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long p = first; p < end; p++)
                {
                    long start = p * Part, n = Math.Min(Part, Elements - start);
                    Results[p] = Kind switch
                    {
                        Kind.Sum => RowMath.Sum<V>(X + start, n),
                        Kind.Dot => RowMath.Dot<V>(X + start, Y + start, n),
                        Kind.MaxAbs => MaxAbs<V>(X + start, n),
                        _ => FirstNonFinite<V>(X, start, n),
                    };
                }
            }

            [MethodImpl(Jit.Loop)]
            private static double MaxAbs<V>(float* x, long n)
                where V : unmanaged, ISimd<V>
            {
                V max = V.Broadcast(0);
                // x - x is 0, or NaN where x is infinite or NaN: a NaN anywhere stays in this sum, whatever the maximum forgot.
                V poison = V.Broadcast(0);
                long i = 0;
                for (; i <= n - V.Lanes; i += V.Lanes)
                {
                    V v = V.Load(x + i);
                    max = V.Max(max, V.Abs(v));
                    poison += v - v;
                }
                float best = RowMath.MaxLane(max);
                bool clean = IsZero(poison);
                for (; i < n; i++)
                {
                    best = MathF.Max(best, MathF.Abs(x[i]));
                    clean &= float.IsFinite(x[i]);
                }
                return clean ? best : Exact(x, n);
            }

            private static double Exact(float* x, long n)
            {
                float best = 0;
                for (long i = 0; i < n; i++)
                    best = MathF.Max(best, MathF.Abs(x[i]));
                return best;
            }

            [MethodImpl(Jit.Loop)]
            private static double FirstNonFinite<V>(float* x, long start, long n)
                where V : unmanaged, ISimd<V>
            {
                V poison = V.Broadcast(0);
                long i = start, end = start + n;
                for (; i <= end - V.Lanes; i += V.Lanes)
                {
                    V v = V.Load(x + i);
                    poison += v - v;
                }
                for (long from = IsZero(poison) ? i : start; from < end; from++)
                {
                    if (!float.IsFinite(x[from]))
                        return from;
                }
                return -1;
            }

            // Each lane, because a horizontal maximum may lose a NaN.
            private static bool IsZero<V>(V v)
                where V : unmanaged, ISimd<V>
            {
                float* lanes = stackalloc float[16];
                v.Store(lanes);
                bool zero = true;
                for (int i = 0; i < V.Lanes; i++)
                    zero &= lanes[i] == 0;
                return zero;
            }
        }
    }
}
