// Rounding of frozen weights to a package's element type, with a check of every number. Deliberately not: quantisation with scales (Quantiser).
using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;

namespace IptNative.Model.Onnx.Package;

/// <summary>Streams a weight in another element type.</summary>
internal static class WeightConverter
{
    /// <summary>Elements per block: its floats stay below the size from which .NET's large-object heap would collect them.</summary>
    public const int BlockElements = 1 << 14;

    [ThreadStatic]
    private static float[]? _values;

    /// <summary>Refuses a weight with a NaN or an infinity: one of them spoils every output.</summary>
    /// <param name="weight">The source.</param>
    /// <param name="location">The checkpoint, for messages.</param>
    /// <exception cref="InvalidDataException">There is one.</exception>
    public static void RequireFinite(in Weight weight, string location)
    {
        long bad = WeightValues.FirstNonFinite(weight);
        if (bad < 0)
            return;
        Span<float> value = stackalloc float[1];
        WeightValues.Read(weight, bad, value, location);
        throw new InvalidDataException($"{location}: exporting tensor '{weight.Name}'; element {bad} is {value[0]}, expected finite numbers. The checkpoint is damaged; copy or download it again.");
    }

    /// <summary>Converts part of a weight; the same type is copied bit for bit.</summary>
    /// <param name="weight">The source.</param>
    /// <param name="start">First element.</param>
    /// <param name="count">Elements, at most <see cref="BlockElements"/>.</param>
    /// <param name="dtype">F32, BF16 or F16.</param>
    /// <param name="destination">Room for them; little-endian.</param>
    /// <param name="location">The checkpoint, for messages.</param>
    /// <exception cref="InvalidDataException">A number is too large for the type.</exception>
    public static unsafe void Convert(in Weight weight, long start, int count, DType dtype, Span<byte> destination, string location)
    {
        if (weight.DType == dtype)
        {
            int size = dtype.Bits() / 8;
            new ReadOnlySpan<byte>((byte*)weight.Address + start * size, count * size).CopyTo(destination);
            return;
        }
        Span<float> values = _values ??= new float[BlockElements];
        values = values[..count];
        WeightValues.Read(weight, start, values, location);
        for (int i = 0; i < values.Length; i++)
        {
            float x = values[i];
            bool fits;
            switch (dtype)
            {
                case DType.F32:
                    MemoryMarshal.Cast<byte, float>(destination)[i] = x;
                    fits = float.IsFinite(x);
                    break;
                case DType.F16:
                    Half half = (Half)x;
                    MemoryMarshal.Cast<byte, Half>(destination)[i] = half;
                    fits = Half.IsFinite(half);
                    break;
                default:
                    ushort brain = ToBFloat16(x);
                    MemoryMarshal.Cast<byte, ushort>(destination)[i] = brain;
                    fits = (brain & 0x7F80) != 0x7F80;
                    break;
            }
            if (!fits)
                throw Overflow(weight, start + i, x, dtype, location);
        }
    }

    /// <summary>Rounds to the nearest bfloat16, ties to even, as PyTorch does.</summary>
    /// <param name="x">A finite number.</param>
    /// <returns>Its bits; infinity's where it rounds beyond the largest.</returns>
    public static ushort ToBFloat16(float x)
    {
        uint bits = BitConverter.SingleToUInt32Bits(x);
        return (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    private static InvalidDataException Overflow(in Weight weight, long index, float value, DType dtype, string location)
    {
        (string largest, string advice) = dtype switch
        {
            DType.F16 => ("65504", "Export with --dtype bf16, which has f32's range."),
            DType.BF16 => ("3.39e38", "Export with --dtype f32."),
            _ => ("3.4e38", "No T5 has such a weight: the checkpoint is damaged; copy or download it again."),
        };
        return new($"{location}: exporting tensor '{weight.Name}' as {dtype.Name()}; element {index} is {value}, the largest {dtype.Name()} is {largest}. {advice}");
    }
}
