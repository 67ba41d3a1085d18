// The fixture's exported pair gives the weights of its safetensors file, bit for bit; so do the other shapes that exporters give such files.
using System.Runtime.InteropServices;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Onnx;

public sealed class OptimumCheckpointTests
{
    private const int F32 = 1;

    [Theory]
    [InlineData(null)]
    [InlineData("encoder_model.onnx")]
    [InlineData("decoder_model.onnx")]
    public void TensorsEqualSafetensors(string? file)
    {
        using ExportFolder folder = new();
        folder.EqualsSafetensors(file);
    }

    [Fact]
    public void ReleasedTensorsAreMadeAgain()
    {
        using ExportFolder folder = new();
        using Checkpoint found = OnnxCheckpoints.Open(folder.Path);
        const string Q = "encoder.block.0.layer.0.SelfAttention.q.weight";
        nint address = found[Q].Address;
        Assert.Equal(address, found[Q].Address);
        found.Release(Q);
        found.Release("shared.weight");
        using MemoryCheckpoint expected = MemoryCheckpoint.Golden();
        ExportFolder.Same(expected, found);
    }

    [Fact]
    public void FilesNameBothOfThePair()
    {
        using ExportFolder folder = new();
        using Checkpoint found = OnnxCheckpoints.Open(folder["decoder_model.onnx"]);
        Assert.Equal(["encoder_model.onnx", "decoder_model.onnx"], found.Files.Select(Path.GetFileName));
        Assert.True(OnnxCheckpoints.IsOptimumPair(folder.Path));
        Assert.False(OnnxCheckpoints.IsPackage(folder.Path));
    }

    // On the Hub exports lie in onnx/, config.json above it.
    [Fact]
    public void OnnxSubfolderIsFound()
    {
        using ExportFolder folder = new();
        Directory.CreateDirectory(folder["onnx"]);
        File.Move(folder["encoder_model.onnx"], Path.Combine(folder["onnx"], "encoder_model.onnx"));
        File.Move(folder["decoder_model.onnx"], Path.Combine(folder["onnx"], "decoder_model.onnx"));
        Assert.True(OnnxCheckpoints.IsOptimumPair(folder.Path));
        folder.EqualsSafetensors();
    }

    // Optimum merges both decoders into an If; the weights stay in the outer graph.
    [Fact]
    public void MergedDecoderIsRead()
    {
        using ExportFolder folder = new();
        folder.Edit("decoder_model.onnx", model => ProtoTree.EditGraph(model, graph =>
        [
            ProtoField.Of(1, ProtoField.Of(1, "use_cache_branch"), ProtoField.Of(2, "logits"), ProtoField.Of(3, "optimum::if"), ProtoField.Of(4, "If"),
                ProtoField.Of(5, ProtoField.Of(1, "then_branch"), ProtoField.Of(6, [.. graph.Where(f => f.Field == 1 && !f.Text.Contains("EncDecAttention/k", StringComparison.Ordinal))]), ProtoField.Of(20, 5)),
                ProtoField.Of(5, ProtoField.Of(1, "else_branch"), ProtoField.Of(6, [.. graph.Where(f => f.Field == 1)]), ProtoField.Of(20, 5))),
            .. graph.Where(f => f.Field != 1),
        ]));
        File.Move(folder["decoder_model.onnx"], folder["decoder_model_merged.onnx"]);
        folder.EqualsSafetensors("encoder_model.onnx");
        folder.EqualsSafetensors("decoder_model_merged.onnx");
    }

    // The encoder alone is exported without its prefix.
    [Fact]
    public void NamesWithoutTheStackAreRead()
    {
        using ExportFolder folder = new();
        folder.Edit("encoder_model.onnx", model => Replace(Replace(model, "/encoder/", "/"), "encoder.", ""));
        folder.EqualsSafetensors();
    }

    // Without constant folding the weight keeps its name and layout, and a Transpose stands before the MatMul.
    [Fact]
    public void UnfoldedTransposesAreRead()
    {
        using ExportFolder folder = new();
        foreach (string file in (string[])["encoder_model.onnx", "decoder_model.onnx"])
            folder.Edit(file, model => ProtoTree.EditGraph(model, graph => Unfold(graph, file.Split('_')[0])));
        folder.EqualsSafetensors();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void FloatDataIsRead(bool packed)
    {
        using ExportFolder folder = new();
        folder.Edit("encoder_model.onnx", model => ProtoTree.EditTensors(model, tensor => tensor.SelectMany(f =>
            f.Field != 9 ? [f] : packed ? [f with { Field = 4 }] : MemoryMarshal.Cast<byte, int>(f.Bytes!).Length == 128 ? [f with { Field = 4, Bytes = f.Bytes![..256] }, f with { Field = 4, Bytes = f.Bytes![256..] }] : (IEnumerable<ProtoField>)[f with { Field = 4 }])));
        folder.EqualsSafetensors();
    }

    [Theory]
    [InlineData(10)]
    [InlineData(16)]
    public void HalvesAreReadFromBytesAndFromNumbers(int type)
    {
        using ExportFolder raw = new();
        using ExportFolder numbers = new();
        foreach (string file in (string[])["encoder_model.onnx", "decoder_model.onnx"])
        {
            raw.Edit(file, model => ProtoTree.EditTensors(model, tensor => Halve(tensor, type, asNumbers: false)));
            numbers.Edit(file, model => ProtoTree.EditTensors(model, tensor => Halve(tensor, type, asNumbers: true)));
        }
        using Checkpoint a = OnnxCheckpoints.Open(raw.Path);
        using Checkpoint b = OnnxCheckpoints.Open(numbers.Path);
        Assert.Equal(type == 10 ? Kernels.DType.F16 : Kernels.DType.BF16, a["shared.weight"].DType);
        ExportFolder.Same(a, b);
    }

    [Fact]
    public void ExternalDataIsRead()
    {
        using ExportFolder folder = new();
        foreach (string file in (string[])["encoder_model.onnx", "decoder_model.onnx"])
            Externalise(folder, file, (name, offset, length) => (file + "_data", offset, length));
        folder.EqualsSafetensors();
        using Checkpoint found = OnnxCheckpoints.Open(folder.Path);
        Assert.Contains("encoder_model.onnx_data", found.Files.Select(Path.GetFileName));
    }

    [Theory]
    [InlineData("../encoder_model.onnx", "expected a file in the model's own folder")]
    [InlineData("/etc/hostname", "expected a file in the model's own folder")]
    [InlineData("data/../../x", "expected a file in the model's own folder")]
    [InlineData("c:\\x", "expected a file in the model's own folder")]
    [InlineData("", "expected a file in the model's own folder")]
    [InlineData("absent.data", "which is not in the folder")]
    public void LocationsOutsideTheFolderAreRefused(string location, string message)
    {
        using ExportFolder folder = new();
        Externalise(folder, "encoder_model.onnx", (_, offset, length) => (location, offset, length));
        Assert.Contains(message, folder.Refused().Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("100000000", null, "the file has")]
    [InlineData("9223372036854775807", null, "the file has")]
    [InlineData("99999999999999999999", null, "expected a whole number of bytes")]
    [InlineData("-4", null, "expected a whole number of bytes")]
    [InlineData("0", "12", "its shape implies")]
    public void RangesOutsideTheDataAreRefused(string offset, string? length, string message)
    {
        using ExportFolder folder = new();
        Externalise(folder, "encoder_model.onnx", (_, o, l) => ("encoder_model.onnx_data", offset, length ?? l));
        Assert.Contains(message, folder.Refused().Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(long.MaxValue, "does not fit 64 bits")]
    [InlineData(-1L, "tensor dimension of -1")]
    [InlineData(1L << 40, "does not fit 64 bits")]
    [InlineData(1L << 20, "its shape")]
    [InlineData(33L, "its shape")]
    public void LyingDimensionsAreRefused(long dim, string message)
    {
        using ExportFolder folder = new();
        folder.Edit("encoder_model.onnx", model => ProtoTree.EditTensors(model, tensor =>
            tensor.Name() == "encoder.embed_tokens.weight" ? tensor.Select(f => f.Field == 1 ? f with { Number = dim } : f) : tensor));
        InvalidDataException e = folder.Refused();
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.Contains("encoder_model.onnx", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OtherConfigurationIsRefused()
    {
        using ExportFolder folder = new();
        folder.Edit("config.json", text => Replace(text, "\"d_ff\": 64", "\"d_ff\": 96"));
        string message = folder.Refused().Message;
        Assert.Contains("has shape [64, 32], config.json implies [96, 32]", message, StringComparison.Ordinal);
    }

    [Fact]
    public void TiedHeadThatIsNoEmbeddingIsRefused()
    {
        using ExportFolder folder = new();
        folder.Edit("config.json", text => Replace(text, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"));
        Assert.Contains("the file has an lm_head of its own", folder.Refused().Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TiedHeadIsTheEmbeddingTransposed()
    {
        using ExportFolder folder = new();
        folder.Edit("config.json", text => Replace(text, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"));
        folder.Edit("decoder_model.onnx", model =>
        {
            byte[] embedding = [];
            ProtoTree.EditTensors(model, t =>
            {
                if (t.Name() == "decoder.embed_tokens.weight")
                    embedding = t.Single(f => f.Field == 9).Bytes!;
                return t;
            });
            return ProtoTree.EditTensors(model, t => t.Name() == "onnx::MatMul_598" ? t.Select(f => f.Field == 9 ? f with { Bytes = Transposed(embedding, 128, 32) } : f) : t);
        });
        using Checkpoint found = OnnxCheckpoints.Open(folder.Path);
        Assert.Equal(found["shared.weight"].Shape, new Kernels.TensorShape(128, 32));
    }

    [Fact]
    public void FilesOfTwoModelsAreRefused()
    {
        using ExportFolder folder = new();
        folder.Edit("encoder_model.onnx", model => ProtoTree.EditTensors(model, t =>
            t.Name() == "encoder.embed_tokens.weight" ? t.Select(f => f.Field == 9 ? f with { Bytes = [.. f.Bytes!.Reverse()] } : f) : t));
        Assert.Contains("The two files are of different models", folder.Refused().Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DecoderWithPastAloneIsRefusedAndBesideTheOtherIsNot()
    {
        using ExportFolder folder = new();
        File.Copy(folder["decoder_model.onnx"], folder["decoder_with_past_model.onnx"]);
        folder.EqualsSafetensors("decoder_with_past_model.onnx");
        File.Delete(folder["decoder_model.onnx"]);
        Assert.Contains("lacks the keys and values of cross-attention", folder.Refused("decoder_with_past_model.onnx").Message, StringComparison.Ordinal);
        File.Delete(folder["decoder_with_past_model.onnx"]);
        Assert.Contains("expected decoder_model.onnx or decoder_model_merged.onnx beside it", folder.Refused("encoder_model.onnx").Message, StringComparison.Ordinal);
    }

    [Fact]
    public void MissingEncoderIsNamed()
    {
        using ExportFolder folder = new();
        File.Delete(folder["encoder_model.onnx"]);
        Assert.Contains("the encoder's weights are expected in encoder_model.onnx beside it", folder.Refused("decoder_model.onnx").Message, StringComparison.Ordinal);
    }

    [Fact]
    public void MissingWeightIsNamed()
    {
        using ExportFolder folder = new();
        folder.Edit("decoder_model.onnx", model => Replace(model, "/decoder/block.1/layer.2/DenseReluDense/wo/MatMul", "/decoder/block.1/layer.2/DenseReluDense/wx/MatMul"));
        string message = folder.Refused().Message;
        Assert.Contains("1 parameter(s) not found, the first is 'decoder.block.1.layer.2.DenseReluDense.wo.weight'", message, StringComparison.Ordinal);
        Assert.Contains("optimum-cli export onnx", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("SimplifiedLayerNormalization", "", "optimised by ONNX Runtime")]
    [InlineData("FusedMatMul", "com.microsoft", "optimised by ONNX Runtime")]
    [InlineData("MatMulInteger", "", "quantised")]
    public void OptimisedAndQuantisedFilesAreRefused(string op, string domain, string message)
    {
        using ExportFolder folder = new();
        folder.Edit("encoder_model.onnx", model => ProtoTree.EditGraph(model, graph =>
            [.. graph, ProtoField.Of(1, ProtoField.Of(3, "fused_1"), ProtoField.Of(4, op), ProtoField.Of(7, domain))]));
        string text = folder.Refused().Message;
        Assert.Contains(message, text, StringComparison.Ordinal);
        Assert.Contains("fused_1", text, StringComparison.Ordinal);
    }

    [Fact]
    public void OnnxRuntimesOwnExporterIsRecognised()
    {
        using ExportFolder folder = new();
        folder.Edit("encoder_model.onnx", model => ProtoTree.EditGraph(model, graph =>
            [ProtoField.Of(11, ProtoField.Of(1, "encoder_input_ids"), ProtoField.Of(2, ProtoField.Of(1, ProtoField.Of(1, 6)))), .. graph]));
        File.Move(folder["encoder_model.onnx"], folder["t5-small_encoder.onnx"]);
        string message = folder.Refused("t5-small_encoder.onnx").Message;
        Assert.Contains("input 'encoder_input_ids' of int32", message, StringComparison.Ordinal);
        Assert.Contains("ONNX Runtime's own T5 exporter", message, StringComparison.Ordinal);
    }

    [Fact]
    public void StrangersAreRefused()
    {
        using ExportFolder folder = new();
        File.Move(folder["encoder_model.onnx"], folder["model.onnx"]);
        Assert.Contains("expected model.onnx of a package with its package.json", folder.Refused("model.onnx").Message, StringComparison.Ordinal);
        Assert.Throws<FileNotFoundException>(() => OnnxCheckpoints.Open(folder["absent.onnx"]));
    }

    [Theory]
    [InlineData("/block.0/layer.0/SelfAttention/k/MatMul", "encoder.block.0.layer.0.SelfAttention.k.weight")]
    [InlineData("/decoder/block.11/layer.1/EncDecAttention/o/MatMul", "decoder.block.11.layer.1.EncDecAttention.o.weight")]
    [InlineData("/decoder/decoder/block.3/layer.2/DenseReluDense/wi_1/MatMul", "decoder.block.3.layer.2.DenseReluDense.wi_1.weight")]
    [InlineData("/block.2/layer.1/layer_norm/Mul_1", "encoder.block.2.layer.1.layer_norm.weight")]
    [InlineData("/final_layer_norm/Mul_1", "encoder.final_layer_norm.weight")]
    [InlineData("/lm_head/MatMul", "lm_head.weight")]
    [InlineData("model.decoder.block.0.layer.0.layer_norm.weight", "decoder.block.0.layer.0.layer_norm.weight")]
    [InlineData("embed_tokens.weight", "shared.weight")]
    [InlineData("/block.0/layer.0/SelfAttention/MatMul_1", null)]
    [InlineData("onnx::MatMul_305", null)]
    [InlineData("/encoder/Gather", null)]
    public void PathsBecomeParameters(string path, string? name)
    {
        var config = T5Config.Load(Path.Combine(Goldens.Folder, "config.json"));
        Assert.Equal(name, OptimumNames.Canonical(path, "encoder", config));
    }

    private static IEnumerable<ProtoField> Unfold(List<ProtoField> graph, string stack)
    {
        var names = new Dictionary<string, string>();
        foreach (List<ProtoField> node in graph.Where(f => f.Field == 1).Select(f => ProtoTree.Read(f.Bytes!)))
        {
            if (node.Single(f => f.Field == 4).Text == "MatMul" && node.Where(f => f.Field == 1).ElementAt(1).Text is var weight && weight.StartsWith("onnx::", StringComparison.Ordinal))
                names[weight] = node.Single(f => f.Field == 3).Text.Replace("/MatMul", ".weight", StringComparison.Ordinal).Replace('/', '.')[1..];
        }
        Assert.NotEmpty(names);
        foreach (ProtoField f in graph)
        {
            List<ProtoField>? tensor = f.Field == 5 ? ProtoTree.Read(f.Bytes!) : null;
            if (tensor is null || !names.TryGetValue(tensor.Name(), out string? name))
            {
                yield return f;
                continue;
            }
            Assert.True(stack.Length > 0);
            long[] dims = [.. tensor.Where(t => t.Field == 1).Select(t => t.Number)];
            yield return ProtoField.Of(5, ProtoField.Of(1, dims[1]), ProtoField.Of(1, dims[0]), ProtoField.Of(2, F32), ProtoField.Of(8, name),
                new(9, 0, Transposed(tensor.Single(t => t.Field == 9).Bytes!, (int)dims[0], (int)dims[1])));
            yield return ProtoField.Of(1, ProtoField.Of(1, name), ProtoField.Of(2, tensor.Name()), ProtoField.Of(3, "transpose"), ProtoField.Of(4, "Transpose"),
                ProtoField.Of(5, ProtoField.Of(1, "perm"), ProtoField.Of(8, 1), ProtoField.Of(8, 0), ProtoField.Of(20, 7)));
        }
    }

    private static IEnumerable<ProtoField> Halve(List<ProtoField> tensor, int type, bool asNumbers)
    {
        foreach (ProtoField f in tensor)
        {
            if (f.Field == 2)
            {
                yield return f with { Number = type };
            }
            else if (f.Field != 9)
            {
                yield return f;
            }
            else
            {
                ushort[] bits = [.. MemoryMarshal.Cast<byte, float>(f.Bytes!).ToArray().Select(x => type == 10 ? BitConverter.HalfToUInt16Bits((Half)x) : (ushort)(BitConverter.SingleToUInt32Bits(x) >> 16))];
                if (!asNumbers)
                {
                    yield return f with { Bytes = MemoryMarshal.AsBytes<ushort>(bits).ToArray() };
                    continue;
                }
                // The first half packed, the rest one by one: both are legal.
                byte[] packed = [.. bits.Take(bits.Length / 2).SelectMany(b => ProtoTree.Write(ProtoField.Of(1, b))[1..])];
                yield return new(5, 0, packed);
                foreach (ushort b in bits.Skip(bits.Length / 2))
                    yield return ProtoField.Of(5, b);
            }
        }
    }

    private static void Externalise(ExportFolder folder, string file, Func<string, string, string, (string Location, string Offset, string Length)> where)
    {
        using MemoryStream data = new();
        folder.Edit(file, model => ProtoTree.EditTensors(model, tensor =>
        {
            byte[] raw = tensor.Single(f => f.Field == 9).Bytes!;
            data.Write(new byte[(64 - data.Length % 64) % 64]);
            (string location, string offset, string length) = where(tensor.Name(), $"{data.Position}", $"{raw.Length}");
            data.Write(raw);
            return [.. tensor.Where(f => f.Field != 9), Entry("location", location), Entry("offset", offset), Entry("length", length), ProtoField.Of(14, 1)];
        }));
        File.WriteAllBytes(folder[file + "_data"], data.ToArray());

        static ProtoField Entry(string key, string value) => ProtoField.Of(13, ProtoField.Of(1, key), ProtoField.Of(2, value));
    }

    private static byte[] Transposed(byte[] data, int rows, int cols)
    {
        float[] source = MemoryMarshal.Cast<byte, float>(data).ToArray();
        var target = new float[source.Length];
        for (int i = 0; i < source.Length; i++)
            target[i % cols * rows + i / cols] = source[i];
        return MemoryMarshal.AsBytes<float>(target).ToArray();
    }

    // Replaces text in every string of a model, or in plain text; lengths are put right by taking the model apart.
    private static byte[] Replace(byte[] bytes, string old, string by)
    {
        if (bytes[0] == (byte)'{')
            return System.Text.Encoding.UTF8.GetBytes(System.Text.Encoding.UTF8.GetString(bytes).Replace(old, by, StringComparison.Ordinal));
        return ProtoTree.EditGraph(bytes, graph => graph.Select(f => f.Field switch
        {
            1 => f with { Bytes = ProtoTree.Write([.. ProtoTree.Read(f.Bytes!).Select(n => n.Field is 1 or 2 or 3 ? ProtoField.Of(n.Field, n.Text.Replace(old, by, StringComparison.Ordinal)) : n)]) },
            5 => f with { Bytes = ProtoTree.Write([.. ProtoTree.Read(f.Bytes!).Select(n => n.Field == 8 ? ProtoField.Of(8, n.Text.Replace(old, by, StringComparison.Ordinal)) : n)]) },
            _ => f,
        }));
    }
}
