// Sixteen registers of sixteen words, rows to columns: the part of bf16 packing where an operand lies the other way. Deliberately not: rounding (BF16Packing.cs).
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace IptNative.Kernels.Cpu;

/// <summary>Sixteen rows of sixteen words.</summary>
internal interface IRowsOf16
{
    Vector512<float> Row(int r);
}

/// <summary>A 16 x 16 transpose in registers: whole cache lines are written, where four rows at a time write quarters of them.</summary>
internal static unsafe class Transpose16
{
    /// <summary>Column c of the rows goes to <c>to + c * stride</c>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TRows>(TRows rows, float* to, long stride)
        where TRows : struct, IRowsOf16
    {
        // Lane l of group g's register j: column 4 l + j of rows 4 g to 4 g + 3.
        Four(rows, 0, out Vector512<float> g0j0, out Vector512<float> g0j1, out Vector512<float> g0j2, out Vector512<float> g0j3);
        Four(rows, 4, out Vector512<float> g1j0, out Vector512<float> g1j1, out Vector512<float> g1j2, out Vector512<float> g1j3);
        Four(rows, 8, out Vector512<float> g2j0, out Vector512<float> g2j1, out Vector512<float> g2j2, out Vector512<float> g2j3);
        Four(rows, 12, out Vector512<float> g3j0, out Vector512<float> g3j1, out Vector512<float> g3j2, out Vector512<float> g3j3);
        Lanes(g0j0, g1j0, g2j0, g3j0, to, stride);
        Lanes(g0j1, g1j1, g2j1, g3j1, to + stride, stride);
        Lanes(g0j2, g1j2, g2j2, g3j2, to + 2 * stride, stride);
        Lanes(g0j3, g1j3, g2j3, g3j3, to + 3 * stride, stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Four<TRows>(TRows rows, int first, out Vector512<float> j0, out Vector512<float> j1, out Vector512<float> j2, out Vector512<float> j3)
        where TRows : struct, IRowsOf16
    {
        Vector512<float> r0 = rows.Row(first), r1 = rows.Row(first + 1), r2 = rows.Row(first + 2), r3 = rows.Row(first + 3);
        Vector512<double> low01 = Avx512F.UnpackLow(r0, r1).AsDouble(), low23 = Avx512F.UnpackLow(r2, r3).AsDouble();
        Vector512<double> high01 = Avx512F.UnpackHigh(r0, r1).AsDouble(), high23 = Avx512F.UnpackHigh(r2, r3).AsDouble();
        j0 = Avx512F.UnpackLow(low01, low23).AsSingle();
        j1 = Avx512F.UnpackHigh(low01, low23).AsSingle();
        j2 = Avx512F.UnpackLow(high01, high23).AsSingle();
        j3 = Avx512F.UnpackHigh(high01, high23).AsSingle();
    }

    // A transpose of whole lanes: columns 0, 4, 8 and 12 from where the first of them goes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Lanes(Vector512<float> g0, Vector512<float> g1, Vector512<float> g2, Vector512<float> g3, float* to, long stride)
    {
        const byte Even = 0b10_00_10_00, Odd = 0b11_01_11_01;
        Vector512<float> even01 = Avx512F.Shuffle4x128(g0, g1, Even), odd01 = Avx512F.Shuffle4x128(g0, g1, Odd);
        Vector512<float> even23 = Avx512F.Shuffle4x128(g2, g3, Even), odd23 = Avx512F.Shuffle4x128(g2, g3, Odd);
        Avx512F.Shuffle4x128(even01, even23, Even).Store(to);
        Avx512F.Shuffle4x128(odd01, odd23, Even).Store(to + 4 * stride);
        Avx512F.Shuffle4x128(even01, even23, Odd).Store(to + 8 * stride);
        Avx512F.Shuffle4x128(odd01, odd23, Odd).Store(to + 12 * stride);
    }
}
