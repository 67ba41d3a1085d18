// Whether two stored copies of one parameter agree, judged by a few thousand elements.
using IptNative.Kernels;

namespace IptNative.Model.Onnx;

/// <summary>Compares tensors that should be the same parameter.</summary>
internal static class OnnxSample
{
    // Other weights differ nearly everywhere: this many evenly spread elements tell a mix-up from a copy, and cost no full pass over an embedding.
    private const long Elements = 4096;

    /// <summary>Compares evenly spread elements bit for bit.</summary>
    /// <param name="a">One.</param>
    /// <param name="b">The other, in either orientation.</param>
    /// <returns>False where shape, type or an element differs.</returns>
    public static unsafe bool Same(OnnxWeight a, OnnxWeight b)
    {
        if (a.Shape != b.Shape || a.Tensor.DType != b.Tensor.DType || a.Tensor.DType is not { } dtype)
            return false;
        byte[]? unpackedA = a.Tensor.InPlace is null ? a.Tensor.Unpack() : null;
        byte[]? unpackedB = b.Tensor.InPlace is null ? b.Tensor.Unpack() : null;
        fixed (byte* copyA = unpackedA)
        fixed (byte* copyB = unpackedB)
            return SameBytes(a, (byte*)(a.Tensor.InPlace ?? (nint)copyA), b, (byte*)(b.Tensor.InPlace ?? (nint)copyB), dtype.Bits() / 8);
    }

    private static unsafe bool SameBytes(OnnxWeight a, byte* left, OnnxWeight b, byte* right, int size)
    {
        long count = a.Shape.Elements;
        long cols = a.Shape.Rank == 2 ? a.Shape[1] : count;
        // The step is odd, so that with even row lengths all columns are met.
        long step = Math.Max(1, count / Elements) | 1;
        for (long i = 0; i < count; i += step)
        {
            byte* x = left + size * Index(a, i / cols, i % cols);
            byte* y = right + size * Index(b, i / cols, i % cols);
            if (!new ReadOnlySpan<byte>(x, size).SequenceEqual(new ReadOnlySpan<byte>(y, size)))
                return false;
        }
        return true;
    }

    private static long Index(OnnxWeight weight, long row, long col) =>
        weight.Transposed ? col * weight.Tensor.Shape[1] + row : weight.Tensor.Shape.Rank == 2 ? row * weight.Tensor.Shape[1] + col : col;
}
