// What every packed product does with one block: lay the operands out in panels, multiply them. Which blocks, in which order and on which
// thread is the caller's business (GemmBodies.cs, PackedAttention.Cpu.cs).
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

/// <summary>A block of A as panels of rows, a block of B as one panel of columns, and their product.</summary>
internal static unsafe class Panels
{
    /// <summary>Packs rows of A: whole panels, then edge ones; the panel of row i begins at i * kc.</summary>
    /// <param name="a">The stored matrix.</param>
    /// <param name="transposed">A is stored [K, M].</param>
    /// <param name="m0">First row.</param>
    /// <param name="rows">How many, 1 or more.</param>
    /// <param name="k0">First k.</param>
    /// <param name="kc">How many k.</param>
    /// <param name="to">Receives <see cref="PaddedRows{TKernel}"/> * kc floats.</param>
    public static void PackRows<TKernel, TSource>(TSource a, bool transposed, long m0, int rows, long k0, int kc, float* to)
        where TKernel : struct, IMicroKernel
        where TSource : unmanaged, IPackSource<TSource>
    {
        for (int i = 0; i < rows;)
        {
            int height = rows - i >= TKernel.Rows ? TKernel.Rows : TKernel.EdgeRows;
            int valid = Math.Min(height, rows - i);
            if (transposed)
                Packing.AcrossRows(a, k0, m0 + i, kc, valid, height, to + (long)i * kc);
            else
                Packing.AlongRows(a, m0 + i, k0, kc, valid, height, to + (long)i * kc);
            i += height;
        }
    }

    /// <summary>Packs one panel of B, <see cref="Width{TKernel}"/> wide.</summary>
    /// <param name="b">The stored matrix.</param>
    /// <param name="transposed">B is stored [N, K].</param>
    /// <param name="n0">First column.</param>
    /// <param name="columns">How many, 1 to a panel's.</param>
    /// <param name="k0">First k.</param>
    /// <param name="kc">How many k.</param>
    /// <param name="to">Receives width * kc floats.</param>
    public static void PackColumns<TKernel, TSource>(TSource b, bool transposed, long n0, int columns, long k0, int kc, float* to)
        where TKernel : struct, IMicroKernel
        where TSource : unmanaged, IPackSource<TSource>
    {
        int width = Width<TKernel>(columns);
        if (transposed)
            Packing.AlongRows(b, n0, k0, kc, columns, width, to);
        else
            Packing.AcrossRows(b, k0, n0, kc, columns, width, to);
    }

    /// <summary>Packed rows of A times one packed panel of B.</summary>
    /// <param name="rows">Rows of C; a multiple of the kernel's, or all that were packed.</param>
    /// <param name="columns">Columns of C in this panel.</param>
    /// <param name="kc">How many k.</param>
    /// <param name="a">Packed rows.</param>
    /// <param name="packed">How many k each panel of A holds.</param>
    /// <param name="first">Which of them is the first to be used.</param>
    /// <param name="b">Packed panel, from the first k used.</param>
    /// <param name="c">First element.</param>
    /// <param name="ldc">Elements from row to row of C.</param>
    /// <param name="alpha">Factor.</param>
    /// <param name="accumulate">Add to C; overwrite it otherwise.</param>
    [SkipLocalsInit]
    [MethodImpl(Jit.Loop)]
    public static void Multiply<TKernel>(int rows, int columns, int kc, float* a, int packed, int first, float* b, float* c, long ldc, float alpha, bool accumulate)
        where TKernel : struct, IMicroKernel
    {
        bool edgeColumns = columns <= TKernel.EdgeColumns;
        int width = Width<TKernel>(columns);
        float* whole = stackalloc float[TKernel.Rows * TKernel.Columns];
        for (int i = 0; i < rows;)
        {
            bool edgeRows = rows - i < TKernel.Rows;
            int height = edgeRows ? TKernel.EdgeRows : TKernel.Rows;
            int valid = Math.Min(height, rows - i);
            float* panel = a + (long)i * packed + (long)first * height;
            if (edgeRows && rows - i > height && columns == width && !edgeColumns)
            {
                bool sticksOut = rows - i < 2 * height;
                float* to = sticksOut ? whole : c + i * ldc;
                if (TKernel.TryTwoEdges(kc, panel, panel + (long)height * packed, b, to, sticksOut ? width : ldc, alpha, accumulate && !sticksOut))
                {
                    for (int r = i; sticksOut && r < rows; r++)
                        CopyRow(whole + (r - i) * width, c + r * ldc, columns, accumulate);
                    i += 2 * height;
                    continue;
                }
            }
            if (valid == height && columns == width)
            {
                TKernel.Tile(edgeRows, edgeColumns, kc, panel, b, c + i * ldc, ldc, alpha, accumulate);
            }
            else
            {
                // The tile sticks out of C: it is made beside it and what exists is carried over, by the same operations.
                TKernel.Tile(edgeRows, edgeColumns, kc, panel, b, whole, width, alpha, false);
                for (int r = 0; r < valid; r++)
                    CopyRow(whole + r * width, c + (i + r) * ldc, columns, accumulate);
            }
            i += height;
        }
    }

    /// <summary>Columns of the panel that holds so many.</summary>
    public static int Width<TKernel>(int columns)
        where TKernel : struct, IMicroKernel => columns <= TKernel.EdgeColumns ? TKernel.EdgeColumns : TKernel.Columns;

    /// <summary>Rows of the panels that hold so many.</summary>
    public static int PaddedRows<TKernel>(int rows)
        where TKernel : struct, IMicroKernel => GemmBlocking.Pieces(rows, TKernel.EdgeRows) * TKernel.EdgeRows;

    private static void CopyRow(float* from, float* to, int columns, bool accumulate)
    {
        if (accumulate)
        {
            for (int j = 0; j < columns; j++)
                to[j] = from[j] + to[j];
        }
        else
        {
            new ReadOnlySpan<float>(from, columns).CopyTo(new Span<float>(to, columns));
        }
    }
}
