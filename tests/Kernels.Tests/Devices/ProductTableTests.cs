// Which kernel multiplies: by a word, or by a table that was measured.
using IptNative.Kernels.Devices;
using Xunit;

namespace IptNative.Kernels.Tests.Devices;

public sealed class ProductTableTests : IDisposable
{
    private readonly string _path = Path.GetTempFileName();

    private static readonly ProductShape Small = new(8, 128, 64, 1, false, true, DType.BF16, ComputeType.BF16), Large = new(4096, 4096, 1024, 2, true, false, DType.F32, ComputeType.F32);

    public void Dispose() => File.Delete(_path);

    [Theory]
    [InlineData(null, false)]
    [InlineData("", false)]
    [InlineData("cublas", false)]
    [InlineData("own", true)]
    public void WordsDecideForAllShapes(string? word, bool own)
    {
        Assert.Equal(own, ProductTable.Parse(word).PrefersOwn(Small));
        Assert.Equal(own, ProductTable.Parse(word).PrefersOwn(Large));
    }

    [Fact]
    public void AMeasuredShapeIsTheFasterOnesAndAnotherTheLibrarys()
    {
        ProductTable.Write(_path, [new(Small, 12e-6, 9.5e-6), new(Large, 1e-3, 2e-3)]);
        ProductTable table = ProductTable.Parse(_path);
        Assert.True(table.PrefersOwn(Small));
        Assert.False(table.PrefersOwn(Large));
        foreach (ProductShape other in (ProductShape[])[Small with { M = 9 }, Small with { TransB = false }, Small with { B = DType.F32 }, Small with { Compute = ComputeType.F32 }, Small with { Batches = 2 }])
            Assert.False(table.PrefersOwn(other), $"{other}");
    }

    [Theory]
    [InlineData("8 128 64 1 A B^T bf16 BF16 12.00")]
    [InlineData("8 128 64 1 A B^T bf16 BF16 12.00 -1")]
    [InlineData("8 128 0 1 A B^T bf16 BF16 12.00 9.50")]
    [InlineData("8 128 64 1 B B^T bf16 BF16 12.00 9.50")]
    [InlineData("8 128 64 1 A B^T half BF16 12.00 9.50")]
    public void ALineThatIsNoneIsNamed(string line)
    {
        File.WriteAllLines(_path, ["# a comment", "", line]);
        Assert.Equal($"{_path}: line 3 is '{line}', expected 10 columns: M N K batches A B stored compute cublas_us own_us. Measure the table again.", Assert.Throws<InvalidDataException>(() => ProductTable.Parse(_path)).Message);
    }

    [Fact]
    public void WhatIsNeitherAWordNorAFileIsNamed() =>
        Assert.Equal("IPTNATIVE_GPU_PRODUCTS: found 'fastest', expected cublas, own, or a file of 'iptnative profile --device cuda --products FILE'.", Assert.Throws<InvalidDataException>(() => ProductTable.Parse("fastest")).Message);

    [Fact]
    public void WithOneWayToMultiplyThereIsNothingToMeasure()
    {
        using var cpu = new CpuDevice(1);
        Assert.False(ProductTuning.HasChoice(cpu));
        Assert.Contains("found cpu without NVIDIA's library", Assert.Throws<NotSupportedException>(() => ProductTuning.Measure(cpu, [Small], TestContext.Current.CancellationToken)).Message);
    }
}
