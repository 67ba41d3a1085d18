using System.Buffers.Binary;
using System.Text;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using Xunit;

namespace IptNative.Model.Tests.Checkpoints;

public sealed class SafetensorsFileTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private static byte[] File(string header, int dataBytes, ulong? length = null)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        var bytes = new byte[8 + json.Length + dataBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, length ?? (ulong)json.Length);
        json.CopyTo(bytes, 8);
        for (int i = 0; i < dataBytes; i++)
            bytes[8 + json.Length + i] = (byte)i;
        return bytes;
    }

    private SafetensorsFile Open(byte[] bytes) => SafetensorsFile.Open(_folder.Write("x.safetensors", bytes));

    private const string A = """ "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]} """;

    [Fact]
    public void TensorsAndMetadataAreRead()
    {
        using SafetensorsFile file = Open(File("""{"__metadata__":{"format":"pt","x":"é"},"b":{"dtype":"BF16","shape":[1,3],"data_offsets":[8,14]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"e":{"dtype":"I64","shape":[0,7],"data_offsets":[8,8]},"s":{"shape":[],"data_offsets":[14,15],"dtype":"U8","more":[{"x":1}]}}   """, 15));
        Assert.Equal(["b", "a", "e", "s"], file.Names);
        Assert.Equal("é", file.Metadata["x"]);
        Assert.Equal(new TensorInfo("b", "BF16", DType.BF16, new TensorShape(1, 3)), file.Describe("b"));
        Assert.Equal([8, 9, 10, 11, 12, 13], file["b"].Bytes());
        Assert.Equal(0, file["e"].ByteLength);
        Assert.Equal([14], file["s"].Bytes());
        Assert.Equal(1, file["s"].Shape.Elements);
    }

    [Fact]
    public void UnalignedTensorsAreCopiedAligned()
    {
        // A header of a length that is no multiple of 4: files from before the format asked for padding.
        foreach (string pad in (string[])["", " ", "  ", "   "])
        {
            using SafetensorsFile file = Open(File("{" + A + "}" + pad, 8));
            Weight a = file["a"];
            Assert.Equal(0, a.Address % 4);
            Assert.Equal([0, 1, 2, 3, 4, 5, 6, 7], a.Bytes());
        }
    }

    [Fact]
    public void UnknownNamesNameTheNearest()
    {
        using SafetensorsFile file = Open(File("{" + A + "}", 8));
        Assert.Contains("tensor 'b' is missing; there is 1 tensor, the nearest name is 'a'", WeightExtensions.Message(() => _ = file["b"]), StringComparison.Ordinal);
    }

    [Fact]
    public void HeaderLengthIsCheckedBeforeAnythingElse()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Contains("the header claims 1152921504606846976 bytes", WeightExtensions.Message(() => Open(File("{}", 0, 1UL << 60))), StringComparison.Ordinal);
        Assert.Contains("the header claims 18446744073709551615 bytes", WeightExtensions.Message(() => Open(File("{}", 0, ulong.MaxValue))), StringComparison.Ordinal);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
        Assert.Contains("the file has 3 bytes", WeightExtensions.Message(() => Open([1, 2, 3])), StringComparison.Ordinal);
        Assert.Contains("found an empty file", WeightExtensions.Message(() => Open([])), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", "'a' stands there twice")]
    [InlineData("""{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", "dtype stands there twice")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}}""", "expected a range inside the 8 bytes")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}""", "expected a range inside")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}""", "whole numbers of 0 or more")]
    [InlineData("""{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""", "imply 12")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}""", "whole numbers")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}""", "more than 64 bits")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,8]}}""", "more than 64 bits")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "the tensors take 4 bytes of data, the file has 8")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", "leave a hole")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", "overlap")]
    [InlineData("""{"a":{"dtype":"X32","shape":[2],"data_offsets":[0,8]}}""", "dtype 'X32'")]
    [InlineData("""{"a":{"shape":[2],"data_offsets":[0,8]}}""", "lacks dtype")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}}""", "more than 2 numbers")]
    [InlineData("""{"a":[]}""", "expected an object")]
    [InlineData("""{"__metadata__":{"x":1}}""", "expected text")]
    [InlineData("""{"__metadata__":{"x":"1","x":"2"}}""", "stands there twice")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}""", "broken JSON")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} {}""", "broken JSON")]
    [InlineData("""[]""", "does not start with '{'")]
    [InlineData("""{"a":{"x":[[[[[[[[[[1]]]]]]]]]],"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", "broken JSON")]
    public void LiesAreRefused(string header, string reason) =>
        Assert.Contains(reason, WeightExtensions.Message(() => Open(File(header, 8))), StringComparison.Ordinal);

    [Fact]
    public void TypesThatAreNotReadAreListed()
    {
        using SafetensorsFile file = Open(File("""{"a":{"dtype":"U16","shape":[4],"data_offsets":[0,8]}}""", 8));
        Assert.Null(file.Describe("a").DType);
        Assert.Contains("its elements are U16", WeightExtensions.Message(() => _ = file["a"]), StringComparison.Ordinal);
    }

    [Fact]
    public void WriterWritesWhatTheReaderReads()
    {
        string path = _folder.File("w.safetensors");
        using (SafetensorsFile source = Open(File("""{"h":{"dtype":"F16","shape":[3],"data_offsets":[0,6]},"i":{"dtype":"BOOL","shape":[2],"data_offsets":[6,8]}}""", 8)))
        {
            new SafetensorsWriter().Add(source["i"]).Add(source["h"]).Add("p", new TensorShape(3, 1), new float[] { 1, -2, 3.5f }).WithMetadata("by", "IptNative").Save(path);
        }
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.Equal(["p", "h", "i"], file.Names);
        Assert.Equal("pt", file.Metadata["format"]);
        Assert.Equal("IptNative", file.Metadata["by"]);
        Assert.Equal([1f, -2, 3.5f], file.ReadFloats("p"));
        Assert.Equal([0, 1, 2, 3, 4, 5], file["h"].Bytes());
        Assert.Equal(DType.Bool, file["i"].DType);
        Assert.Equal(0, BinaryPrimitives.ReadInt64LittleEndian(System.IO.File.ReadAllBytes(path)) % 8);
    }

    [Fact]
    public void WriterRefusesWrongCountsAndLeavesTheOldFile()
    {
        Assert.Contains("shape [2, 2] expects 4", Assert.Throws<ArgumentException>(() => new SafetensorsWriter().Add("a", new TensorShape(2, 2), new float[3])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new SafetensorsWriter().Add("a", new TensorShape(1), new float[1]).Add("a", new TensorShape(1), new float[1]));

        string path = _folder.Write("old.txt", "old"u8);
        Assert.Throws<InvalidOperationException>(() => AtomicFile.Write(path, s =>
        {
            s.WriteByte(1);
            throw new InvalidOperationException("disk");
        }));
        Assert.Equal("old", System.IO.File.ReadAllText(path));
        Assert.Equal([path], Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void ReplacedFilesAreNoticed()
    {
        using SafetensorsFile file = Open(File("{" + A + "}", 8));
        Assert.False(file.HasChanged);
        new SafetensorsWriter().Save(file.Path);
        Assert.True(file.HasChanged);
        // The map still shows the file that was opened.
        Assert.Equal([0, 1, 2, 3, 4, 5, 6, 7], file["a"].Bytes());
    }
}
