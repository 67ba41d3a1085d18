// Lays an operand out as the bf16 tiles walk it: pairs of k in one 32-bit word, rounding floats on the way.
// A and B share the loops: what matters is only whether k runs along the stored rows or across them, and which way the packed words run.
// Rows of A and columns of B beyond the operand are left as they were: the tiles make sums of them but never store those.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Cpu;

/// <summary>Word (i, pair p) of the packed block is at <c>to[i * stepI + p * stepP]</c>; one of the steps is 1. An odd last k is paired with zero.</summary>
/// <remarks>Needs Vector512, which the machine code's gate has made sure of. Groups begin at multiples of 16 where the operand has a stored format.</remarks>
internal static unsafe class BF16Packing
{
    // Short rows (attention) end before the hardware's prefetchers have caught on.
    private const int RowsAhead = 12;
    private const int StepsAhead = 16;
    private const int ShortRow = 256;

    /// <summary>k is the stored column: A as stored (packed along pairs), B transposed (packed across them).</summary>
    /// <param name="source">The stored matrix.</param>
    /// <param name="i0">First stored row.</param>
    /// <param name="k0">First k.</param>
    /// <param name="count">How many rows.</param>
    /// <param name="kc">How many k.</param>
    /// <param name="to">The packed block.</param>
    /// <param name="stepI">Words from row to row; 1: the block is a transpose.</param>
    /// <param name="stepP">Words from pair to pair.</param>
    [MethodImpl(Jit.Loop)]
    public static void AlongRows<TSource>(TSource source, long i0, long k0, int count, int kc, uint* to, long stepI, long stepP)
        where TSource : unmanaged, IPackSource<TSource>
    {
        // Sixteen pairs at a time; the rest pair by pair.
        int vectors = kc / 32 * 16, pairs = (kc + 1) / 2, i = 0;
        if (stepI == 1)
        {
            for (; i + 16 <= count; i += 16)
            {
                for (int p = 0; p < vectors; p += 16)
                    Transpose16.Store(new AlongRows16<TSource>(source, i0 + i, k0 + 2 * p), (float*)(to + i + p * stepP), stepP);
                for (int p = vectors; p < pairs; p++)
                {
                    for (int r = i; r < i + 16; r++)
                        to[r + p * stepP] = Pair(source, i0 + r, k0 + 2 * p, 0, 1, 2 * p + 1 < kc);
                }
            }
            // The last four may be fewer: a row stands in for those that do not exist, and what it leaves there is nobody's.
            for (; i < count; i += 4)
            {
                long r0 = i0 + i, r1 = i0 + Math.Min(i + 1, count - 1), r2 = i0 + Math.Min(i + 2, count - 1), r3 = i0 + Math.Min(i + 3, count - 1);
                for (int p = 0; p < vectors; p += 16)
                {
                    Packing.StoreTransposed(
                        Along(source, r0, k0 + 2 * p), Along(source, r1, k0 + 2 * p), Along(source, r2, k0 + 2 * p), Along(source, r3, k0 + 2 * p), (float*)(to + i + p * stepP), stepP);
                }
                for (int p = vectors; p < pairs; p++)
                {
                    for (int r = i; r < Math.Min(i + 4, count); r++)
                        to[r + p * stepP] = Pair(source, i0 + r, k0 + 2 * p, 0, 1, 2 * p + 1 < kc);
                }
            }
        }
        for (; i < count; i++)
        {
            uint* row = to + i * stepI;
            int p = 0;
            if (stepP == 1)
            {
                for (; p < vectors; p += 16)
                {
                    if (kc <= ShortRow)
                    {
                        source.Prefetch(i0 + i + RowsAhead, k0 + 2 * p);
                        source.Prefetch(i0 + i + RowsAhead, k0 + 2 * p + 16);
                    }
                    Along(source, i0 + i, k0 + 2 * p).AsUInt32().Store(row + p);
                }
            }
            for (; p < pairs; p++)
                row[p * stepP] = Pair(source, i0 + i, k0 + 2 * p, 0, 1, 2 * p + 1 < kc);
        }
    }

    /// <summary>k is the stored row: B as stored (packed across pairs), A transposed (packed along them).</summary>
    /// <param name="source">The stored matrix.</param>
    /// <param name="k0">First k.</param>
    /// <param name="i0">First stored column.</param>
    /// <param name="count">How many columns.</param>
    /// <param name="kc">How many k.</param>
    /// <param name="to">The packed block.</param>
    /// <param name="stepI">Words from column to column; four more than the pairs at least, where those lie along it.</param>
    /// <param name="stepP">Words from pair to pair; 1: the block is a transpose.</param>
    [MethodImpl(Jit.Loop)]
    public static void AcrossRows<TSource>(TSource source, long k0, long i0, int count, int kc, uint* to, long stepI, long stepP)
        where TSource : unmanaged, IPackSource<TSource>
    {
        // Sixteen columns at a time; the rest column by column, and an odd last k.
        int vectors = count & ~15, whole = kc / 2, pairs = (kc + 1) / 2, p = 0;
        if (stepP == 1)
        {
            for (; p + 16 <= whole; p += 16)
            {
                for (int i = 0; i < vectors; i += 16)
                    Transpose16.Store(new AcrossRows16<TSource>(source, k0 + 2 * p, i0 + i), (float*)(to + p + i * stepI), stepI);
                for (int i = vectors; i < count; i++)
                {
                    for (int q = p; q < p + 16; q++)
                        to[q + i * stepI] = Pair(source, k0 + 2 * q, i0 + i, 1, 0, true);
                }
            }
            for (; p + 4 <= whole; p += 4)
            {
                for (int i = 0; i < vectors; i += 16)
                {
                    Packing.StoreTransposed(
                        Across(source, k0 + 2 * p, i0 + i), Across(source, k0 + 2 * p + 2, i0 + i), Across(source, k0 + 2 * p + 4, i0 + i), Across(source, k0 + 2 * p + 6, i0 + i),
                        (float*)(to + p + i * stepI), stepI);
                }
                for (int i = vectors; i < count; i++)
                {
                    for (int q = p; q < p + 4; q++)
                        to[q + i * stepI] = Pair(source, k0 + 2 * q, i0 + i, 1, 0, true);
                }
            }
        }
        if (stepP == 1 && p < pairs)
        {
            // Fewer than four whole pairs are left, and perhaps a half one: zeros stand in for the others, in the spare words that end each row.
            for (int i = 0; i < vectors; i += 16)
            {
                Packing.StoreTransposed(
                    AcrossUpTo(source, k0 + 2 * p, i0 + i, kc - 2 * p), AcrossUpTo(source, k0 + 2 * p + 2, i0 + i, kc - 2 * p - 2),
                    AcrossUpTo(source, k0 + 2 * p + 4, i0 + i, kc - 2 * p - 4),
                    AcrossUpTo(source, k0 + 2 * p + 6, i0 + i, kc - 2 * p - 6), (float*)(to + p + i * stepI), stepI);
            }
            for (int i = vectors; i < count; i++)
            {
                for (int q = p; q < pairs; q++)
                    to[q + i * stepI] = Pair(source, k0 + 2 * q, i0 + i, 1, 0, q < whole);
            }
            return;
        }
        for (; p < pairs; p++)
        {
            uint* row = to + p * stepP;
            int i = 0;
            if (stepI == 1 && p < whole)
            {
                for (; i < vectors; i += 16)
                {
                    source.Prefetch(k0 + 2 * p + StepsAhead, i0 + i);
                    source.Prefetch(k0 + 2 * p + StepsAhead + 1, i0 + i);
                    Across(source, k0 + 2 * p, i0 + i).AsUInt32().Store(row + i);
                }
            }
            for (; i < count; i++)
                row[i * stepI] = Pair(source, k0 + 2 * p, i0 + i, 1, 0, p < whole);
        }
    }

    // 16 pairs of neighbours in a stored row. Words are handled as float: the transpose moves them, nothing computes with them.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Along<TSource>(TSource source, long row, long column)
        where TSource : unmanaged, IPackSource<TSource>
    {
        if (typeof(TSource) == typeof(BF16Source))
            return Vector512.Load((float*)Unsafe.BitCast<TSource, BF16Source>(source).Bits(row, column));
        Vector512<uint> lower = BF16Bits.RoundUpper(Sixteen(source, row, column)) >> 16, upper = BF16Bits.RoundUpper(Sixteen(source, row, column + 16)) >> 16;
        return Vector512.Narrow(lower, upper).AsSingle();
    }

    // 16 pairs of one stored row and the next.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Across<TSource>(TSource source, long row, long column)
        where TSource : unmanaged, IPackSource<TSource>
    {
        Vector512<float> first = Sixteen(source, row, column), second = Sixteen(source, row + 1, column);
        if (typeof(TSource) == typeof(BF16Source))
            return ((first.AsUInt32() >> 16) | second.AsUInt32()).AsSingle();
        return ((BF16Bits.RoundUpper(first) >> 16) | (BF16Bits.RoundUpper(second) & Vector512.Create(0xFFFF_0000u))).AsSingle();
    }

    // The same where only so many rows are left, 0 or fewer: none.
    private static Vector512<float> AcrossUpTo<TSource>(TSource source, long row, long column, int left)
        where TSource : unmanaged, IPackSource<TSource> =>
        left >= 2 ? Across(source, row, column)
        : left == 1 ? (BF16Bits.RoundUpper(Sixteen(source, row, column)) >> 16).AsSingle()
        : Vector512<float>.Zero;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Sixteen<TSource>(TSource source, long row, long column)
        where TSource : unmanaged, IPackSource<TSource> => Unsafe.BitCast<F32x16, Vector512<float>>(source.Load<F32x16>(row, column));

    // One pair: the element and its partner, or zero where k has ended.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Pair<TSource>(TSource source, long row, long column, int downwards, int sidewards, bool hasPartner)
        where TSource : unmanaged, IPackSource<TSource>
    {
        uint pair = BF16Bits.Round(source.Load<F32x1>(row, column).Value);
        return hasPartner ? pair | ((uint)BF16Bits.Round(source.Load<F32x1>(row + downwards, column + sidewards).Value) << 16) : pair;
    }

    private readonly struct AlongRows16<TSource>(TSource source, long row, long column) : IRowsOf16
        where TSource : unmanaged, IPackSource<TSource>
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector512<float> Row(int r) => Along(source, row + r, column);
    }

    private readonly struct AcrossRows16<TSource>(TSource source, long row, long column) : IRowsOf16
        where TSource : unmanaged, IPackSource<TSource>
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector512<float> Row(int r) => Across(source, row + 2 * r, column);
    }
}
