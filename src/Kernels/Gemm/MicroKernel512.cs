// The 512-bit micro-kernel: 12 rows by two vectors held in registers, and its three edge sizes.
// Accumulators are named locals because the JIT keeps those in registers and spills anything indexed; the regular shape is deliberate.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

/// <summary>24 accumulators of 16 floats: with two of B and one broadcast of A, 27 of the 32 registers.</summary>
internal readonly unsafe struct MicroKernel512 : IMicroKernel
{
    public static int Rows => 12;

    public static int EdgeRows => 4;

    public static int Columns => 32;

    public static int EdgeColumns => 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Tile(bool edgeRows, bool edgeColumns, int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        if (edgeRows)
        {
            if (edgeColumns)
                Tile4x16(kc, a, b, c, ldc, alpha, accumulate);
            else
                Tile4x32(kc, a, b, c, ldc, alpha, accumulate);
        }
        else if (edgeColumns)
        {
            Tile12x16(kc, a, b, c, ldc, alpha, accumulate);
        }
        else
        {
            Tile12x32(kc, a, b, c, ldc, alpha, accumulate);
        }
    }

    // C is only touched after the loop; asked for before it, it has come from L3 or memory by then.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(float* c, long ldc, int rows, int columns)
    {
        for (int i = 0; Sse.IsSupported && i < rows; i++, c += ldc)
        {
            Sse.Prefetch0(c);
            Sse.Prefetch0(c + columns - 1);
        }
    }

    // Of B, on its way while the tile reads what came before: a product of few rows is as fast as B comes from L3.
    private const int AheadFloats = 1024;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Ahead(float* b)
    {
        if (!Sse.IsSupported)
            return;
        Sse.Prefetch0(b + AheadFloats);
        Sse.Prefetch0(b + AheadFloats + 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* c, Vector512<float> x, Vector512<float> y, Vector512<float> scale, bool accumulate)
    {
        Store(c, x, scale, accumulate);
        Store(c + 16, y, scale, accumulate);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* c, Vector512<float> x, Vector512<float> scale, bool accumulate)
    {
        x *= scale;
        if (accumulate)
            x += Vector512.Load(c);
        x.Store(c);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile12x32(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector512<float> c0x = Vector512<float>.Zero, c0y = Vector512<float>.Zero;
        Vector512<float> c1x = Vector512<float>.Zero, c1y = Vector512<float>.Zero;
        Vector512<float> c2x = Vector512<float>.Zero, c2y = Vector512<float>.Zero;
        Vector512<float> c3x = Vector512<float>.Zero, c3y = Vector512<float>.Zero;
        Vector512<float> c4x = Vector512<float>.Zero, c4y = Vector512<float>.Zero;
        Vector512<float> c5x = Vector512<float>.Zero, c5y = Vector512<float>.Zero;
        Vector512<float> c6x = Vector512<float>.Zero, c6y = Vector512<float>.Zero;
        Vector512<float> c7x = Vector512<float>.Zero, c7y = Vector512<float>.Zero;
        Vector512<float> c8x = Vector512<float>.Zero, c8y = Vector512<float>.Zero;
        Vector512<float> c9x = Vector512<float>.Zero, c9y = Vector512<float>.Zero;
        Vector512<float> c10x = Vector512<float>.Zero, c10y = Vector512<float>.Zero;
        Vector512<float> c11x = Vector512<float>.Zero, c11y = Vector512<float>.Zero;
        Prefetch(c, ldc, 12, 32);
        for (int k = 0; k < kc; k++, a += 12, b += 32)
        {
            Ahead(b);
            Vector512<float> bx = Vector512.Load(b), by = Vector512.Load(b + 16);
            Vector512<float> ar = Vector512.Create(a[0]);
            c0x = Vector512.FusedMultiplyAdd(ar, bx, c0x);
            c0y = Vector512.FusedMultiplyAdd(ar, by, c0y);
            ar = Vector512.Create(a[1]);
            c1x = Vector512.FusedMultiplyAdd(ar, bx, c1x);
            c1y = Vector512.FusedMultiplyAdd(ar, by, c1y);
            ar = Vector512.Create(a[2]);
            c2x = Vector512.FusedMultiplyAdd(ar, bx, c2x);
            c2y = Vector512.FusedMultiplyAdd(ar, by, c2y);
            ar = Vector512.Create(a[3]);
            c3x = Vector512.FusedMultiplyAdd(ar, bx, c3x);
            c3y = Vector512.FusedMultiplyAdd(ar, by, c3y);
            ar = Vector512.Create(a[4]);
            c4x = Vector512.FusedMultiplyAdd(ar, bx, c4x);
            c4y = Vector512.FusedMultiplyAdd(ar, by, c4y);
            ar = Vector512.Create(a[5]);
            c5x = Vector512.FusedMultiplyAdd(ar, bx, c5x);
            c5y = Vector512.FusedMultiplyAdd(ar, by, c5y);
            ar = Vector512.Create(a[6]);
            c6x = Vector512.FusedMultiplyAdd(ar, bx, c6x);
            c6y = Vector512.FusedMultiplyAdd(ar, by, c6y);
            ar = Vector512.Create(a[7]);
            c7x = Vector512.FusedMultiplyAdd(ar, bx, c7x);
            c7y = Vector512.FusedMultiplyAdd(ar, by, c7y);
            ar = Vector512.Create(a[8]);
            c8x = Vector512.FusedMultiplyAdd(ar, bx, c8x);
            c8y = Vector512.FusedMultiplyAdd(ar, by, c8y);
            ar = Vector512.Create(a[9]);
            c9x = Vector512.FusedMultiplyAdd(ar, bx, c9x);
            c9y = Vector512.FusedMultiplyAdd(ar, by, c9y);
            ar = Vector512.Create(a[10]);
            c10x = Vector512.FusedMultiplyAdd(ar, bx, c10x);
            c10y = Vector512.FusedMultiplyAdd(ar, by, c10y);
            ar = Vector512.Create(a[11]);
            c11x = Vector512.FusedMultiplyAdd(ar, bx, c11x);
            c11y = Vector512.FusedMultiplyAdd(ar, by, c11y);
        }
        Vector512<float> scale = Vector512.Create(alpha);
        Store(c, c0x, c0y, scale, accumulate);
        Store(c + ldc, c1x, c1y, scale, accumulate);
        Store(c + 2 * ldc, c2x, c2y, scale, accumulate);
        Store(c + 3 * ldc, c3x, c3y, scale, accumulate);
        Store(c + 4 * ldc, c4x, c4y, scale, accumulate);
        Store(c + 5 * ldc, c5x, c5y, scale, accumulate);
        Store(c + 6 * ldc, c6x, c6y, scale, accumulate);
        Store(c + 7 * ldc, c7x, c7y, scale, accumulate);
        Store(c + 8 * ldc, c8x, c8y, scale, accumulate);
        Store(c + 9 * ldc, c9x, c9y, scale, accumulate);
        Store(c + 10 * ldc, c10x, c10y, scale, accumulate);
        Store(c + 11 * ldc, c11x, c11y, scale, accumulate);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile12x16(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector512<float> c0x = Vector512<float>.Zero;
        Vector512<float> c1x = Vector512<float>.Zero;
        Vector512<float> c2x = Vector512<float>.Zero;
        Vector512<float> c3x = Vector512<float>.Zero;
        Vector512<float> c4x = Vector512<float>.Zero;
        Vector512<float> c5x = Vector512<float>.Zero;
        Vector512<float> c6x = Vector512<float>.Zero;
        Vector512<float> c7x = Vector512<float>.Zero;
        Vector512<float> c8x = Vector512<float>.Zero;
        Vector512<float> c9x = Vector512<float>.Zero;
        Vector512<float> c10x = Vector512<float>.Zero;
        Vector512<float> c11x = Vector512<float>.Zero;
        Prefetch(c, ldc, 12, 16);
        for (int k = 0; k < kc; k++, a += 12, b += 16)
        {
            Vector512<float> bx = Vector512.Load(b);
            Vector512<float> ar = Vector512.Create(a[0]);
            c0x = Vector512.FusedMultiplyAdd(ar, bx, c0x);
            ar = Vector512.Create(a[1]);
            c1x = Vector512.FusedMultiplyAdd(ar, bx, c1x);
            ar = Vector512.Create(a[2]);
            c2x = Vector512.FusedMultiplyAdd(ar, bx, c2x);
            ar = Vector512.Create(a[3]);
            c3x = Vector512.FusedMultiplyAdd(ar, bx, c3x);
            ar = Vector512.Create(a[4]);
            c4x = Vector512.FusedMultiplyAdd(ar, bx, c4x);
            ar = Vector512.Create(a[5]);
            c5x = Vector512.FusedMultiplyAdd(ar, bx, c5x);
            ar = Vector512.Create(a[6]);
            c6x = Vector512.FusedMultiplyAdd(ar, bx, c6x);
            ar = Vector512.Create(a[7]);
            c7x = Vector512.FusedMultiplyAdd(ar, bx, c7x);
            ar = Vector512.Create(a[8]);
            c8x = Vector512.FusedMultiplyAdd(ar, bx, c8x);
            ar = Vector512.Create(a[9]);
            c9x = Vector512.FusedMultiplyAdd(ar, bx, c9x);
            ar = Vector512.Create(a[10]);
            c10x = Vector512.FusedMultiplyAdd(ar, bx, c10x);
            ar = Vector512.Create(a[11]);
            c11x = Vector512.FusedMultiplyAdd(ar, bx, c11x);
        }
        Vector512<float> scale = Vector512.Create(alpha);
        Store(c, c0x, scale, accumulate);
        Store(c + ldc, c1x, scale, accumulate);
        Store(c + 2 * ldc, c2x, scale, accumulate);
        Store(c + 3 * ldc, c3x, scale, accumulate);
        Store(c + 4 * ldc, c4x, scale, accumulate);
        Store(c + 5 * ldc, c5x, scale, accumulate);
        Store(c + 6 * ldc, c6x, scale, accumulate);
        Store(c + 7 * ldc, c7x, scale, accumulate);
        Store(c + 8 * ldc, c8x, scale, accumulate);
        Store(c + 9 * ldc, c9x, scale, accumulate);
        Store(c + 10 * ldc, c10x, scale, accumulate);
        Store(c + 11 * ldc, c11x, scale, accumulate);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool TryTwoEdges(int kc, float* a, float* lower, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Tile8x32(kc, a, lower, b, c, ldc, alpha, accumulate);
        return true;
    }

    // Two panels of four rows: a decoder's step of eight texts. Half the loads of B, and enough chains to fill both pipes.
    [MethodImpl(Jit.Loop)]
    private static void Tile8x32(int kc, float* a, float* lower, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector512<float> c0x = Vector512<float>.Zero, c0y = Vector512<float>.Zero;
        Vector512<float> c1x = Vector512<float>.Zero, c1y = Vector512<float>.Zero;
        Vector512<float> c2x = Vector512<float>.Zero, c2y = Vector512<float>.Zero;
        Vector512<float> c3x = Vector512<float>.Zero, c3y = Vector512<float>.Zero;
        Vector512<float> c4x = Vector512<float>.Zero, c4y = Vector512<float>.Zero;
        Vector512<float> c5x = Vector512<float>.Zero, c5y = Vector512<float>.Zero;
        Vector512<float> c6x = Vector512<float>.Zero, c6y = Vector512<float>.Zero;
        Vector512<float> c7x = Vector512<float>.Zero, c7y = Vector512<float>.Zero;
        for (int k = 0; k < kc; k++, a += 4, lower += 4, b += 32)
        {
            Ahead(b);
            Vector512<float> bx = Vector512.Load(b), by = Vector512.Load(b + 16);
            Vector512<float> ar = Vector512.Create(a[0]);
            c0x = Vector512.FusedMultiplyAdd(ar, bx, c0x);
            c0y = Vector512.FusedMultiplyAdd(ar, by, c0y);
            ar = Vector512.Create(a[1]);
            c1x = Vector512.FusedMultiplyAdd(ar, bx, c1x);
            c1y = Vector512.FusedMultiplyAdd(ar, by, c1y);
            ar = Vector512.Create(a[2]);
            c2x = Vector512.FusedMultiplyAdd(ar, bx, c2x);
            c2y = Vector512.FusedMultiplyAdd(ar, by, c2y);
            ar = Vector512.Create(a[3]);
            c3x = Vector512.FusedMultiplyAdd(ar, bx, c3x);
            c3y = Vector512.FusedMultiplyAdd(ar, by, c3y);
            ar = Vector512.Create(lower[0]);
            c4x = Vector512.FusedMultiplyAdd(ar, bx, c4x);
            c4y = Vector512.FusedMultiplyAdd(ar, by, c4y);
            ar = Vector512.Create(lower[1]);
            c5x = Vector512.FusedMultiplyAdd(ar, bx, c5x);
            c5y = Vector512.FusedMultiplyAdd(ar, by, c5y);
            ar = Vector512.Create(lower[2]);
            c6x = Vector512.FusedMultiplyAdd(ar, bx, c6x);
            c6y = Vector512.FusedMultiplyAdd(ar, by, c6y);
            ar = Vector512.Create(lower[3]);
            c7x = Vector512.FusedMultiplyAdd(ar, bx, c7x);
            c7y = Vector512.FusedMultiplyAdd(ar, by, c7y);
        }
        Vector512<float> scale = Vector512.Create(alpha);
        Store(c, c0x, c0y, scale, accumulate);
        Store(c + ldc, c1x, c1y, scale, accumulate);
        Store(c + 2 * ldc, c2x, c2y, scale, accumulate);
        Store(c + 3 * ldc, c3x, c3y, scale, accumulate);
        Store(c + 4 * ldc, c4x, c4y, scale, accumulate);
        Store(c + 5 * ldc, c5x, c5y, scale, accumulate);
        Store(c + 6 * ldc, c6x, c6y, scale, accumulate);
        Store(c + 7 * ldc, c7x, c7y, scale, accumulate);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile4x32(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector512<float> c0x = Vector512<float>.Zero, c0y = Vector512<float>.Zero;
        Vector512<float> c1x = Vector512<float>.Zero, c1y = Vector512<float>.Zero;
        Vector512<float> c2x = Vector512<float>.Zero, c2y = Vector512<float>.Zero;
        Vector512<float> c3x = Vector512<float>.Zero, c3y = Vector512<float>.Zero;
        for (int k = 0; k < kc; k++, a += 4, b += 32)
        {
            Ahead(b);
            Vector512<float> bx = Vector512.Load(b), by = Vector512.Load(b + 16);
            Vector512<float> ar = Vector512.Create(a[0]);
            c0x = Vector512.FusedMultiplyAdd(ar, bx, c0x);
            c0y = Vector512.FusedMultiplyAdd(ar, by, c0y);
            ar = Vector512.Create(a[1]);
            c1x = Vector512.FusedMultiplyAdd(ar, bx, c1x);
            c1y = Vector512.FusedMultiplyAdd(ar, by, c1y);
            ar = Vector512.Create(a[2]);
            c2x = Vector512.FusedMultiplyAdd(ar, bx, c2x);
            c2y = Vector512.FusedMultiplyAdd(ar, by, c2y);
            ar = Vector512.Create(a[3]);
            c3x = Vector512.FusedMultiplyAdd(ar, bx, c3x);
            c3y = Vector512.FusedMultiplyAdd(ar, by, c3y);
        }
        Vector512<float> scale = Vector512.Create(alpha);
        Store(c, c0x, c0y, scale, accumulate);
        Store(c + ldc, c1x, c1y, scale, accumulate);
        Store(c + 2 * ldc, c2x, c2y, scale, accumulate);
        Store(c + 3 * ldc, c3x, c3y, scale, accumulate);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile4x16(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector512<float> c0x = Vector512<float>.Zero;
        Vector512<float> c1x = Vector512<float>.Zero;
        Vector512<float> c2x = Vector512<float>.Zero;
        Vector512<float> c3x = Vector512<float>.Zero;
        for (int k = 0; k < kc; k++, a += 4, b += 16)
        {
            Vector512<float> bx = Vector512.Load(b);
            Vector512<float> ar = Vector512.Create(a[0]);
            c0x = Vector512.FusedMultiplyAdd(ar, bx, c0x);
            ar = Vector512.Create(a[1]);
            c1x = Vector512.FusedMultiplyAdd(ar, bx, c1x);
            ar = Vector512.Create(a[2]);
            c2x = Vector512.FusedMultiplyAdd(ar, bx, c2x);
            ar = Vector512.Create(a[3]);
            c3x = Vector512.FusedMultiplyAdd(ar, bx, c3x);
        }
        Vector512<float> scale = Vector512.Create(alpha);
        Store(c, c0x, scale, accumulate);
        Store(c + ldc, c1x, scale, accumulate);
        Store(c + 2 * ldc, c2x, scale, accumulate);
        Store(c + 3 * ldc, c3x, scale, accumulate);
    }
}
