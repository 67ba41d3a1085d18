// Quantised matrices as packing reads them: codes and the scales of their blocks, expanded to float a register at a time. No matrix is ever expanded whole.
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>Where a block's scale lies.</summary>
internal readonly unsafe struct ScaleTable
{
    private readonly float* _scales;
    private readonly byte* _zeroPoints;
    private readonly long _perRow;
    private readonly long _zeroBytes;
    private readonly int _shift;

    public ScaleTable(BlockScales scales)
    {
        _scales = (float*)scales.Address;
        _zeroPoints = (byte*)scales.ZeroPoints;
        _perRow = scales.PerRow;
        _zeroBytes = scales.ZeroPointBytesPerRow;
        // One scale a row: every column is shifted to block 0.
        _shift = scales.PerRow == 1 ? 62 : BitOperations.TrailingZeroCount(scales.Block);
    }

    private ScaleTable(in ScaleTable table, long row)
    {
        this = table;
        _scales += row * _perRow;
        _zeroPoints += row * _zeroBytes;
    }

    /// <summary>The table of the matrix that begins at row <paramref name="row"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ScaleTable Row(long row) => new(this, row);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Scale(long row, long column) => _scales[row * _perRow + (column >> _shift)];

    /// <summary>The zero point of a table that has some.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float ZeroPoint(long row, long column)
    {
        long block = column >> _shift;
        return (_zeroPoints[row * _zeroBytes + (block >> 1)] >> (int)((block & 1) << 2)) & 15;
    }
}

/// <summary>Signed bytes times their block's scale.</summary>
internal readonly unsafe struct I8Source(sbyte* codes, long ld, ScaleTable scales) : IPackSource<I8Source>
{
    private readonly ScaleTable _scales = scales;

    // Gemm refuses batches of quantised matrices: a shared one is the only entry there is.
    public I8Source At(long elements) => this;

    public I8Source Row(long row) => new(codes + row * ld, ld, _scales.Row(row));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public V Load<V>(long row, long column)
        where V : unmanaged, ISimd<V> => V.LoadI8(codes + row * ld + column) * V.Broadcast(_scales.Scale(row, column));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Prefetch(long row, long column)
    {
        if (Sse.IsSupported)
            Sse.Prefetch0(codes + row * ld + column);
    }
}

/// <summary>Nibbles less their block's zero point, times its scale.</summary>
internal readonly unsafe struct U4Source(byte* codes, long ld, ScaleTable scales) : IPackSource<U4Source>
{
    private readonly ScaleTable _scales = scales;

    // As in I8Source.
    public U4Source At(long elements) => this;

    public U4Source Row(long row) => new(codes + row * (ld >> 1), ld, _scales.Row(row));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public V Load<V>(long row, long column)
        where V : unmanaged, ISimd<V> =>
        (V.LoadU4(codes + row * (ld >> 1), column) - V.Broadcast(_scales.ZeroPoint(row, column))) * V.Broadcast(_scales.Scale(row, column));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Prefetch(long row, long column)
    {
        if (Sse.IsSupported)
            Sse.Prefetch0(codes + ((row * ld + column) >> 1));
    }
}
