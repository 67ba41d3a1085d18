using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using Xunit;

namespace IptNative.Model.Tests.Checkpoints;

/// <summary>Damage of every kind, over whole files: a message or a consistent reading, never a crash.</summary>
public sealed class DamagedFileTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("model.safetensors")]
    [InlineData("pytorch_model.bin")]
    [InlineData("ae.pt")]
    [InlineData("prompt.npy")]
    public void TruncationAtAnyByteIsNoticed(string golden)
    {
        string path = _folder.Copy(golden);
        long length = new FileInfo(path).Length;
        for (long keep = length - 1; keep >= 0; keep -= keep == length - 1 ? keep % 97 : 97)
        {
            using (FileStream file = File.OpenWrite(path))
                file.SetLength(keep);
            string message = golden.EndsWith("npy", StringComparison.Ordinal)
                ? WeightExtensions.Message(() => NumpyFile.Read(path))
                : WeightExtensions.Message(() => TensorFile.Open(path).Dispose());
            Assert.StartsWith(path, message, StringComparison.Ordinal);
            if (keep == 0)
                break;
        }
    }

    [Theory]
    [InlineData("model.safetensors", 5000)]
    [InlineData("pytorch_model.bin", 7000)]
    public void FlippedBitsAreNoticedOrHarmless(string golden, int denseBytes)
    {
        _folder.Copy("config.json");
        string path = _folder.Copy(golden);
        byte[] bytes = File.ReadAllBytes(path);
        using Checkpoint expected = Checkpoint.Open(TempFolder.Golden(golden));
        T5Parameter[] parameters = [.. T5Parameters.Of(expected.Config)];
        int refused = 0, read = 0;
        foreach (int at in Positions(bytes.Length, denseBytes))
        {
            using (FileStream file = File.OpenWrite(path))
            {
                file.Position = at;
                file.WriteByte((byte)(bytes[at] ^ (1 << (at % 8))));
            }
            try
            {
                using Checkpoint c = Checkpoint.Open(path, new CheckpointOpenOptions { VerifyChecksums = true });
                read++;
                foreach (T5Parameter p in parameters)
                    Assert.Equal(p.Shape, c[p.Name].Shape);
                // The check sums of a zip cover every tensor's bytes.
                if (golden.EndsWith("bin", StringComparison.Ordinal))
                    Assert.All(parameters, p => Assert.Equal(expected[p.Name].Bytes(), c[p.Name].Bytes()));
            }
            catch (InvalidDataException e)
            {
                refused++;
                Assert.StartsWith(path, e.Message, StringComparison.Ordinal);
            }
            using (FileStream file = File.OpenWrite(path))
            {
                file.Position = at;
                file.WriteByte(bytes[at]);
            }
        }
        Assert.True(refused > 50 && read > 5, $"{refused} refused, {read} read");
    }

    // Without its check sum, so that every flipped bit reaches the unpickler.
    [Fact]
    public void FlippedBitsInAPickleAreRefusedOrHarmless()
    {
        byte[] zip = File.ReadAllBytes(TempFolder.Golden("ae.pt"));
        var storages = new List<(string Name, byte[] Data)>();
        byte[] pickle = [];
        using (var map = new MappedFile(TempFolder.Golden("ae.pt")))
        {
            foreach (ZipEntry e in ZipDirectory.Read(map).Values)
            {
                byte[] data = zip[(int)e.Offset..(int)(e.Offset + e.Length)];
                if (e.Name.EndsWith("data.pkl", StringComparison.Ordinal))
                    pickle = data;
                else
                    storages.Add((e.Name, data));
            }
        }
        string path = _folder.File("x.pt");
        int refused = 0, read = 0;
        for (int at = 0; at < pickle.Length; at++)
        {
            foreach (int bit in (int[])[at % 8, (at + 5) % 8])
            {
                byte[] evil = [.. pickle];
                evil[at] ^= (byte)(1 << bit);
                var maker = new ZipMaker().Add("ae/data.pkl", evil, crc: 0);
                foreach ((string name, byte[] data) in storages)
                    maker.Add(name, data, crc: 0);
                File.WriteAllBytes(path, maker.Build());
                try
                {
                    using TorchFile file = TorchFile.Open(path);
                    foreach (string name in file.Names)
                    {
                        if (file.Describe(name).DType is DType.F32 or DType.F64)
                            Assert.Equal(file.Describe(name).Shape.Elements, file.ReadFloats(name).Length);
                    }
                    read++;
                }
                catch (InvalidDataException e)
                {
                    refused++;
                    Assert.StartsWith(path, e.Message, StringComparison.Ordinal);
                }
            }
        }
        Assert.True(refused > 300 && read > 50, $"{refused} refused, {read} read");
    }

    [Fact]
    public void WrongCheckSumIsFoundOnRequest()
    {
        byte[] zip = new PickleMaker().Op("}").Text("x").Tensor("FloatStorage", "0", 2, 0, [2], [1]).Op("s").Zip(("0", [1, 2, 3, 4, 5, 6, 7, 8]));
        zip[zip.AsSpan().IndexOf((ReadOnlySpan<byte>)[1, 2, 3, 4, 5, 6, 7, 8])] = 9;
        using TorchFile file = TorchFile.Open(_folder.Write("x.bin", zip));
        Assert.Contains("checking entry 'archive/data/0'; its bytes have the check sum", WeightExtensions.Message(file.VerifyChecksums), StringComparison.Ordinal);
    }

    [Fact]
    public void MapsReadNothingOutsideTheFile()
    {
        using var map = new MappedFile(_folder.Write("x", [1, 2, 3]));
        Assert.Equal([2, 3], map.Span(1, 2, "it").ToArray());
        Assert.Equal([3], map.Prefix(2, 100).ToArray());
        foreach ((long offset, long length) in ((long, long)[])[(0, 4), (3, 1), (-1, 1), (1, -1), (long.MaxValue, 1), (1, long.MaxValue)])
            Assert.Contains("the file has 3", WeightExtensions.Message(() => map.Address(offset, length, "it")), StringComparison.Ordinal);
        map.Dispose();
        Assert.Throws<ObjectDisposedException>(() => map.Address(0, 1, "it"));
        using var empty = new MappedFile(_folder.Write("empty", []));
        Assert.Equal(0, empty.Length);
    }

    // A file of 5 GB that takes no disk: holes read as zeros.
    [Fact]
    public void FilesAboveFourGigabytesHaveLongOffsets()
    {
        string path = _folder.File("large.safetensors");
        const long Elements = 5L << 30;
        string json = $"{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{Elements}],\"data_offsets\":[0,{Elements}]}},\"b\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[{Elements},{Elements + 4}]}}}}";
        byte[] header = System.Text.Encoding.ASCII.GetBytes(json.PadRight(248));
        using (FileStream file = File.Create(path))
        {
            file.Write(BitConverter.GetBytes((long)header.Length));
            file.Write(header);
            file.SetLength(8 + header.Length + Elements + 4);
            file.Position = 8 + header.Length + Elements;
            file.Write(BitConverter.GetBytes(1.5f));
        }
        using SafetensorsFile opened = SafetensorsFile.Open(path);
        Assert.Equal(Elements, opened["a"].ByteLength);
        Assert.Equal([1.5f], opened.ReadFloats("b"));
    }

    // All of the structures at the start and end, every seventh byte, then steps through the data.
    private static IEnumerable<int> Positions(int length, int dense)
    {
        for (int i = 0; i < length; i += i < dense || i > length - dense ? 7 : 997)
            yield return i;
    }
}
