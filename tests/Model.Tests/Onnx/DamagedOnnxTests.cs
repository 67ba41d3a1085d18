// Cut and flipped files: an error that names the file, or weights of the right shape; never another exception, a hang or a crash.
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx;
using IptNative.Model.Onnx.Wire;
using Xunit;

namespace IptNative.Model.Tests.Onnx;

public sealed class DamagedOnnxTests
{
    [Theory]
    [InlineData("encoder_model.onnx")]
    [InlineData("decoder_model.onnx")]
    public void TruncatedFilesAreRefused(string name)
    {
        using ExportFolder folder = new();
        byte[] whole = File.ReadAllBytes(folder[name]);
        // 0 to 31 bytes, then spread over the file, then all but the last few; the very last bytes are the operator set, which is not needed.
        int[] lengths = [.. Enumerable.Range(0, 32), .. Enumerable.Range(1, 150).Select(i => (int)((long)whole.Length * i / 151)), whole.Length - 40];
        foreach (int length in lengths)
        {
            File.WriteAllBytes(folder[name], whole[..length]);
            Assert.Contains(name, folder.Refused().Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("encoder_model.onnx", 1)]
    [InlineData("decoder_model.onnx", 2)]
    public void FlippedBitsDoNotEscape(string name, int seed)
    {
        using ExportFolder folder = new();
        byte[] bytes = File.ReadAllBytes(folder[name]);
        var random = new Random(seed);
        int refused = 0;
        for (int i = 0; i < 500; i++)
        {
            // Half of them in the first tenth, where the nodes are.
            int at = random.Next(i % 2 == 0 ? bytes.Length : bytes.Length / 10);
            byte old = bytes[at];
            bytes[at] ^= (byte)(1 << random.Next(8));
            File.WriteAllBytes(folder[name], bytes);
            try
            {
                using Checkpoint found = OnnxCheckpoints.Open(folder.Path);
                foreach (T5Parameter p in T5Parameters.Of(found.Config))
                    Assert.Equal(p.Shape, found[p.Name].Shape);
            }
            catch (InvalidDataException e)
            {
                refused++;
                Assert.Contains(".onnx", e.Message, StringComparison.Ordinal);
            }
            bytes[at] = old;
        }
        Assert.True(refused > 20, $"only {refused} of 500 flips were noticed");
    }

    [Theory]
    [InlineData("3A FF FF FF FF FF FF FF FF FF 01", "where 0 are left")]
    [InlineData("3A FF FF FF FF FF FF FF FF FF FF 01", "more than 64 bits")]
    [InlineData("3A 80", "the data ends")]
    [InlineData("3B 00", "expected a protobuf field")]
    [InlineData("02 00", "expected a protobuf field")]
    [InlineData("08 07", "found no graph")]
    [InlineData("", "found no graph")]
    [InlineData("38 07", "kind Varint, expected Bytes")]
    [InlineData("3A 07 2A 05 08 FF FF FF FF", "ends")]
    public void BrokenWireIsExplained(string hex, string message)
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(path, Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal)));
            InvalidDataException e = Assert.Throws<InvalidDataException>(() => OnnxModel.Open(path).Dispose());
            Assert.Contains(message, e.Message, StringComparison.Ordinal);
            Assert.StartsWith(path, e.Message, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void NestingAndCountsAreBounded()
    {
        using ExportFolder folder = new();
        ProtoField inner = ProtoField.Of(6);
        for (int i = 0; i < 20; i++)
            inner = ProtoField.Of(6, ProtoField.Of(1, ProtoField.Of(5, inner)));
        folder.Edit("encoder_model.onnx", model => ProtoTree.EditGraph(model, graph => [.. graph, ProtoField.Of(1, ProtoField.Of(5, inner))]));
        Assert.Contains("nested more than", folder.Refused().Message, StringComparison.Ordinal);

        // Two million empty nodes are four megabytes.
        byte[] nodes = [.. Enumerable.Repeat((byte[])[0x0A, 0x00], 2_000_000).SelectMany(b => b)];
        File.WriteAllBytes(folder["encoder_model.onnx"], ProtoTree.Write(new ProtoField(7, 0, nodes)));
        Assert.Contains("far more than any T5 has", folder.Refused().Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DuplicateInitialisersAreRefused()
    {
        using ExportFolder folder = new();
        folder.Edit("encoder_model.onnx", model => ProtoTree.EditGraph(model, graph => [.. graph, graph.First(f => f.Field == 5)]));
        Assert.Contains("the initialiser 'encoder.embed_tokens.weight' twice", folder.Refused().Message, StringComparison.Ordinal);
    }
}
