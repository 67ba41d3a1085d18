// One AdamW step of a matrix whose gradient is a sum of few outer products: a linear layer behind a small batch. The gradient is made tile by tile
// in the first-level cache and used up there; it never exists in memory. Deliberately not: the choice of variant and clipping (Optimizers/FactoredAdamW.cs).
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>AdamW's update of a linear layer's weight, its gradient still in factors.</summary>
/// <remarks>
/// Formula   g = scale left^T right, that is g[o, i] = scale sum_c left[c, o] right[c, i];   then AdamWUpdate's formula.
/// Shapes    left: [count, rows], the gradient at the layer's output;  right: [count, columns], its input;  m, v, p: [rows, columns].
/// Cost      m, v and p are read and written once, 24 bytes an element; a stored gradient would add 4 written, 4 read and the memory itself.
/// Numerics  float, sums over c ascending, element by element: the same bits for any number of threads and any vector width with fused products.
/// Why       docs/derivations/outer_product_adamw.md.
/// </remarks>
public static partial class OuterProductAdamW
{
    /// <summary>Does the step.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="left">f32 [count, rows].</param>
    /// <param name="right">f32 [count, columns].</param>
    /// <param name="m">f32 [rows, columns], first moment, updated.</param>
    /// <param name="v">f32 [rows, columns], second moment, updated.</param>
    /// <param name="p">f32 [rows, columns], the parameter, updated.</param>
    /// <param name="count">Outer products, 1 or more.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="columns">1 or more.</param>
    /// <param name="scale">Multiplies the gradient: the clipping factor, or 1.</param>
    /// <param name="coefficients">The step's numbers.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Run(
        ComputeDevice device, Tensor left, Tensor right, Tensor m, Tensor v, Tensor p, int count, int rows, int columns, float scale, in AdamWCoefficients coefficients)
    {
        const string Op = "OuterProductAdamW.Run";
        Require.Dim(Op, count, nameof(count));
        Require.Dim(Op, rows, nameof(rows));
        Require.Dim(Op, columns, nameof(columns));
        Require.Shape(Op, device, left, nameof(left), DType.F32, "[count, rows]", count, rows);
        Require.Shape(Op, device, right, nameof(right), DType.F32, "[count, columns]", count, columns);
        Require.Shape(Op, device, m, nameof(m), DType.F32, "[rows, columns]", rows, columns);
        Require.Shape(Op, device, v, nameof(v), DType.F32, "[rows, columns]", rows, columns);
        Require.Shape(Op, device, p, nameof(p), DType.F32, "[rows, columns]", rows, columns);
        using OpScope trace = OpTrace.Enter(Op, count, rows, columns);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Run(cpu, left, right, m, v, p, count, rows, columns, scale, coefficients); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Run(gpu, left, right, m, v, p, count, rows, columns, scale, coefficients); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static unsafe class Cpu
    {
        // Four rows share each load of right; 4 x 1024 floats are 16 KB, a third of the smallest first-level cache in use (32 KB) with room for
        // the stretch of right that stays beside them.
        private const int TileRows = 4;
        private const int TileColumns = 1024;

        public static void Run(
            CpuDevice cpu, Tensor left, Tensor right, Tensor m, Tensor v, Tensor p, int count, int rows, int columns, float scale, in AdamWCoefficients coefficients)
        {
            var kernel = new TileKernel
            {
                Left = (float*)left.Address,
                Right = (float*)right.Address,
                Update = new AdamWUpdate.Kernel { M = (float*)m.Address, V = (float*)v.Address, P = (float*)p.Address, C = coefficients },
                Count = count,
                Height = rows,
                Columns = columns,
                Scale = scale,
                Chunks = (columns + TileColumns - 1) / TileColumns,
            };
            CpuRows.Run(cpu, (long)((rows + TileRows - 1) / TileRows) * kernel.Chunks, TileRows * Math.Min(columns, TileColumns), kernel);
        }

        private struct TileKernel : IRowKernel
        {
            public float* Left, Right;
            public AdamWUpdate.Kernel Update;
            public int Count, Height, Columns, Chunks;
            public float Scale;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                float* tile = stackalloc float[TileRows * TileColumns];
                for (long t = first; t < end; t++)
                {
                    long row = t / Chunks * TileRows;
                    int column = (int)(t % Chunks) * TileColumns, width = Math.Min(TileColumns, Columns - column);
                    int height = (int)Math.Min(TileRows, Height - row);
                    if (height == TileRows)
                        Tile<V>(tile, row, column, width);
                    else
                        for (int k = 0; k < height; k++)
                            Line<V>(tile + k * width, row + k, column, 0, width);
                    for (int k = 0; k < height; k++)
                        Apply<V>(tile + k * width, (row + k) * Columns + column, width);
                }
            }

            // Four rows by two registers: eight sums in flight hide the latency of the fused product.
            [MethodImpl(Jit.Loop)]
            private readonly void Tile<V>(float* tile, long row, int column, int width)
                where V : unmanaged, ISimd<V>
            {
                int i = 0;
                V scale = V.Broadcast(Scale);
                for (; i <= width - 2 * V.Lanes; i += 2 * V.Lanes)
                {
                    V a0 = V.Broadcast(0), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, d0 = a0, d1 = a0;
                    float* r = Right + column + i, l = Left + row;
                    for (int c = 0; c < Count; c++, r += Columns, l += Height)
                    {
                        V x0 = V.Load(r), x1 = V.Load(r + V.Lanes);
                        V f = V.Broadcast(l[0]);
                        a0 = V.MultiplyAdd(f, x0, a0);
                        a1 = V.MultiplyAdd(f, x1, a1);
                        f = V.Broadcast(l[1]);
                        b0 = V.MultiplyAdd(f, x0, b0);
                        b1 = V.MultiplyAdd(f, x1, b1);
                        f = V.Broadcast(l[2]);
                        c0 = V.MultiplyAdd(f, x0, c0);
                        c1 = V.MultiplyAdd(f, x1, c1);
                        f = V.Broadcast(l[3]);
                        d0 = V.MultiplyAdd(f, x0, d0);
                        d1 = V.MultiplyAdd(f, x1, d1);
                    }
                    float* y = tile + i;
                    (a0 * scale).Store(y);
                    (a1 * scale).Store(y + V.Lanes);
                    (b0 * scale).Store(y + width);
                    (b1 * scale).Store(y + width + V.Lanes);
                    (c0 * scale).Store(y + 2 * width);
                    (c1 * scale).Store(y + 2 * width + V.Lanes);
                    (d0 * scale).Store(y + 3 * width);
                    (d1 * scale).Store(y + 3 * width + V.Lanes);
                }
                for (int k = 0; k < TileRows; k++)
                    Line<V>(tile + k * width, row + k, column, i, width);
            }

            // Columns [from, width) of one row.
            [MethodImpl(Jit.Loop)]
            private readonly void Line<V>(float* tile, long row, int column, int from, int width)
                where V : unmanaged, ISimd<V>
            {
                int i = from;
                for (; i <= width - V.Lanes; i += V.Lanes)
                    Sum<V>(row, column + i).Store(tile + i);
                for (; i < width; i++)
                    Sum<F32x1>(row, column + i).Store(tile + i);
            }

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            private readonly V Sum<V>(long row, long column)
                where V : unmanaged, ISimd<V>
            {
                V sum = V.Broadcast(0);
                float* r = Right + column, l = Left + row;
                for (int c = 0; c < Count; c++, r += Columns, l += Height)
                    sum = V.MultiplyAdd(V.Broadcast(*l), V.Load(r), sum);
                return sum * V.Broadcast(Scale);
            }

            [MethodImpl(Jit.Loop)]
            private readonly void Apply<V>(float* tile, long at, int width)
                where V : unmanaged, ISimd<V>
            {
                AdamWUpdate.Kernel update = Update;
                update.G = tile;
                update.M += at;
                update.V += at;
                update.P += at;
                int i = 0;
                for (; i <= width - V.Lanes; i += V.Lanes)
                    update.At<V>(i);
                for (; i < width; i++)
                    update.At<F32x1>(i);
            }
        }
    }
}
