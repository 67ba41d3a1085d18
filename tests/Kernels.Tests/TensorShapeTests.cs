using Xunit;

namespace IptNative.Kernels.Tests;

public sealed class TensorShapeTests
{
    [Fact]
    public void ElementsOverflowIsAnError() =>
        Assert.Throws<OverflowException>(() => new TensorShape(1L << 40, 1L << 40).Elements);

    [Theory]
    [InlineData(DType.F32, 3, 12)]
    [InlineData(DType.BF16, 3, 6)]
    [InlineData(DType.I4, 3, 2)]
    public void ByteLengthRoundsUp(DType type, long elements, long bytes) => Assert.Equal(bytes, type.ByteLength(elements));
}
