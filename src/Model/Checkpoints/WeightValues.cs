// What a stored tensor's numbers are: as floats, and whether they are finite. Deliberately not: fast conversion for kernels.
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using IptNative.Kernels;

namespace IptNative.Model.Checkpoints;

/// <summary>Reads and checks the values of a <see cref="Weight"/>.</summary>
internal static unsafe class WeightValues
{
    /// <summary>Values as floats.</summary>
    /// <exception cref="InvalidDataException">Not a floating-point tensor, or too large for one array.</exception>
    public static float[] ToFloats(Weight w, string path)
    {
        long n = w.Shape.Elements;
        if (n > Array.MaxLength)
            throw new InvalidDataException($"{path}: tensor '{w.Name}' has {n} elements, expected at most {Array.MaxLength}.");
        var values = new float[n];
        Read(w, 0, values, path);
        return values;
    }

    /// <summary>Part of the values as floats; codes are expanded as the kernels expand them.</summary>
    /// <param name="w">The tensor.</param>
    /// <param name="start">First element.</param>
    /// <param name="values">Filled.</param>
    /// <param name="path">For messages.</param>
    /// <exception cref="InvalidDataException">Not a floating-point tensor, and no codes with scales.</exception>
    public static void Read(in Weight w, long start, Span<float> values, string path)
    {
        switch (w.DType)
        {
            case DType.F32:
                new ReadOnlySpan<float>((float*)w.Address + start, values.Length).CopyTo(values);
                break;
            case DType.F16:
                var halves = (Half*)w.Address + start;
                for (int i = 0; i < values.Length; i++)
                    values[i] = (float)halves[i];
                break;
            case DType.BF16:
                var upper = (ushort*)w.Address + start;
                for (int i = 0; i < values.Length; i++)
                    values[i] = BitConverter.UInt32BitsToSingle((uint)upper[i] << 16);
                break;
            case DType.F64:
                var doubles = (double*)w.Address + start;
                for (int i = 0; i < values.Length; i++)
                    values[i] = (float)doubles[i];
                break;
            case DType.I8 or DType.U4 when w.Scales.IsPresent:
                ReadCodes(w, start, values);
                break;
            default:
                throw new InvalidDataException($"{path}: tensor '{w.Name}' is {w.DType.Name()}, expected f32, f16, bf16, f64, or codes with scales in a package.");
        }
    }

    /// <summary>Index of the first NaN or infinity, -1 where there is none or the type has none.</summary>
    /// <remarks>Codes are always finite: their scales are searched, and the first element of the block is told.</remarks>
    public static long FirstNonFinite(Weight w)
    {
        long n = w.Shape.Elements;
        if (w.Scales.IsPresent)
        {
            long block = First((uint*)w.Scales.Address, n / w.Scales.Block, 0x7f80_0000u);
            return block < 0 ? block : block * w.Scales.Block;
        }
        return w.DType switch
        {
            DType.F32 => First((uint*)w.Address, n, 0x7f80_0000u),
            DType.F16 => First((ushort*)w.Address, n, (ushort)0x7c00),
            DType.BF16 => First((ushort*)w.Address, n, (ushort)0x7f80),
            DType.F64 => First((ulong*)w.Address, n, 0x7ff0_0000_0000_0000ul),
            _ => -1,
        };
    }

    private static void ReadCodes(in Weight w, long start, Span<float> values)
    {
        float* scales = (float*)w.Scales.Address;
        byte* zeros = (byte*)w.Scales.ZeroPoints;
        long block = w.Scales.Block, perRow = w.Scales.PerRow, zeroBytes = w.Scales.ZeroPointBytesPerRow;
        for (int i = 0; i < values.Length; i++)
        {
            long at = start + i, b = at / block;
            int code = w.DType == DType.I8 ? ((sbyte*)w.Address)[at] : Nibble((byte*)w.Address, at);
            if (zeros != null)
                code -= Nibble(zeros + b / perRow * zeroBytes, b % perRow);
            values[i] = code * scales[b];
        }
    }

    private static int Nibble(byte* row, long index) => (row[index >> 1] >> (int)((index & 1) << 2)) & 15;

    // All exponent bits set means NaN or infinity. Whole chunks are tested at once; only a chunk that has one is searched.
    private static long First<T>(T* values, long n, T exponent)
        where T : unmanaged, IBinaryInteger<T>
    {
        const int Chunk = 1 << 20;
        for (long start = 0; start < n; start += Chunk)
        {
            var span = new ReadOnlySpan<T>(values + start, (int)Math.Min(Chunk, n - start));
            if (!Any(span, exponent))
                continue;
            for (int i = 0; i < span.Length; i++)
            {
                if ((span[i] & exponent) == exponent)
                    return start + i;
            }
        }
        return -1;
    }

    // Few calls over many bytes: without the attribute the first checkpoint of a process is searched in the slow tier.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool Any<T>(ReadOnlySpan<T> span, T exponent)
        where T : unmanaged, IBinaryInteger<T>
    {
        ref T first = ref MemoryMarshal.GetReference(span);
        var mask = new Vector<T>(exponent);
        int i = 0;
        for (; i <= span.Length - Vector<T>.Count; i += Vector<T>.Count)
        {
            Vector<T> v = Unsafe.ReadUnaligned<Vector<T>>(ref Unsafe.As<T, byte>(ref Unsafe.Add(ref first, i)));
            if (Vector.EqualsAny(v & mask, mask))
                return true;
        }
        for (; i < span.Length; i++)
        {
            if ((span[i] & exponent) == exponent)
                return true;
        }
        return false;
    }
}
