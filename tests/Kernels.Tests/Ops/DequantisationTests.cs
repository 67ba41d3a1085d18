// Codes expanded on any device, against the formula element by element.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

public abstract class DequantisationTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    [Theory]
    [InlineData(DType.I8, 3, 37, 37)]
    [InlineData(DType.I8, 5, 48, 16)]
    [InlineData(DType.U4, 3, 64, 32)]
    [InlineData(DType.U4, 5, 96, 32)]
    public void EveryElementIsItsCodeLessTheZeroPointTimesTheScale(DType type, int rows, int width, int block)
    {
        int perRow = width / block, zeroBytes = (perRow + 1) / 2;
        var random = new Random(width);
        byte[] codes = new byte[type.ByteLength((long)rows * width)], zeros = new byte[rows * zeroBytes];
        random.NextBytes(codes);
        random.NextBytes(zeros);
        float[] scales = Normal(rows * perRow, 1);
        bool isU4 = type == DType.U4;
        Tensor x = Upload(codes, DType.U8) with { DType = type, Elements = (long)rows * width };
        x = x with { Scales = new BlockScales(Upload(scales).Address, isU4 ? Upload(zeros, DType.U8).Address : 0, width, block) };
        Tensor y = Empty((long)rows * width);
        Dequantisation.Forward(Device, x, y);
        float[] expected = new float[rows * width];
        for (int i = 0; i < expected.Length; i++)
        {
            int row = i / width, at = i % width / block;
            int code = isU4 ? (codes[i / 2] >> i % 2 * 4 & 15) - (zeros[row * zeroBytes + at / 2] >> at % 2 * 4 & 15) : (sbyte)codes[i];
            expected[i] = code * scales[row * perRow + at];
        }
        // One rounding of an exact difference: the same bits everywhere.
        TensorAssert.SameBits(expected, Download(y), $"{type} [{rows}, {width}] in blocks of {block}");
    }

    [Fact]
    public void WhatIsNoMatrixOfCodesIsNamed()
    {
        Tensor x = Upload(new float[6]), y = Upload(new float[6]);
        Assert.StartsWith("Dequantisation.Forward: found f32 [6] with no scales, expected i8 or u4 with scales for whole rows.", Assert.Throws<ArgumentException>(() => Dequantisation.Forward(Device, x, y)).Message);
    }
}

public sealed class CpuDequantisationTests : DequantisationTests<CpuTestDevice>;
