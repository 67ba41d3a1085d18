// What one call of a bf16 tile kernel is told, and the sizes that its code has built in. The code itself: BF16Table.cs.
using System.Runtime.InteropServices;

namespace IptNative.Kernels.Cpu;

/// <summary>Sizes that the machine code knows.</summary>
internal static class BF16Tile
{
    /// <summary>Rows of a whole strip of A: 24 accumulators with two vectors of columns.</summary>
    public const int Rows = 12;

    /// <summary>Rows of the strips that A's remaining rows are multiplied in.</summary>
    public const int EdgeRows = 4;

    /// <summary>Columns of a whole panel of B.</summary>
    public const int Columns = 32;

    /// <summary>Columns of the last panel where so few remain.</summary>
    public const int EdgeColumns = 16;

    /// <summary>Steps of k at most between two visits to C: a strip of 12 rows (18 KiB) stays in L1 while panels stream by from L2.</summary>
    public const int Kc = 768;

    /// <summary>Bytes from row to row of packed A. 25 cache lines, an odd number: rows never compete for the same few sets of L1.</summary>
    public const int StripStep = Kc * 2 + 64;
}

/// <summary>The argument block. The machine code reads these offsets; where there are several strips it counts them down and moves A and C on.</summary>
[StructLayout(LayoutKind.Explicit, Size = 96)]
internal unsafe struct TileCall
{
    public const int OffsetA = 0, OffsetB = 8, OffsetC = 16, OffsetStepC = 24, OffsetPairs = 32, OffsetPanels = 40, OffsetRows = 48;
    public const int OffsetMaskX = 56, OffsetMaskY = 60, OffsetAlpha = 64, OffsetAccumulate = 68, OffsetAhead = 72, OffsetStepAhead = 80, OffsetStrips = 88;

    /// <summary>First row of the packed strip; a row of k pairs every <see cref="BF16Tile.StripStep"/> bytes. All rows of the tile are read.</summary>
    [FieldOffset(OffsetA)]
    public uint* A;

    /// <summary>First packed panel, <c>[pair][column]</c>; the next follows immediately.</summary>
    [FieldOffset(OffsetB)]
    public uint* B;

    /// <summary>First element of C.</summary>
    [FieldOffset(OffsetC)]
    public float* C;

    /// <summary>Bytes from row to row of C.</summary>
    [FieldOffset(OffsetStepC)]
    public long StepC;

    /// <summary>Pairs of k, 1 or more.</summary>
    [FieldOffset(OffsetPairs)]
    public long Pairs;

    /// <summary>Panels, 1 or more.</summary>
    [FieldOffset(OffsetPanels)]
    public long Panels;

    /// <summary>Rows of C that exist in each strip, 1 to the tile's; more than one strip has them all.</summary>
    [FieldOffset(OffsetRows)]
    public long Rows;

    /// <summary>Which of the last panel's columns 0 to 15 exist, a bit each.</summary>
    [FieldOffset(OffsetMaskX)]
    public uint MaskX;

    /// <summary>Which of the last panel's columns 16 to 31 exist, a bit each.</summary>
    [FieldOffset(OffsetMaskY)]
    public uint MaskY;

    /// <summary>Factor of the product.</summary>
    [FieldOffset(OffsetAlpha)]
    public float Alpha;

    /// <summary>1: add to C; 0: overwrite it.</summary>
    [FieldOffset(OffsetAccumulate)]
    public uint Accumulate;

    /// <summary>Memory to fetch into L2 meanwhile, 4 bytes a pair; any address is harmless.</summary>
    [FieldOffset(OffsetAhead)]
    public byte* Ahead;

    /// <summary>Bytes from what is fetched during one panel to what is fetched during the next.</summary>
    [FieldOffset(OffsetStepAhead)]
    public long StepAhead;

    /// <summary>Strips of A, 1 or more; the next follows the tile's rows immediately, and so does its C.</summary>
    [FieldOffset(OffsetStrips)]
    public long Strips;
}
