// Rounding of float32 to bfloat16: nearest, ties to even, overflow to infinity, NaN kept. Reading bfloat16 needs none: it is exact (Widening.cs).
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace IptNative.Kernels.Cpu;

/// <summary>bfloat16 as the upper half of a float32.</summary>
internal static unsafe class BF16Bits
{
    private const uint QuietBit = 0x0040_0000;
    private const uint Half = 0x7FFF;
    private const uint Magnitude = 0x7FFF_FFFF;
    private const uint SmallestNormal = 0x0080_0000;

    /// <summary>The rounded value. Half of the last kept bit is added, less one where that bit is 0; NaN must not carry into infinity.</summary>
    public static ushort Round(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value) ? (ushort)((bits | QuietBit) >> 16) : (ushort)((bits + Half + ((bits >> 16) & 1)) >> 16);
    }

    /// <summary>Rounds <paramref name="n"/> values.</summary>
    [MethodImpl(Jit.Loop)]
    public static void Round(float* x, ushort* y, long n)
    {
        long i = 0;
        for (; i <= n - Vector<ushort>.Count; i += Vector<ushort>.Count)
            Vector.Narrow(RoundUpper((uint*)x + i) >> 16, RoundUpper((uint*)x + i + Vector<uint>.Count) >> 16).Store(y + i);
        for (; i < n; i++)
            y[i] = Round(x[i]);
    }

    /// <summary>16 rounded values in the upper halves; the lower halves hold rubbish.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> RoundUpper(Vector512<float> value)
    {
        Vector512<uint> bits = value.AsUInt32();
        Vector512<uint> rounded = bits + Vector512.Create(Half) + ((bits >> 16) & Vector512<uint>.One);
        return Vector512.ConditionalSelect(Vector512.Equals(value, value).AsUInt32(), rounded, bits | Vector512.Create(QuietBit));
    }

    /// <summary>Makes floats what an operand of a bf16 product is: rounded, and subnormals zero of their sign, as VDPBF16PS takes them.</summary>
    [MethodImpl(Jit.Loop)]
    public static void ToOperandInPlace(float* x, long n)
    {
        uint* bits = (uint*)x;
        long i = 0;
        for (; i <= n - Vector<uint>.Count; i += Vector<uint>.Count)
        {
            Vector<uint> rounded = RoundUpper(bits + i) & new Vector<uint>(0xFFFF_0000);
            Vector<uint> isNormal = Vector.GreaterThanOrEqual(rounded & new Vector<uint>(Magnitude), new Vector<uint>(SmallestNormal));
            (rounded & (isNormal | new Vector<uint>(~Magnitude))).Store(bits + i);
        }
        for (; i < n; i++)
            bits[i] = ToOperand(x[i]);
    }

    // As many rounded values as a vector holds, in the upper halves; the lower halves hold rubbish.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<uint> RoundUpper(uint* bits)
    {
        Vector<uint> v = Vector.Load(bits);
        Vector<uint> rounded = v + new Vector<uint>(Half) + ((v >> 16) & Vector<uint>.One);
        Vector<uint> isNumber = Vector.LessThanOrEqual(v & new Vector<uint>(Magnitude), new Vector<uint>(0x7F80_0000));
        return Vector.ConditionalSelect(isNumber, rounded, v | new Vector<uint>(QuietBit));
    }

    private static uint ToOperand(float value)
    {
        uint rounded = (uint)Round(value) << 16;
        return (rounded & Magnitude) < SmallestNormal ? rounded & ~Magnitude : rounded;
    }
}
