// Tiles of products in shared memory: what the matrix product and attention are made of. Each thread computes 4 by 4 numbers from slices of both
// operands that the group has laid out in shared memory, k first, so that a thread reads its four rows and four columns as 16 bytes each.
using ILGPU;

namespace IptNative.Kernels.Gpu;

/// <summary>How a group's threads stand: Rows by Columns, each with 4 by 4 numbers. A row's threads are neighbours inside one warp.</summary>
internal interface ITileShape
{
    static abstract int Rows { get; }

    static abstract int Columns { get; }
}

/// <summary>256 threads, 64 by 64 numbers: the widest whose shared memory and registers leave several groups to a multiprocessor.</summary>
internal struct Tile64x64 : ITileShape
{
    public static int Rows => 16;

    public static int Columns => 16;
}

/// <summary>8 threads, 8 by 16 numbers: for ILGPU's CPU accelerator and its emulation, where a thread is a thread of the host.</summary>
internal struct Tile8x16 : ITileShape
{
    public static int Rows => 2;

    public static int Columns => 4;
}

/// <summary>4 by 4 numbers.</summary>
internal struct Tile4
{
    public F4 R0, R1, R2, R3;
}

/// <summary>An operand as a group sees it: element (row, column) at Start + row * RowStep + column * ColumnStep; zero outside Rows and Columns.</summary>
internal struct TileSource
{
    public ArrayView<float> Wide;
    public ArrayView<ushort> Narrow;
    public ArrayView<byte> Codes, ZeroPoints;
    public ArrayView<float> Scales;
    public long Start, RowStep, ColumnStep, Rows, Columns;

    /// <summary>0: f32 in Wide; 1: bf16 in Narrow; 2: f16 in Narrow; 3: i8, 4: u4 in Codes, less their zero point, times Scales.</summary>
    public int Format;

    /// <summary>Of codes: blocks and zero points' bytes of a stored row, elements of a block, bytes of a stored row.</summary>
    public long ScalesPerRow, ZeroBytes, Block, CodeBytes;

    /// <summary>What is a row here is stored as a column.</summary>
    public GpuFlag Exchanged;

    /// <summary>Round what was read to bf16.</summary>
    public GpuFlag Rounds;

    public static float At(TileSource s, long row, long column)
    {
        if (row >= s.Rows || column >= s.Columns)
            return 0;
        float value = Stored(s, row, column);
        return s.Rounds ? GpuBits.FromBF16(GpuBits.ToBF16(value)) : value;
    }

    private static float Stored(TileSource s, long row, long column)
    {
        long at = s.Start + row * s.RowStep + column * s.ColumnStep;
        if (s.Format == 0)
            return s.Wide[at];
        if (s.Format == 1)
            return GpuBits.FromBF16(s.Narrow[at]);
        if (s.Format == 2)
            return GpuBits.FromF16(s.Narrow[at]);
        long storedRow = s.Exchanged ? column : row, storedColumn = s.Exchanged ? row : column, block = storedColumn / s.Block;
        float scale = s.Scales[storedRow * s.ScalesPerRow + block];
        if (s.Format == 3)
            return (sbyte)s.Codes[storedRow * s.CodeBytes + storedColumn] * scale;
        int zero = (s.ZeroPoints[storedRow * s.ZeroBytes + (block >> 1)] >> (int)((block & 1) << 2)) & 15;
        int code = (s.Codes[storedRow * s.CodeBytes + (storedColumn >> 1)] >> (int)((storedColumn & 1) << 2)) & 15;
        return (code - zero) * scale;
    }
}

/// <summary>Work on tiles.</summary>
internal static class GpuTile
{
    /// <summary>Columns of the operands that are in shared memory at once: 16 rows of 256 bytes each for both.</summary>
    public const int Depth = 16;

    /// <summary>Brings Depth columns of 4 * <paramref name="threads"/> rows to shared memory, transposed. Neighbouring threads read neighbouring addresses.</summary>
    public static void Bring(TileSource s, long row0, long column0, ArrayView<float> shared, int threads)
    {
        int rows = 4 * threads;
        for (int e = Group.IdxX; e < rows * Depth; e += Group.DimX)
        {
            int column = s.ColumnStep == 1 ? e % Depth : e / rows, row = s.ColumnStep == 1 ? e / Depth : e % rows;
            shared[column * rows + row] = TileSource.At(s, row0 + row, column0 + column);
        }
    }

    /// <summary>Adds x y^T of one slice; x's columns begin at <paramref name="xFirst"/>.</summary>
    public static Tile4 AddSlice(Tile4 c, ArrayView<F4> x, int xFirst, int xThreads, int xThread, ArrayView<F4> y, int yThreads, int yThread)
    {
        for (int k = 0; k < Depth; k++)
        {
            F4 a = x[(xFirst + k) * xThreads + xThread], b = y[k * yThreads + yThread];
            c.R0 = AddProduct(c.R0, a.X, b);
            c.R1 = AddProduct(c.R1, a.Y, b);
            c.R2 = AddProduct(c.R2, a.Z, b);
            c.R3 = AddProduct(c.R3, a.W, b);
        }
        return c;
    }

    /// <summary>x y^T over all columns, for the thread's 4 by 4 of the tile. All threads of the group call; shared memory is free on return.</summary>
    public static Tile4 Product<TShape>(TileSource x, long xRow0, TileSource y, long yRow0, ArrayView<F4> sharedX, ArrayView<F4> sharedY)
        where TShape : struct, ITileShape
    {
        int tx = Group.IdxX % TShape.Columns, ty = Group.IdxX / TShape.Columns;
        var c = default(Tile4);
        for (long k0 = 0; k0 < x.Columns; k0 += Depth)
        {
            Bring(x, xRow0, k0, sharedX.Cast<float>(), TShape.Rows);
            Bring(y, yRow0, k0, sharedY.Cast<float>(), TShape.Columns);
            Group.Barrier();
            c = AddSlice(c, sharedX, 0, TShape.Rows, ty, sharedY, TShape.Columns, tx);
            Group.Barrier();
        }
        return c;
    }

    /// <summary>Lays the group's tile into shared memory, column by column, so that its columns can be summed over.</summary>
    public static void Lay<TShape>(Tile4 c, ArrayView<F4> shared)
        where TShape : struct, ITileShape
    {
        int tx = Group.IdxX % TShape.Columns, ty = Group.IdxX / TShape.Columns;
        shared[4 * tx * TShape.Rows + ty] = new F4(c.R0.X, c.R1.X, c.R2.X, c.R3.X);
        shared[(4 * tx + 1) * TShape.Rows + ty] = new F4(c.R0.Y, c.R1.Y, c.R2.Y, c.R3.Y);
        shared[(4 * tx + 2) * TShape.Rows + ty] = new F4(c.R0.Z, c.R1.Z, c.R2.Z, c.R3.Z);
        shared[(4 * tx + 3) * TShape.Rows + ty] = new F4(c.R0.W, c.R1.W, c.R2.W, c.R3.W);
    }

    /// <summary>Adds tile times y, y's rows from <paramref name="yRow0"/> on being the tile's columns. All threads call; <paramref name="sharedY"/> is free on return.</summary>
    /// <param name="c">The thread's rows, and 4 columns from 4 * its place in the row plus <paramref name="column0"/>.</param>
    /// <param name="tile">As <see cref="Lay"/> left it.</param>
    /// <param name="transposedY">y with rows and columns exchanged.</param>
    /// <param name="yRow0">First row of y.</param>
    /// <param name="column0">First column of y.</param>
    /// <param name="sharedY">Room for a slice.</param>
    public static Tile4 AddTileProduct<TShape>(Tile4 c, ArrayView<F4> tile, TileSource transposedY, long yRow0, long column0, ArrayView<F4> sharedY)
        where TShape : struct, ITileShape
    {
        int tx = Group.IdxX % TShape.Columns, ty = Group.IdxX / TShape.Columns;
        for (int first = 0; first < 4 * TShape.Columns; first += Depth)
        {
            Bring(transposedY, column0, yRow0 + first, sharedY.Cast<float>(), TShape.Columns);
            Group.Barrier();
            c = AddSlice(c, tile, first, TShape.Rows, ty, sharedY, TShape.Columns, tx);
            Group.Barrier();
        }
        return c;
    }

    public static F4 AddProduct(F4 c, float a, F4 b) => new(c.X + a * b.X, c.Y + a * b.Y, c.Z + a * b.Z, c.W + a * b.W);

    public static F4 Scale(F4 c, float a) => new(c.X * a, c.Y * a, c.Z * a, c.W * a);
}
