// Lays a block of an operand out as the micro-kernel walks it: panels of a few rows (A) or columns (B), k slowest inside a panel.
// Both operands share it: what matters is only whether k runs along the stored rows or across them. Short panels are filled with zeros.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

/// <summary>Packing of one panel: <c>panel[k * width + i]</c>.</summary>
internal static unsafe class Packing
{
    // Short rows (attention) end before the hardware's prefetchers have caught on.
    private const int RowsAhead = 12;
    private const int StepsAhead = 16;

    /// <summary>k is the stored row: each k gives <paramref name="valid"/> neighbours (B as stored, A transposed).</summary>
    /// <param name="source">The stored matrix.</param>
    /// <param name="k0">First k.</param>
    /// <param name="i0">First column.</param>
    /// <param name="kc">How many k.</param>
    /// <param name="valid">Columns that exist, 1 to <paramref name="width"/>.</param>
    /// <param name="width">Columns of the panel.</param>
    /// <param name="panel">Receives kc * width floats.</param>
    [MethodImpl(Jit.Loop)]
    public static void AcrossRows<TSource>(TSource source, long k0, long i0, int kc, int valid, int width, float* panel)
        where TSource : unmanaged, IPackSource<TSource>
    {
        if (Vector512.IsHardwareAccelerated && valid == 32)
        {
            for (int k = 0; k < kc; k++, panel += 32)
            {
                source.Prefetch(k0 + k + StepsAhead, i0);
                source.Prefetch(k0 + k + StepsAhead, i0 + 16);
                source.Load<F32x16>(k0 + k, i0).Store(panel);
                source.Load<F32x16>(k0 + k, i0 + 16).Store(panel + 16);
            }
        }
        else if (Vector128.IsHardwareAccelerated && valid == 12 && width == 12)
        {
            for (int k = 0; k < kc; k++, panel += 12)
            {
                source.Prefetch(k0 + k + StepsAhead, i0 + 11);
                source.Load<F32x4>(k0 + k, i0).Store(panel);
                source.Load<F32x4>(k0 + k, i0 + 4).Store(panel + 4);
                source.Load<F32x4>(k0 + k, i0 + 8).Store(panel + 8);
            }
        }
        else
        {
            int vectors = Vector128.IsHardwareAccelerated ? valid & ~3 : 0;
            for (int k = 0; k < kc; k++, panel += width)
            {
                int i = 0;
                for (; i < vectors; i += 4)
                    source.Load<F32x4>(k0 + k, i0 + i).Store(panel + i);
                for (; i < valid; i++)
                    source.Load<F32x1>(k0 + k, i0 + i).Store(panel + i);
                for (; i < width; i++)
                    panel[i] = 0;
            }
        }
    }

    /// <summary>k is the stored column: the panel is a transpose (A as stored, B transposed).</summary>
    /// <param name="source">The stored matrix.</param>
    /// <param name="i0">First row.</param>
    /// <param name="k0">First k.</param>
    /// <param name="kc">How many k.</param>
    /// <param name="valid">Rows that exist, 1 to <paramref name="width"/>.</param>
    /// <param name="width">Rows of the panel.</param>
    /// <param name="panel">Receives kc * width floats.</param>
    [MethodImpl(Jit.Loop)]
    public static void AlongRows<TSource>(TSource source, long i0, long k0, int kc, int valid, int width, float* panel)
        where TSource : unmanaged, IPackSource<TSource>
    {
        int i = 0;
        if (Vector512.IsHardwareAccelerated)
        {
            // Whole cache lines at once, where four rows at a time write quarters of them.
            for (; i + 16 <= valid; i += 16)
            {
                int k = 0;
                for (; k + 16 <= kc; k += 16)
                    Transpose16.Store(new Rows16<TSource>(source, i0 + i, k0 + k), panel + (long)k * width + i, width);
                for (; k < kc; k++)
                {
                    for (int row = i; row < i + 16; row++)
                        source.Load<F32x1>(i0 + row, k0 + k).Store(panel + (long)k * width + row);
                }
            }
        }
        if (Sse.IsSupported)
        {
            for (; i + 4 <= valid; i += 4)
            {
                int k = 0;
                if (Vector512.IsHardwareAccelerated)
                {
                    for (; k + 16 <= kc; k += 16)
                    {
                        for (int row = 0; row < 4; row++)
                            source.Prefetch(i0 + i + RowsAhead + row, k0 + k);
                        Transpose4x16(source, i0 + i, k0 + k, panel + (long)k * width + i, width);
                    }
                }
                for (; k + 4 <= kc; k += 4)
                    Transpose4x4(source, i0 + i, k0 + k, panel + (long)k * width + i, width);
                for (; k < kc; k++)
                {
                    float* column = panel + (long)k * width + i;
                    source.Load<F32x1>(i0 + i, k0 + k).Store(column);
                    source.Load<F32x1>(i0 + i + 1, k0 + k).Store(column + 1);
                    source.Load<F32x1>(i0 + i + 2, k0 + k).Store(column + 2);
                    source.Load<F32x1>(i0 + i + 3, k0 + k).Store(column + 3);
                }
            }
        }
        for (; i < width; i++)
        {
            float* row = panel + i;
            if (i < valid)
            {
                for (int k = 0; k < kc; k++)
                    source.Load<F32x1>(i0 + i, k0 + k).Store(row + (long)k * width);
            }
            else
            {
                for (int k = 0; k < kc; k++)
                    row[(long)k * width] = 0;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Transpose4x4<TSource>(TSource source, long row, long column, float* to, int stride)
        where TSource : unmanaged, IPackSource<TSource>
    {
        Vector128<float> r0 = Four(source, row, column), r1 = Four(source, row + 1, column);
        Vector128<float> r2 = Four(source, row + 2, column), r3 = Four(source, row + 3, column);
        Vector128<float> low01 = Sse.UnpackLow(r0, r1), low23 = Sse.UnpackLow(r2, r3);
        Vector128<float> high01 = Sse.UnpackHigh(r0, r1), high23 = Sse.UnpackHigh(r2, r3);
        Sse.MoveLowToHigh(low01, low23).Store(to);
        Sse.MoveHighToLow(low23, low01).Store(to + stride);
        Sse.MoveLowToHigh(high01, high23).Store(to + 2 * stride);
        Sse.MoveHighToLow(high23, high01).Store(to + 3 * stride);
    }

    // Four 4x4 transposes at once: unpacking works inside each 128-bit lane, and lane l holds columns 4l to 4l + 3.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Transpose4x16<TSource>(TSource source, long row, long column, float* to, int stride)
        where TSource : unmanaged, IPackSource<TSource> =>
        StoreTransposed(Sixteen(source, row, column), Sixteen(source, row + 1, column), Sixteen(source, row + 2, column), Sixteen(source, row + 3, column), to, stride);

    /// <summary>Writes four neighbours, one of each register, at every one of 16 places <paramref name="stride"/> apart.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreTransposed(Vector512<float> r0, Vector512<float> r1, Vector512<float> r2, Vector512<float> r3, float* to, long stride)
    {
        Vector512<double> low01 = Avx512F.UnpackLow(r0, r1).AsDouble(), low23 = Avx512F.UnpackLow(r2, r3).AsDouble();
        Vector512<double> high01 = Avx512F.UnpackHigh(r0, r1).AsDouble(), high23 = Avx512F.UnpackHigh(r2, r3).AsDouble();
        StoreLanes(Avx512F.UnpackLow(low01, low23).AsSingle(), to, stride);
        StoreLanes(Avx512F.UnpackHigh(low01, low23).AsSingle(), to + stride, stride);
        StoreLanes(Avx512F.UnpackLow(high01, high23).AsSingle(), to + 2 * stride, stride);
        StoreLanes(Avx512F.UnpackHigh(high01, high23).AsSingle(), to + 3 * stride, stride);
    }

    private readonly struct Rows16<TSource>(TSource source, long row, long column) : IRowsOf16
        where TSource : unmanaged, IPackSource<TSource>
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector512<float> Row(int r) => Sixteen(source, row + r, column);
    }

    // The lane structs hold nothing but their register.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Four<TSource>(TSource source, long row, long column)
        where TSource : unmanaged, IPackSource<TSource> => Unsafe.BitCast<F32x4, Vector128<float>>(source.Load<F32x4>(row, column));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Sixteen<TSource>(TSource source, long row, long column)
        where TSource : unmanaged, IPackSource<TSource> => Unsafe.BitCast<F32x16, Vector512<float>>(source.Load<F32x16>(row, column));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreLanes(Vector512<float> columns, float* to, long stride)
    {
        columns.GetLower().GetLower().Store(to);
        columns.GetLower().GetUpper().Store(to + 4 * stride);
        columns.GetUpper().GetLower().Store(to + 8 * stride);
        columns.GetUpper().GetUpper().Store(to + 12 * stride);
    }
}
