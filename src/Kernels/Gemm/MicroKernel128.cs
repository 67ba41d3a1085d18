// The 128-bit micro-kernel: 4 rows by two vectors held in registers, and its three edge sizes.
// Accumulators are named locals because the JIT keeps those in registers and spills anything indexed; the regular shape is deliberate.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

/// <summary>8 accumulators of 4 floats: for machines without 256-bit fused multiply-add, ARM among them.</summary>
internal readonly unsafe struct MicroKernel128 : IMicroKernel
{
    public static int Rows => 4;

    public static int EdgeRows => 2;

    public static int Columns => 8;

    public static int EdgeColumns => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Tile(bool edgeRows, bool edgeColumns, int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        if (edgeRows)
        {
            if (edgeColumns)
                Tile2x4(kc, a, b, c, ldc, alpha, accumulate);
            else
                Tile2x8(kc, a, b, c, ldc, alpha, accumulate);
        }
        else if (edgeColumns)
        {
            Tile4x4(kc, a, b, c, ldc, alpha, accumulate);
        }
        else
        {
            Tile4x8(kc, a, b, c, ldc, alpha, accumulate);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* c, Vector128<float> x, Vector128<float> y, Vector128<float> scale, bool accumulate)
    {
        Store(c, x, scale, accumulate);
        Store(c + 4, y, scale, accumulate);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* c, Vector128<float> x, Vector128<float> scale, bool accumulate)
    {
        x *= scale;
        if (accumulate)
            x += Vector128.Load(c);
        x.Store(c);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile4x8(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector128<float> c0x = Vector128<float>.Zero, c0y = Vector128<float>.Zero;
        Vector128<float> c1x = Vector128<float>.Zero, c1y = Vector128<float>.Zero;
        Vector128<float> c2x = Vector128<float>.Zero, c2y = Vector128<float>.Zero;
        Vector128<float> c3x = Vector128<float>.Zero, c3y = Vector128<float>.Zero;
        for (int k = 0; k < kc; k++, a += 4, b += 8)
        {
            Vector128<float> bx = Vector128.Load(b), by = Vector128.Load(b + 4);
            Vector128<float> ar = Vector128.Create(a[0]);
            c0x = Vector128.FusedMultiplyAdd(ar, bx, c0x);
            c0y = Vector128.FusedMultiplyAdd(ar, by, c0y);
            ar = Vector128.Create(a[1]);
            c1x = Vector128.FusedMultiplyAdd(ar, bx, c1x);
            c1y = Vector128.FusedMultiplyAdd(ar, by, c1y);
            ar = Vector128.Create(a[2]);
            c2x = Vector128.FusedMultiplyAdd(ar, bx, c2x);
            c2y = Vector128.FusedMultiplyAdd(ar, by, c2y);
            ar = Vector128.Create(a[3]);
            c3x = Vector128.FusedMultiplyAdd(ar, bx, c3x);
            c3y = Vector128.FusedMultiplyAdd(ar, by, c3y);
        }
        Vector128<float> scale = Vector128.Create(alpha);
        Store(c, c0x, c0y, scale, accumulate);
        Store(c + ldc, c1x, c1y, scale, accumulate);
        Store(c + 2 * ldc, c2x, c2y, scale, accumulate);
        Store(c + 3 * ldc, c3x, c3y, scale, accumulate);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile4x4(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector128<float> c0x = Vector128<float>.Zero;
        Vector128<float> c1x = Vector128<float>.Zero;
        Vector128<float> c2x = Vector128<float>.Zero;
        Vector128<float> c3x = Vector128<float>.Zero;
        for (int k = 0; k < kc; k++, a += 4, b += 4)
        {
            Vector128<float> bx = Vector128.Load(b);
            Vector128<float> ar = Vector128.Create(a[0]);
            c0x = Vector128.FusedMultiplyAdd(ar, bx, c0x);
            ar = Vector128.Create(a[1]);
            c1x = Vector128.FusedMultiplyAdd(ar, bx, c1x);
            ar = Vector128.Create(a[2]);
            c2x = Vector128.FusedMultiplyAdd(ar, bx, c2x);
            ar = Vector128.Create(a[3]);
            c3x = Vector128.FusedMultiplyAdd(ar, bx, c3x);
        }
        Vector128<float> scale = Vector128.Create(alpha);
        Store(c, c0x, scale, accumulate);
        Store(c + ldc, c1x, scale, accumulate);
        Store(c + 2 * ldc, c2x, scale, accumulate);
        Store(c + 3 * ldc, c3x, scale, accumulate);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile2x8(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector128<float> c0x = Vector128<float>.Zero, c0y = Vector128<float>.Zero;
        Vector128<float> c1x = Vector128<float>.Zero, c1y = Vector128<float>.Zero;
        for (int k = 0; k < kc; k++, a += 2, b += 8)
        {
            Vector128<float> bx = Vector128.Load(b), by = Vector128.Load(b + 4);
            Vector128<float> ar = Vector128.Create(a[0]);
            c0x = Vector128.FusedMultiplyAdd(ar, bx, c0x);
            c0y = Vector128.FusedMultiplyAdd(ar, by, c0y);
            ar = Vector128.Create(a[1]);
            c1x = Vector128.FusedMultiplyAdd(ar, bx, c1x);
            c1y = Vector128.FusedMultiplyAdd(ar, by, c1y);
        }
        Vector128<float> scale = Vector128.Create(alpha);
        Store(c, c0x, c0y, scale, accumulate);
        Store(c + ldc, c1x, c1y, scale, accumulate);
    }

    [MethodImpl(Jit.Loop)]
    private static void Tile2x4(int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        Vector128<float> c0x = Vector128<float>.Zero;
        Vector128<float> c1x = Vector128<float>.Zero;
        for (int k = 0; k < kc; k++, a += 2, b += 4)
        {
            Vector128<float> bx = Vector128.Load(b);
            Vector128<float> ar = Vector128.Create(a[0]);
            c0x = Vector128.FusedMultiplyAdd(ar, bx, c0x);
            ar = Vector128.Create(a[1]);
            c1x = Vector128.FusedMultiplyAdd(ar, bx, c1x);
        }
        Vector128<float> scale = Vector128.Create(alpha);
        Store(c, c0x, scale, accumulate);
        Store(c + ldc, c1x, scale, accumulate);
    }
}
