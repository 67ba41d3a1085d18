// Runs every tile on small products whose result is known exactly, before anything else may call it. Part of the product: this machine is the one that counts.
using System.Runtime.InteropServices;

namespace IptNative.Kernels.Cpu;

/// <summary>Whole numbers from -4 to 4: all products and sums are exact, so every order of summation gives the same float.</summary>
internal static unsafe class TileSelfTest
{
    private const int Pairs = 5;
    private const int Panels = 2;
    // Room around C that must stay as it was.
    private const int Slack = 3;
    private const float Untouched = -77;
    private const int CStep = Panels * BF16Tile.Columns + Slack;
    private const int MostStrips = 2;
    private const int CRows = MostStrips * BF16Tile.Rows + 1;

    /// <summary>What went wrong, or null.</summary>
    public static string? FirstFailure(BF16Kernels.Entries kernels)
    {
        const int AWords = MostStrips * BF16Tile.Rows * BF16Tile.StripStep / 4, BWords = Panels * Pairs * BF16Tile.Columns, CWords = CRows * CStep;
        var a = (uint*)NativeMemory.AlignedAlloc((AWords + BWords + CWords) * sizeof(uint), 64);
        try
        {
            uint* b = a + AWords;
            var c = (float*)(b + BWords);
            for (int i = 0; i < AWords; i++)
                a[i] = Pair(3 * i + i / 7);
            for (int i = 0; i < BWords; i++)
                b[i] = Pair(5 * i + i / 3);
            for (int kind = 0; kind < 32; kind++)
            {
                bool edgeRows = (kind & 1) != 0, edgeColumns = (kind & 2) != 0, accumulate = (kind & 4) != 0, whole = (kind & 8) != 0, twoStrips = (kind & 16) != 0;
                if ((whole || !twoStrips) && Failure(kernels, a, b, c, edgeRows, edgeColumns, accumulate, whole, twoStrips ? 2 : 1) is { } failure)
                    return failure;
            }
            return null;
        }
        finally
        {
            NativeMemory.AlignedFree(a);
        }
    }

    private static string? Failure(BF16Kernels.Entries kernels, uint* a, uint* b, float* c, bool edgeRows, bool edgeColumns, bool accumulate, bool whole, int strips)
    {
        int height = edgeRows ? BF16Tile.EdgeRows : BF16Tile.Rows, width = edgeColumns ? BF16Tile.EdgeColumns : BF16Tile.Columns;
        int rows = whole ? height : height - 1, last = whole ? width : width - 5, columns = (Panels - 1) * width + last;
        float alpha = accumulate ? -2 : 1;
        new Span<float>(c, CRows * CStep).Fill(Untouched);
        var call = new TileCall { StepC = CStep * sizeof(float), Pairs = Pairs, Rows = rows, Ahead = (byte*)b, StepAhead = 64, Alpha = alpha, Accumulate = accumulate ? 1u : 0u };
        kernels.Run(edgeRows, edgeColumns, &call, a, b, c, strips, Panels, whole ? 0 : last);
        for (int row = 0; row < CRows; row++)
        {
            for (int column = 0; column < CStep; column++)
            {
                float expected = Untouched;
                if (row < strips * rows && column < columns)
                {
                    float sum = 0;
                    for (int p = 0; p < Pairs; p++)
                    {
                        uint x = a[row * (BF16Tile.StripStep / 4) + p], y = b[(column / width * Pairs + p) * width + column % width];
                        sum += Upper(x) * Upper(y) + Upper(x << 16) * Upper(y << 16);
                    }
                    expected = alpha * sum + (accumulate ? Untouched : 0);
                }
                float actual = c[row * CStep + column];
                if (actual != expected)
                    return $"tile {height}x{width}, {strips * rows}x{columns}{(accumulate ? ", accumulating" : "")}: C[{row}, {column}] is {actual}, expected {expected}";
            }
        }
        return null;
    }

    private static uint Pair(int seed) => Half(seed % 9 - 4) | (Half(seed / 2 % 9 - 4) << 16);

    private static uint Half(int value) => BitConverter.SingleToUInt32Bits(value) >> 16;

    private static float Upper(uint bits) => BitConverter.UInt32BitsToSingle(bits & 0xFFFF_0000);
}
