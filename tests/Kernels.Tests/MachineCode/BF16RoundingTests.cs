// Rounding to bfloat16, scalar, by vector and in place, against its definition.
using System.Runtime.Intrinsics;
using IptNative.Kernels.Cpu;
using Xunit;

namespace IptNative.Kernels.Tests.MachineCode;

public sealed unsafe class BF16RoundingTests
{
    [Fact]
    public void RoundsToTheNearestAndToTheEvenOfTwo()
    {
        Assert.Equal(0x3F80, BF16Bits.Round(1f));
        // 1 + 2^-8 lies half way between 1 and 1 + 2^-7: to the even one; the next float above it goes up.
        Assert.Equal(0x3F80, BF16Bits.Round(1 + 1f / 256));
        Assert.Equal(0x3F81, BF16Bits.Round(MathF.BitIncrement(1 + 1f / 256)));
        Assert.Equal(0x3F82, BF16Bits.Round(1 + 3f / 256));
        Assert.Equal(0x7F80, BF16Bits.Round(float.MaxValue));
        Assert.Equal(0xFF80, BF16Bits.Round(float.NegativeInfinity));
        Assert.Equal(0x7FC0, BF16Bits.Round(BitConverter.UInt32BitsToSingle(0x7F80_0001)));
        Assert.Equal(0x8000, BF16Bits.Round(-0f));
    }

    [Fact]
    public void AllWaysAgreeWithTheDefinition()
    {
        var random = new Random(11);
        var values = new float[16 * 4099];
        for (int i = 0; i < values.Length; i++)
        {
            uint bits = (uint)random.NextInt64(1L << 32);
            // Ties and their neighbours are rare among random bits; subnormals, infinities and NaN as well.
            bits = (i % 5) switch { 0 => (bits & 0xFFFF_0000) | 0x8000, 1 => (bits & 0xFFFF_0000) | 0x7FFF, 2 => bits & 0x80FF_FFFF, 3 => bits | 0x7F80_0000, _ => bits };
            values[i] = BitConverter.UInt32BitsToSingle(bits);
        }
        float[] inPlace = [.. values];
        fixed (float* x = inPlace)
            BF16Bits.ToOperandInPlace(x, values.Length - 3);
        for (int i = 0; i < values.Length; i++)
        {
            uint expected = Bits(BF16Reference.Round(values[i]));
            AssertSame(expected, (uint)BF16Bits.Round(values[i]) << 16, values[i]);
            AssertSame(expected, BF16Bits.RoundUpper(Vector512.Create(values[i]))[i % 16] & 0xFFFF_0000, values[i]);
            AssertSame(i < values.Length - 3 ? Bits(BF16Reference.Operand(values[i])) : Bits(values[i]), Bits(inPlace[i]), values[i]);
        }
    }

    private static uint Bits(float value) => BitConverter.SingleToUInt32Bits(value);

    private static void AssertSame(uint expected, uint actual, float of)
    {
        bool bothNaN = float.IsNaN(BitConverter.UInt32BitsToSingle(expected)) && float.IsNaN(BitConverter.UInt32BitsToSingle(actual));
        if (expected != actual && !bothNaN)
            Assert.Fail($"{Bits(of):x8}: expected {expected:x8}, actual {actual:x8}");
    }
}
