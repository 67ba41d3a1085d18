// Rounding to bfloat16 from its definition: the nearer of two neighbours, the even one at a tie. Deliberately without the bit trick that it tests.
namespace IptNative.Kernels.Tests.MachineCode;

public static class BF16Reference
{
    private const double SmallestNormal = 1.1754943508222875e-38;

    /// <summary>The nearest bfloat16; infinity where the next one beyond the largest would be as near.</summary>
    public static float Round(float value)
    {
        if (float.IsNaN(value) || float.IsInfinity(value))
            return value;
        uint below = BitConverter.SingleToUInt32Bits(Math.Abs(value)) & 0xFFFF_0000;
        double lower = Magnitude(below), upper = Magnitude(below + 0x1_0000), x = Math.Abs((double)value);
        bool up = x - lower > upper - x || (x - lower == upper - x && (below & 0x1_0000) != 0);
        return MathF.CopySign(BitConverter.UInt32BitsToSingle(up ? below + 0x1_0000 : below), value);
    }

    /// <summary>What a bf16 product multiplies: rounded, subnormals zero.</summary>
    public static float Operand(float value)
    {
        float rounded = Round(value);
        return Math.Abs(rounded) < SmallestNormal ? MathF.CopySign(0, rounded) : rounded;
    }

    // Infinity's place as if the exponent went on.
    private static double Magnitude(uint bits) => bits == 0x7F80_0000 ? Math.ScaleB(1, 128) : BitConverter.UInt32BitsToSingle(bits);
}
