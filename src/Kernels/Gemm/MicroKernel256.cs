// The 256-bit micro-kernel: 6 rows by two vectors held in registers, and its three edge sizes.
// Accumulators are named locals because the JIT keeps those in registers and spills anything indexed; the regular shape is deliberate.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

/// <summary>12 accumulators of 8 floats: with two of B and one broadcast of A, 15 of the 16 registers.</summary>
internal readonly unsafe struct MicroKernel256 : IMicroKernel
{
    public static int Rows => 6;

    public static int EdgeRows => 2;

    public static int Columns => 16;

    public static int EdgeColumns => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Tile(bool edgeRows, bool edgeColumns, int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        if (edgeRows)
        {
            if (edgeColumns)
                Tile2x8(kc, a, b, c, ldc, alpha, accumulate);
            else
                Tile2x16(kc, a, b, c, ldc, alpha, accumulate);
        }
        else if (edgeColumns)
        {
            Tile6x8(kc, a, b, c, ldc, alpha, accumulate);
        }
        else
        {
            Tile6x16(kc, a, b, c, ldc, alpha, accumulate);
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

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* c, Vector256<float> x, Vector256<float> y, Vector256<float> scale, bool accumulate)
    {
        Store(c, x, scale, accumulate);
        Store(c + 8, y, scale, accumulate);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* c, Vector256<float> x, Vector256<float> scale, bool accumulate)
    {
        x *= scale;
        if (accumulate)
            x += Vector256.Load(c);
        x.Store(c);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile6x16(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector256<float> c0x = Vector256<float>.Zero, c0y = Vector256<float>.Zero;
        Vector256<float> c1x = Vector256<float>.Zero, c1y = Vector256<float>.Zero;
        Vector256<float> c2x = Vector256<float>.Zero, c2y = Vector256<float>.Zero;
        Vector256<float> c3x = Vector256<float>.Zero, c3y = Vector256<float>.Zero;
        Vector256<float> c4x = Vector256<float>.Zero, c4y = Vector256<float>.Zero;
        Vector256<float> c5x = Vector256<float>.Zero, c5y = Vector256<float>.Zero;
        Prefetch(c, ldc, 6, 16);
        for (int k = 0; k < kc; k++, a += 6, b += 16)
        {
            Vector256<float> bx = Vector256.Load(b), by = Vector256.Load(b + 8);
            Vector256<float> ar = Vector256.Create(a[0]);
            c0x = Vector256.FusedMultiplyAdd(ar, bx, c0x);
            c0y = Vector256.FusedMultiplyAdd(ar, by, c0y);
            ar = Vector256.Create(a[1]);
            c1x = Vector256.FusedMultiplyAdd(ar, bx, c1x);
            c1y = Vector256.FusedMultiplyAdd(ar, by, c1y);
            ar = Vector256.Create(a[2]);
            c2x = Vector256.FusedMultiplyAdd(ar, bx, c2x);
            c2y = Vector256.FusedMultiplyAdd(ar, by, c2y);
            ar = Vector256.Create(a[3]);
            c3x = Vector256.FusedMultiplyAdd(ar, bx, c3x);
            c3y = Vector256.FusedMultiplyAdd(ar, by, c3y);
            ar = Vector256.Create(a[4]);
            c4x = Vector256.FusedMultiplyAdd(ar, bx, c4x);
            c4y = Vector256.FusedMultiplyAdd(ar, by, c4y);
            ar = Vector256.Create(a[5]);
            c5x = Vector256.FusedMultiplyAdd(ar, bx, c5x);
            c5y = Vector256.FusedMultiplyAdd(ar, by, c5y);
        }
        Vector256<float> scale = Vector256.Create(alpha);
        Store(c, c0x, c0y, scale, accumulate);
        Store(c + ldc, c1x, c1y, scale, accumulate);
        Store(c + 2 * ldc, c2x, c2y, scale, accumulate);
        Store(c + 3 * ldc, c3x, c3y, scale, accumulate);
        Store(c + 4 * ldc, c4x, c4y, scale, accumulate);
        Store(c + 5 * ldc, c5x, c5y, scale, accumulate);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile6x8(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector256<float> c0x = Vector256<float>.Zero;
        Vector256<float> c1x = Vector256<float>.Zero;
        Vector256<float> c2x = Vector256<float>.Zero;
        Vector256<float> c3x = Vector256<float>.Zero;
        Vector256<float> c4x = Vector256<float>.Zero;
        Vector256<float> c5x = Vector256<float>.Zero;
        Prefetch(c, ldc, 6, 8);
        for (int k = 0; k < kc; k++, a += 6, b += 8)
        {
            Vector256<float> bx = Vector256.Load(b);
            Vector256<float> ar = Vector256.Create(a[0]);
            c0x = Vector256.FusedMultiplyAdd(ar, bx, c0x);
            ar = Vector256.Create(a[1]);
            c1x = Vector256.FusedMultiplyAdd(ar, bx, c1x);
            ar = Vector256.Create(a[2]);
            c2x = Vector256.FusedMultiplyAdd(ar, bx, c2x);
            ar = Vector256.Create(a[3]);
            c3x = Vector256.FusedMultiplyAdd(ar, bx, c3x);
            ar = Vector256.Create(a[4]);
            c4x = Vector256.FusedMultiplyAdd(ar, bx, c4x);
            ar = Vector256.Create(a[5]);
            c5x = Vector256.FusedMultiplyAdd(ar, bx, c5x);
        }
        Vector256<float> scale = Vector256.Create(alpha);
        Store(c, c0x, scale, accumulate);
        Store(c + ldc, c1x, scale, accumulate);
        Store(c + 2 * ldc, c2x, scale, accumulate);
        Store(c + 3 * ldc, c3x, scale, accumulate);
        Store(c + 4 * ldc, c4x, scale, accumulate);
        Store(c + 5 * ldc, c5x, scale, accumulate);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile2x16(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector256<float> c0x = Vector256<float>.Zero, c0y = Vector256<float>.Zero;
        Vector256<float> c1x = Vector256<float>.Zero, c1y = Vector256<float>.Zero;
        for (int k = 0; k < kc; k++, a += 2, b += 16)
        {
            Vector256<float> bx = Vector256.Load(b), by = Vector256.Load(b + 8);
            Vector256<float> ar = Vector256.Create(a[0]);
            c0x = Vector256.FusedMultiplyAdd(ar, bx, c0x);
            c0y = Vector256.FusedMultiplyAdd(ar, by, c0y);
            ar = Vector256.Create(a[1]);
            c1x = Vector256.FusedMultiplyAdd(ar, bx, c1x);
            c1y = Vector256.FusedMultiplyAdd(ar, by, c1y);
        }
        Vector256<float> scale = Vector256.Create(alpha);
        Store(c, c0x, c0y, scale, accumulate);
        Store(c + ldc, c1x, c1y, scale, accumulate);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile2x8(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector256<float> c0x = Vector256<float>.Zero;
        Vector256<float> c1x = Vector256<float>.Zero;
        for (int k = 0; k < kc; k++, a += 2, b += 8)
        {
            Vector256<float> bx = Vector256.Load(b);
            Vector256<float> ar = Vector256.Create(a[0]);
            c0x = Vector256.FusedMultiplyAdd(ar, bx, c0x);
            ar = Vector256.Create(a[1]);
            c1x = Vector256.FusedMultiplyAdd(ar, bx, c1x);
        }
        Vector256<float> scale = Vector256.Create(alpha);
        Store(c, c0x, scale, accumulate);
        Store(c + ldc, c1x, scale, accumulate);
    }
}
