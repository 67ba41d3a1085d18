using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using Xunit;

namespace IptNative.Model.Tests.Checkpoints;

public sealed class TorchFileTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private static byte[] Floats(int count) => MemoryMarshal.AsBytes<float>(Enumerable.Range(0, count).Select(i => (float)i).ToArray()).ToArray();

    private TorchFile Open(PickleMaker pickle, params (string, byte[])[] storages) => TorchFile.Open(_folder.Write("t.bin", pickle.Zip(storages)));

    [Fact]
    public void StridesOffsetsAndSharedStoragesAreLaidOut()
    {
        // One storage of 24: a transposed view, an offset view, a step view, a repeated row, a scalar, and the whole.
        PickleMaker p = new PickleMaker().Op("}(")
            .Text("whole").Tensor("FloatStorage", "0", 24, 0, [4, 6], [6, 1])
            .Text("transposed").Tensor("FloatStorage", "0", 24, 0, [6, 4], [1, 6])
            .Text("row2").Tensor("FloatStorage", "0", 24, 12, [6], [1])
            .Text("step").Tensor("FloatStorage", "0", 24, 1, [2, 3], [12, 2])
            .Text("repeated").Tensor("FloatStorage", "0", 24, 6, [3, 2], [0, 1])
            .Text("scalar").Tensor("FloatStorage", "0", 24, 23, [], [])
            .Text("empty").Tensor("FloatStorage", "0", 24, 24, [0, 1L << 40], [1L << 40, 1])
            .Text("one").Tensor("FloatStorage", "0", 24, 5, [1, 1], [999, 77])
            .Op("u");
        using TorchFile file = Open(p, ("0", Floats(24)));

        Assert.Equal(["whole", "transposed", "row2", "step", "repeated", "scalar", "empty", "one"], file.Names);
        Assert.Equal(Enumerable.Range(0, 24).Select(i => (float)i), file.ReadFloats("whole"));
        Assert.Equal(Enumerable.Range(0, 24).Select(i => (float)(i % 4 * 6 + i / 4)), file.ReadFloats("transposed"));
        Assert.Equal([12f, 13, 14, 15, 16, 17], file.ReadFloats("row2"));
        Assert.Equal([1f, 3, 5, 13, 15, 17], file.ReadFloats("step"));
        Assert.Equal([6f, 7, 6, 7, 6, 7], file.ReadFloats("repeated"));
        Assert.Equal([23f], file.ReadFloats("scalar"));
        Assert.Empty(file.ReadFloats("empty"));
        Assert.Equal([5f], file.ReadFloats("one"));

        // Contiguous views are the mapped bytes themselves; a copy is made once and given back.
        Assert.Equal(file["whole"].Address + 48, file["row2"].Address);
        Assert.Equal(file["transposed"].Address, file["transposed"].Address);
        file.Release("transposed");
        Assert.Equal([0f, 6, 12], file.ReadFloats("transposed")[..3]);
        file.VerifyChecksums();
    }

    [Theory]
    [InlineData("HalfStorage", DType.F16, 2)]
    [InlineData("BFloat16Storage", DType.BF16, 2)]
    [InlineData("DoubleStorage", DType.F64, 8)]
    [InlineData("LongStorage", DType.I64, 8)]
    [InlineData("IntStorage", DType.I32, 4)]
    [InlineData("CharStorage", DType.I8, 1)]
    [InlineData("ByteStorage", DType.U8, 1)]
    [InlineData("BoolStorage", DType.Bool, 1)]
    public void EveryStorageTypeHasItsDType(string storage, DType type, int size)
    {
        using TorchFile file = Open(new PickleMaker().Op("}").Text("x").Tensor(storage, "0", 6, 0, [3, 2], [1, 3]).Op("s"), ("0", Enumerable.Range(0, 6 * size).Select(i => (byte)i).ToArray()));
        Weight w = file["x"];
        Assert.Equal(type, w.DType);
        // Row-major element 1 is stored element 3.
        Assert.Equal(Enumerable.Range(3 * size, size).Select(i => (byte)i), w.Bytes()[size..(2 * size)]);
    }

    [Fact]
    public void ShortsAreListedButNotRead()
    {
        using TorchFile file = Open(new PickleMaker().Op("}").Text("x").Tensor("ShortStorage", "0", 2, 0, [2], [1]).Op("s"), ("0", new byte[4]));
        Assert.Null(file.Describe("x").DType);
        Assert.Contains("tensor 'x'; its elements are torch.ShortStorage", WeightExtensions.Message(() => _ = file["x"]), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(new long[] { 5 }, new long[] { 1 }, 0, "leaves its storage")]
    [InlineData(new long[] { 4 }, new long[] { 1 }, 1, "leaves its storage")]
    [InlineData(new long[] { 4 }, new long[] { 1 }, -1, "leaves its storage")]
    [InlineData(new long[] { 2 }, new long[] { -1 }, 3, "below 0")]
    [InlineData(new long[] { -2 }, new long[] { 1 }, 0, "below 0")]
    [InlineData(new long[] { 1L << 40 }, new long[] { 0 }, 0, "repeats 4 stored elements")]
    [InlineData(new long[] { 1L << 40, 1L << 40 }, new long[] { 0, 0 }, 0, "more than 64 bits")]
    [InlineData(new long[] { 2 }, new long[] { long.MaxValue }, 2, "more than 64 bits")]
    [InlineData(new long[] { 2, 2 }, new long[] { 1 }, 0, "wrong arguments")]
    public void ViewsThatLeaveTheStorageAreRefused(long[] size, long[] stride, long offset, string reason)
    {
        string message = WeightExtensions.Message(() => Open(new PickleMaker().Op("}").Text("x").Tensor("FloatStorage", "0", 4, offset, size, stride).Op("s"), ("0", Floats(4))));
        Assert.Contains(reason, message, StringComparison.Ordinal);
    }

    [Fact]
    public void StoragesThatContradictTheZipAreRefused()
    {
        PickleMaker Tensor(string key, long numel, string type = "FloatStorage") => new PickleMaker().Op("}").Text("x").Tensor(type, key, numel, 0, [1], [1]).Op("s");
        Assert.Contains("no entry 'archive/data/9'", WeightExtensions.Message(() => Open(Tensor("9", 4), ("0", Floats(4)))), StringComparison.Ordinal);
        Assert.Contains("its entry has 16 bytes", WeightExtensions.Message(() => Open(Tensor("0", 5), ("0", Floats(4)))), StringComparison.Ordinal);
        Assert.Contains("its entry has 16 bytes", WeightExtensions.Message(() => Open(Tensor("0", 1L << 62), ("0", Floats(4)))), StringComparison.Ordinal);
        Assert.Contains("its entry has 16 bytes", WeightExtensions.Message(() => Open(Tensor("0", 4, "DoubleStorage"), ("0", Floats(4)))), StringComparison.Ordinal);
        PickleMaker twoTypes = new PickleMaker().Op("}(").Text("x").Tensor("FloatStorage", "0", 4, 0, [1], [1]).Text("y").Tensor("IntStorage", "0", 4, 0, [1], [1]).Op("u");
        Assert.Contains("as torch.FloatStorage and as torch.IntStorage", WeightExtensions.Message(() => Open(twoTypes, ("0", Floats(4)))), StringComparison.Ordinal);
    }

    [Fact]
    public void TrainingCheckpointsAreATreeAndAStateDict()
    {
        PickleMaker p = new PickleMaker().Op("}(")
            .Text("global_step").Int(1200)
            .Text("best_accuracy").Op((byte)'G', 0x3f, 0xe8, 0, 0, 0, 0, 0, 0)
            .Text("model").Global("collections", "OrderedDict").Op(")R(").Text("prompt_W1.weight").Tensor("FloatStorage", "0", 4, 0, [2, 2], [1, 2]).Op("u")
            .Text("optimizer").Op("}(").Text("state").Op("}").Int(0).Op("}").Text("exp_avg").Tensor("FloatStorage", "0", 4, 0, [4], [1]).Op("ss").Text("param_groups").Op("]").Op("u")
            .Op("u");
        using TorchFile file = Open(p, ("0", Floats(4)));
        Assert.Equal(["prompt_W1.weight"], file.Names);
        var root = Assert.IsType<TorchDict>(file.Root);
        Assert.True(root.TryGet("global_step", out object? step));
        Assert.Equal(1200L, step);
        Assert.True(root.TryGet("best_accuracy", out object? accuracy));
        Assert.Equal(0.75, accuracy);
        Assert.True(root.TryGet("optimizer", out object? optimizer) && ((TorchDict)optimizer!).TryGet("state", out object? state) && ((TorchDict)state!).TryGet(0L, out object? first)
            && ((TorchDict)first!).TryGet("exp_avg", out object? moment) && file.ReadFloats((TorchTensor)moment!) is [0f, 1f, 2f, 3f]);
    }

    [Fact]
    public void NestedDictsAreNamedWithDotsAndABareTensorByItself()
    {
        using (TorchFile nested = Open(new PickleMaker().Op("}").Text("a").Op("}").Text("b").Tensor("FloatStorage", "0", 1, 0, [1], [1]).Op("ss"), ("0", Floats(1))))
            Assert.Equal(["a.b"], nested.Names);
        using TorchFile bare = Open(new PickleMaker().Tensor("FloatStorage", "0", 4, 0, [2, 2], [2, 1]), ("0", Floats(4)));
        Assert.Equal([TorchFile.BareTensor], bare.Names);
    }

    [Fact]
    public void ParametersAreTensors()
    {
        using TorchFile file = Open(
            new PickleMaker().Op("}").Text("w").Global("torch._utils", "_rebuild_parameter").Op("(").Tensor("FloatStorage", "0", 2, 0, [2], [1]).Op(0x88).Global("collections", "OrderedDict").Op(")RtRs"), ("0", Floats(2)));
        Assert.Equal([0f, 1f], file.ReadFloats("w"));
    }

    [Fact]
    public void AutoencoderOfTheFixtureEqualsItsSafetensors()
    {
        using TensorFile pt = TensorFile.Open(TempFolder.Golden("ae.pt"));
        using TensorFile safetensors = TensorFile.Open(TempFolder.Golden("ae.safetensors"));
        Assert.Equal(safetensors.Names.Order(), pt.Names.Order());
        foreach (string name in pt.Names)
        {
            Assert.Equal(safetensors[name].Shape, pt[name].Shape);
            Assert.Equal(safetensors[name].Bytes(), pt[name].Bytes());
        }
    }

    [Fact]
    public void BigEndianFilesAreRefused()
    {
        byte[] zip = new ZipMaker().Add("a/data.pkl", new PickleMaker().Op("}").Build()).Add("a/byteorder", "big"u8.ToArray()).Build();
        Assert.Contains("its byte order is not 'little'", WeightExtensions.Message(() => TorchFile.Open(_folder.Write("big.bin", zip))), StringComparison.Ordinal);
        byte[] little = new ZipMaker().Add("a/data.pkl", new PickleMaker().Op("}").Build()).Add("a/byteorder", "little"u8.ToArray()).Build();
        using TorchFile file = TorchFile.Open(_folder.Write("little.bin", little));
        Assert.Empty(file.Names);
    }

    [Theory]
    [InlineData(new byte[] { 0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e, 0x80, 2, 0x4d, 0xe9, 3, 0x2e }, "PyTorch before 1.6")]
    [InlineData(new byte[] { 0x80, 4, 0x4e, 0x2e }, "a bare pickle")]
    [InlineData(new byte[] { 0x89, (byte)'H', (byte)'D', (byte)'F', 13, 10, 26, 10 }, "HDF5")]
    [InlineData(new byte[] { 1, 2, 3 }, "no zip directory in 3 bytes")]
    [InlineData(new byte[0], "found an empty file")]
    public void OtherFormatsAreNamed(byte[] bytes, string reason) =>
        Assert.Contains(reason, WeightExtensions.Message(() => TorchFile.Open(_folder.Write("x.bin", bytes))), StringComparison.Ordinal);

    [Fact]
    public void LegacyFormatsSayHowToConvert()
    {
        var tar = new byte[1024];
        "ustar"u8.CopyTo(tar.AsSpan(257));
        string message = WeightExtensions.Message(() => TorchFile.Open(_folder.Write("tar.bin", tar)));
        Assert.Contains("a tar archive", message, StringComparison.Ordinal);
        Assert.Contains("torch.save(torch.load(", message, StringComparison.Ordinal);
        string pointer = WeightExtensions.Message(() => TorchFile.Open(_folder.Write("lfs.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 990345061\n"u8)));
        Assert.Contains("git lfs pull", pointer, StringComparison.Ordinal);
    }
}
