// The contract of the innermost loop of the matrix product, and the version for machines without vectors.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

/// <summary>Multiplies one packed panel of A by one packed panel of B.</summary>
/// <remarks>
/// Per element the same chain of operations whatever the tile: k ascending, one (fused) multiply-add each, then times alpha, then plus C. So a result
/// does not depend on where a tile's borders lie, hence not on the number of threads.
/// </remarks>
internal unsafe interface IMicroKernel
{
    /// <summary>Rows of a whole panel of A.</summary>
    static abstract int Rows { get; }

    /// <summary>Rows of the panels that A's remaining rows are packed in.</summary>
    static abstract int EdgeRows { get; }

    /// <summary>Columns of a whole panel of B.</summary>
    static abstract int Columns { get; }

    /// <summary>Columns of B's last panel where so few remain.</summary>
    static abstract int EdgeColumns { get; }

    /// <summary>C (=|+=) alpha A B for a whole tile of the named size.</summary>
    /// <param name="edgeRows">A's panel has <see cref="EdgeRows"/> rows.</param>
    /// <param name="edgeColumns">B's panel has <see cref="EdgeColumns"/> columns.</param>
    /// <param name="kc">Steps of k.</param>
    /// <param name="a">Packed panel.</param>
    /// <param name="b">Packed panel.</param>
    /// <param name="c">First element of the tile.</param>
    /// <param name="ldc">Elements from row to row of C.</param>
    /// <param name="alpha">Factor.</param>
    /// <param name="accumulate">Add to C; overwrite it otherwise.</param>
    static abstract void Tile(bool edgeRows, bool edgeColumns, int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate);

    /// <summary>Two edge panels of A at once, one below the other, with a whole panel of B: B is read once for both.</summary>
    /// <param name="kc">Steps of k.</param>
    /// <param name="a">The upper packed panel of A.</param>
    /// <param name="lower">The lower one.</param>
    /// <param name="b">Packed panel.</param>
    /// <param name="c">First element of the tile.</param>
    /// <param name="ldc">Elements from row to row of C.</param>
    /// <param name="alpha">Factor.</param>
    /// <param name="accumulate">Add to C; overwrite it otherwise.</param>
    /// <returns>False, and nothing is done, where the width has no such tile.</returns>
    static virtual bool TryTwoEdges(int kc, float* a, float* lower, float* b, float* c, long ldc, float alpha, bool accumulate) => false;
}

/// <summary>Plain loops. Not fused: without hardware a fused multiply-add is a library call.</summary>
internal readonly unsafe struct MicroKernelScalar : IMicroKernel
{
    public static int Rows => 4;

    public static int EdgeRows => 2;

    public static int Columns => 8;

    public static int EdgeColumns => 4;

    [MethodImpl(Jit.Loop)]
    public static void Tile(bool edgeRows, bool edgeColumns, int kc, float* a, float* b, float* c, long ldc, float alpha, bool accumulate)
    {
        int rows = edgeRows ? EdgeRows : Rows, columns = edgeColumns ? EdgeColumns : Columns;
        float* sums = stackalloc float[Rows * Columns];
        new Span<float>(sums, rows * columns).Clear();
        for (int k = 0; k < kc; k++, a += rows, b += columns)
        {
            for (int i = 0; i < rows; i++)
            {
                float ai = a[i];
                float* sum = sums + i * columns;
                for (int j = 0; j < columns; j++)
                    sum[j] += ai * b[j];
            }
        }
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                float* to = c + i * ldc + j;
                float value = sums[i * columns + j] * alpha;
                *to = accumulate ? *to + value : value;
            }
        }
    }
}
