// Rounding of blocks of weights to 8 or 4 bits. Round to nearest on the block's own range; no calibration data is looked at.
using IptNative.Kernels.Devices;

namespace IptNative.Model.Onnx.Package;

/// <summary>Chooses codes and scales.</summary>
internal static class Quantiser
{
    private const int MostI8 = 127;
    private const int MostU4 = 15;

    /// <summary>code = round(w / scale), scale = max|w| / 127: symmetric, zero stays zero.</summary>
    /// <param name="values">Finite; whole blocks.</param>
    /// <param name="block">Elements that share a scale.</param>
    /// <param name="codes">As many as values.</param>
    /// <param name="scales">One a block.</param>
    public static void ToI8(ReadOnlySpan<float> values, int block, Span<sbyte> codes, Span<float> scales)
    {
        for (int b = 0; b < scales.Length; b++)
        {
            ReadOnlySpan<float> part = values.Slice(b * block, block);
            float largest = 0;
            foreach (float x in part)
                largest = Math.Max(largest, Math.Abs(x));
            float scale = largest / MostI8;
            scales[b] = scale;
            for (int i = 0; i < part.Length; i++)
                codes[b * block + i] = (sbyte)Code(part[i], scale, 0, -MostI8, MostI8);
        }
    }

    /// <summary>w = (code - zero point) * scale over [min(w, 0), max(w, 0)]: zero stays zero, and a block of one sign uses all 16 codes.</summary>
    /// <param name="values">Finite; whole pairs of blocks of 32.</param>
    /// <param name="codes">Two to a byte, the first in the lower half.</param>
    /// <param name="scales">One a block.</param>
    /// <param name="zeroPoints">Two to a byte.</param>
    public static void ToU4(ReadOnlySpan<float> values, Span<byte> codes, Span<float> scales, Span<byte> zeroPoints)
    {
        for (int b = 0; b < scales.Length; b++)
        {
            ReadOnlySpan<float> part = values.Slice(b * BlockScales.U4Block, BlockScales.U4Block);
            float low = 0, high = 0;
            foreach (float x in part)
                (low, high) = (Math.Min(low, x), Math.Max(high, x));
            float scale = (high - low) / MostU4;
            int zero = Code(-low, scale, 0, 0, MostU4);
            scales[b] = scale;
            Put(zeroPoints, b, zero);
            for (int i = 0; i < part.Length; i++)
                Put(codes, b * BlockScales.U4Block + i, Code(part[i], scale, zero, 0, MostU4));
        }
    }

    // A block of zeros, or of numbers whose scale underflows, is all zero.
    private static int Code(float value, float scale, int zero, int least, int most) =>
        scale > 0 ? Math.Clamp((int)MathF.Round(Math.Clamp(value / scale, -256, 256)) + zero, least, most) : zero;

    private static void Put(Span<byte> row, int index, int code) =>
        row[index / 2] = (byte)(index % 2 == 0 ? code : row[index / 2] | (code << 4));
}
