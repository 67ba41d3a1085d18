// What turns a quantised matrix' codes into numbers. Deliberately not how they were chosen: that is the exporter's business.
namespace IptNative.Kernels.Devices;

/// <summary>Scales, and zero points where there are some, of a row-major matrix whose rows are cut into blocks: w = (code - zero point) * scale.</summary>
/// <param name="Address">f32 [rows, <see cref="PerRow"/>].</param>
/// <param name="ZeroPoints">u4 [rows, <see cref="PerRow"/>], each row beginning at a byte; 0: the zero point is 0.</param>
/// <param name="RowLength">Elements of a row, 1 or more.</param>
/// <param name="Block">Elements that share a scale: <see cref="RowLength"/>, or a power of two of 16 or more that divides it.</param>
/// <remarks>With u4 codes this is what ONNX Runtime's MatMulNBits reads and, code for code, what ONNX's DequantizeLinear with blocks does.</remarks>
public readonly record struct BlockScales(nint Address, nint ZeroPoints, long RowLength, long Block)
{
    /// <summary>Block size of 4-bit weights.</summary>
    public const int U4Block = 32;

    /// <summary>Whether there are scales.</summary>
    public bool IsPresent => Address != 0;

    /// <summary>Blocks of a row.</summary>
    public long PerRow => RowLength / Block;

    /// <summary>Bytes of a row's zero points.</summary>
    public long ZeroPointBytesPerRow => (PerRow + 1) / 2;
}
