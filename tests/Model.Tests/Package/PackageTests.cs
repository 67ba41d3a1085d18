// A package holds what the checkpoint held, whole or not at all, and says so when it no longer does.
using System.Text.Json.Nodes;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx;
using IptNative.Model.Onnx.Package;
using IptNative.Model.Tests.Forward;
using IptNative.Model.Tests.Onnx;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Xunit;

namespace IptNative.Model.Tests.Package;

public sealed class PackageTests : IDisposable
{
    private const string Q = "encoder.block.0.layer.0.SelfAttention.q.weight";
    private const string Norm = "encoder.block.0.layer.0.layer_norm.weight";
    private readonly string _root = Directory.CreateTempSubdirectory("iptnative-package-").FullName;

    private string Out => Path.Combine(_root, "t5");

    [Fact]
    public void TensorsAreTheSourcesBitForBit()
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new());
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        ExportFolder.Same(source, package);
        using Checkpoint byFile = OnnxCheckpoints.Open(Path.Combine(Out, "model.onnx"));
        Assert.IsType<PackageCheckpoint>(byFile);
        Assert.True(OnnxCheckpoints.IsPackage(Out));
        Assert.False(OnnxCheckpoints.IsOptimumPair(Out));
        Assert.Equal(["model.onnx", "model.onnx_data"], package.Files.Select(Path.GetFileName));
        Assert.Equal(File.ReadAllBytes(Path.Combine(Goldens.Folder, "config.json")), File.ReadAllBytes(Path.Combine(Out, "config.json")));
        Assert.Equal(["t5"], Entries());
        Assert.Empty(PackageVerifier.Verify(Out));
    }

    [Fact]
    public void ExportedPairsAndPackagesAreSourcesToo()
    {
        using (Checkpoint pair = OnnxCheckpoints.Open(Path.Combine(Goldens.Folder, "encoder_model.onnx")))
            PackageExporter.Export(pair, Out, new());
        string again = Path.Combine(_root, "again");
        using (Checkpoint package = OnnxCheckpoints.Open(Out))
            PackageExporter.Export(package, again, new());
        Assert.Equal(File.ReadAllBytes(Path.Combine(Out, "model.onnx_data")), File.ReadAllBytes(Path.Combine(again, "model.onnx_data")));
        Assert.Equal(File.ReadAllBytes(Path.Combine(Out, "model.onnx")), File.ReadAllBytes(Path.Combine(again, "model.onnx")));
        using SourceCheckpoint expected = new();
        using Checkpoint found = OnnxCheckpoints.Open(again);
        ExportFolder.Same(expected, found);
    }

    [Fact]
    public void ExportsAreReproducible()
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new(DType.BF16));
        string other = Path.Combine(_root, "other");
        PackageExporter.Export(source, other, new(DType.BF16));
        foreach (string file in Directory.GetFiles(Out))
            Assert.Equal(File.ReadAllBytes(file), File.ReadAllBytes(Path.Combine(other, Path.GetFileName(file))));
    }

    [Fact]
    public void ManifestTellsSourceTypesAndSums()
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new(DType.BF16));
        JsonNode json = JsonNode.Parse(File.ReadAllText(Path.Combine(Out, "package.json")))!;
        Assert.Equal("iptnative-package", (string)json["format"]!);
        Assert.Equal(1, (int)json["format_version"]!);
        Assert.StartsWith("iptnative ", (string)json["tool"]!, StringComparison.Ordinal);
        Assert.Equal("t5v11", (string)json["source"]!["name"]!);
        Assert.Equal(64, ((string)json["source"]!["files"]!["model.safetensors"]!["sha256"]!).Length);
        Assert.Equal("bf16", (string)json["dtype"]!);
        Assert.Equal("bf16", (string)json["tensors"]![Q]!);
        Assert.Equal("f32", (string)json["tensors"]![Norm]!);
        Assert.Equal(["config.json", "model.onnx", "model.onnx_data"], json["files"]!.AsObject().Select(f => f.Key));
        Assert.DoesNotContain(_root, json.ToJsonString(), StringComparison.Ordinal);
        Assert.DoesNotContain(Path.GetDirectoryName(Goldens.Folder)!, json.ToJsonString(), StringComparison.Ordinal);
    }

    [Fact]
    public void CompanionsComeAlong()
    {
        using ExportFolder folder = new();
        File.WriteAllText(folder["spiece.model"], "pieces");
        File.WriteAllText(folder["generation_config.json"], "{}");
        File.WriteAllText(folder["notes.txt"], "no");
        using Checkpoint source = OnnxCheckpoints.Open(folder.Path);
        PackageExporter.Export(source, Out, new());
        Assert.Equal(["config.json", "generation_config.json", "model.onnx", "model.onnx_data", "package.json", "spiece.model"],
            Directory.GetFiles(Out).Select(Path.GetFileName).Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void MatricesAreRoundedNormsAreNot(DType dtype)
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new(dtype));
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        foreach (T5Parameter p in T5Parameters.Of(source.Config))
        {
            Weight found = package[p.Name];
            float[] expected = WeightValues.ToFloats(source[p.Name], "source");
            float[] actual = WeightValues.ToFloats(found, "package");
            bool kept = p.Name.EndsWith("layer_norm.weight", StringComparison.Ordinal) || p.Name.EndsWith("relative_attention_bias.weight", StringComparison.Ordinal);
            Assert.Equal(kept ? DType.F32 : dtype, found.DType);
            Assert.Equal(0, found.Address % 64);
            // Rounding to nearest: half a unit in the last place, at most 2^-8 of the number for bfloat16, 2^-11 for half above its subnormals.
            double relative = kept ? 0 : dtype == DType.BF16 ? 1.0 / 256 : 1.0 / 2048;
            double absolute = dtype == DType.F16 && !kept ? Math.Pow(2, -25) : 0;
            for (int i = 0; i < expected.Length; i++)
                Assert.True(Math.Abs(actual[i] - expected[i]) <= relative * Math.Abs(expected[i]) + absolute, $"{p.Name}[{i}] is {actual[i]:R}, expected {expected[i]:R}");
        }
    }

    // model_bf16.safetensors was rounded by PyTorch.
    [Fact]
    public void BFloat16IsPyTorchsBitForBit()
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new(DType.BF16));
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        using TensorFile torch = TensorFile.Open(Path.Combine(Goldens.Folder, "model_bf16.safetensors"));
        foreach (string name in torch.Names.Where(n => package[n].DType == DType.BF16))
            Assert.Equal(WeightValues.ToFloats(torch[name], "torch"), WeightValues.ToFloats(package[name], "package"));
    }

    [Theory]
    [InlineData(0x3F808000u, 0x3F80)] // a tie goes to the even neighbour below
    [InlineData(0x3F818000u, 0x3F82)] // and above
    [InlineData(0x3F808001u, 0x3F81)]
    [InlineData(0x3F807FFFu, 0x3F80)]
    [InlineData(0x80000000u, 0x8000)]
    [InlineData(0x00000001u, 0x0000)]
    [InlineData(0x7F7FFFFFu, 0x7F80)] // the largest float rounds to infinity, which the exporter refuses
    public void BFloat16RoundsToNearestEven(uint bits, int expected) =>
        Assert.Equal(expected, WeightConverter.ToBFloat16(BitConverter.UInt32BitsToSingle(bits)));

    [Fact]
    public void BFloat16SourcesAreCopied()
    {
        using SourceCheckpoint source = new();
        source.Change(Q, _ => { }, DType.BF16);
        PackageExporter.Export(source, Out, new(DType.BF16));
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        Assert.Equal(WeightValues.ToFloats(source[Q], "source"), WeightValues.ToFloats(package[Q], "package"));
    }

    // Any ONNX runtime can load a package. Logits reach 26: f32 loses 40 eps of that, f16 about 2^-11 through four blocks, bf16 2^-8.
    [Theory]
    [InlineData(DType.F32, 5e-5)]
    [InlineData(DType.F16, 0.1)]
    [InlineData(DType.BF16, 0.8)]
    public void OnnxRuntimeRunsIt(DType dtype, double tolerance)
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new(dtype));
        using SessionOptions options = new();
        options.IntraOpNumThreads = 1;
        using InferenceSession session = new(Path.Combine(Out, "model.onnx"), options);
        int width = source.Config.DModel;
        (int batch, int prompt, int text) = (4, 10, 24);
        int[] textMask = Goldens.Load("attention_mask").Ints;
        long[] mask = [.. Enumerable.Range(0, batch).SelectMany(b => Enumerable.Repeat(1L, prompt).Concat(textMask.AsSpan(b * text, text).ToArray().Select(v => (long)v)))];
        using var results = session.Run([
            NamedOnnxValue.CreateFromTensor("inputs_embeds", new DenseTensor<float>(Goldens.Load("encoder_hidden").Floats.AsMemory(0, batch * (prompt + text) * width), [batch, prompt + text, width])),
            NamedOnnxValue.CreateFromTensor("attention_mask", new DenseTensor<long>(mask, [batch, prompt + text])),
            NamedOnnxValue.CreateFromTensor("decoder_input_ids", new DenseTensor<long>(Goldens.Load("decoder_input_ids").Ints.Select(v => (long)v).ToArray(), [batch, 7]))]);
        Goldens.Near(Goldens.Load("logits64").Doubles, [.. results[0].AsEnumerable<float>()], tolerance, $"logits of {dtype.Name()}");
    }

    [Fact]
    public void OneTensorIsHeldAtATime()
    {
        using SourceCheckpoint source = new();
        var seen = new List<PackageProgress>();
        PackageExporter.Export(source, Out, new(), new Sink(seen.Add));
        Assert.Equal(1, source.MostHeld);
        Assert.Equal(T5Parameters.Of(source.Config).Count(), source.Released);
        Assert.Equal(seen[^1].TotalBytes, seen[^1].Bytes);
        Assert.Equal(source.Released, seen.Count);
    }

    [Fact]
    public void HalfOverflowSuggestsBFloat16AndLeavesNothing()
    {
        using SourceCheckpoint source = new();
        source.Change(Q, v => v[513] = -70000);
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => PackageExporter.Export(source, Path.Combine(_root, "a", "b"), new(DType.F16)));
        Assert.Contains($"exporting tensor '{Q}' as f16; element 513 is -70000, the largest f16 is 65504. Export with --dtype bf16", e.Message, StringComparison.Ordinal);
        Assert.Empty(Entries());
        PackageExporter.Export(source, Out, new(DType.BF16));
    }

    [Theory]
    [InlineData(float.NaN, "NaN")]
    [InlineData(float.PositiveInfinity, "Infinity")]
    [InlineData(float.NegativeInfinity, "-Infinity")]
    public void NonFiniteWeightsAreRefused(float value, string text)
    {
        using SourceCheckpoint source = new();
        source.Change(Norm, v => v[31] = value);
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => PackageExporter.Export(source, Out, new()));
        Assert.Contains($"exporting tensor '{Norm}'; element 31 is {text}, expected finite numbers", e.Message, StringComparison.Ordinal);
        Assert.Empty(Entries());
    }

    [Fact]
    public void CancellingLeavesNothing()
    {
        using SourceCheckpoint source = new();
        using CancellationTokenSource stop = new();
        Assert.Throws<OperationCanceledException>(() => PackageExporter.Export(source, Path.Combine(_root, "new", "deep", "t5"), new(), new Sink(p =>
        {
            if (p.Tensor == Norm)
                stop.Cancel();
        }), stop.Token));
        Assert.Empty(Entries());
    }

    [Fact]
    public void OnlyPackagesAreReplacedAndOnlyWhenAsked()
    {
        using SourceCheckpoint source = new();
        Directory.CreateDirectory(Out);
        PackageExporter.Export(source, Out, new()); // an empty folder is as good as none
        IOException taken = Assert.Throws<IOException>(() => PackageExporter.Export(source, Out, new(DType.BF16)));
        Assert.Contains("--overwrite", taken.Message, StringComparison.Ordinal);
        File.WriteAllText(Path.Combine(Out, "README.md"), "mine");
        File.WriteAllText(Path.Combine(Out, "spiece.model"), "of the package that goes");
        PackageExporter.Export(source, Out, new(DType.BF16, Overwrite: true));
        Assert.Equal("mine", File.ReadAllText(Path.Combine(Out, "README.md")));
        Assert.False(File.Exists(Path.Combine(Out, "spiece.model")));
        using (Checkpoint package = OnnxCheckpoints.Open(Out))
            Assert.Equal(DType.BF16, package[Q].DType);
        Assert.Equal(["t5"], Entries());

        string other = Path.Combine(_root, "other");
        Directory.CreateDirectory(other);
        File.WriteAllText(Path.Combine(other, "thesis.txt"), "dear");
        IOException foreign = Assert.Throws<IOException>(() => PackageExporter.Export(source, other, new(Overwrite: true)));
        Assert.Contains("holds something else", foreign.Message, StringComparison.Ordinal);
        IOException file = Assert.Throws<IOException>(() => PackageExporter.Export(source, Path.Combine(other, "thesis.txt"), new(Overwrite: true)));
        Assert.Contains("found a file of that name", file.Message, StringComparison.Ordinal);
        using Checkpoint self = OnnxCheckpoints.Open(Out);
        IOException own = Assert.Throws<IOException>(() => PackageExporter.Export(self, Out, new(Overwrite: true)));
        Assert.Contains("the checkpoint itself lies there", own.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FailureKeepsThePackageThatIsThere()
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new());
        source.Change(Q, v => v[0] = float.NaN);
        Assert.Throws<InvalidDataException>(() => PackageExporter.Export(source, Out, new(Overwrite: true)));
        Assert.Empty(PackageVerifier.Verify(Out));
        Assert.Equal(["t5"], Entries());
    }

    [Fact]
    public void FullDisksAndOtherTypesAreRefused()
    {
        IOException e = Assert.Throws<IOException>(() => PackageExporter.RequireFreeSpace("out", 3L << 30, 1L << 30));
        Assert.Equal("out: exporting a package needs 3072 MiB, the disk has 1024 MiB free. Free some space, choose another disk, or export a smaller type with --dtype bf16, int8 or int4.", e.Message);
        PackageExporter.RequireFreeSpace("out", 1, 1);
        using SourceCheckpoint source = new();
        Assert.Contains("found i4", Assert.Throws<ArgumentException>(() => PackageExporter.Export(source, Out, new(DType.I4))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("\"format_version\": 1", "\"format_version\": 3", "has format version 3, this program reads up to 2")]
    [InlineData("\"format\": \"iptnative-package\"", "\"format\": \"other\"", "This is no package of iptnative's")]
    [InlineData("\"dtype\":", "\"dtype\"", "found broken JSON")]
    [InlineData("\"model.onnx\":", "\"../model.onnx\":", "expected a plain name")]
    [InlineData("\"model.onnx_data\":", "\"model.data\":", "it lists no model.onnx_data")]
    [InlineData("\"shared.weight\": \"f32\"", "\"shared.weight\": \"int4\"", "package.json says int4")]
    [InlineData("\"tool\": ", "\"tool\": null, \"x\": ", "found broken JSON")]
    public void DamagedManifestsAreExplained(string old, string by, string message)
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new());
        string path = Path.Combine(Out, "package.json");
        string text = File.ReadAllText(path);
        Assert.Contains(old, text, StringComparison.Ordinal);
        File.WriteAllText(path, text.Replace(old, by, StringComparison.Ordinal));
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => OnnxCheckpoints.Open(Out).Dispose()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void CutAndMissingFilesAreExplained()
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new());
        string data = Path.Combine(Out, "model.onnx_data");
        using (FileStream file = new(data, FileMode.Open))
            file.SetLength(file.Length - 1);
        Assert.Contains("The copy is incomplete", Assert.Throws<InvalidDataException>(() => OnnxCheckpoints.Open(Out).Dispose()).Message, StringComparison.Ordinal);
        Assert.Contains("bytes, package.json says", Assert.Single(PackageVerifier.Verify(Out)), StringComparison.Ordinal);
        File.Delete(data);
        Assert.Contains("no such file", Assert.Throws<InvalidDataException>(() => OnnxCheckpoints.Open(Out).Dispose()).Message, StringComparison.Ordinal);
        Assert.Contains("the file is missing", Assert.Single(PackageVerifier.Verify(Out)), StringComparison.Ordinal);
    }

    [Fact]
    public void VerifyFindsOneFlippedBit()
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new());
        string data = Path.Combine(Out, "model.onnx_data");
        byte[] bytes = File.ReadAllBytes(data);
        bytes[12345] ^= 1;
        File.WriteAllBytes(data, bytes);
        OnnxCheckpoints.Open(Out).Dispose();
        Assert.Contains("The file was changed after the export", Assert.Single(PackageVerifier.Verify(Out)), StringComparison.Ordinal);
    }

    [Fact]
    public void FlippedGraphsDoNotEscape()
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new());
        string path = Path.Combine(Out, "model.onnx");
        byte[] bytes = File.ReadAllBytes(path);
        var random = new Random(3);
        for (int i = 0; i < 500; i++)
        {
            int at = random.Next(bytes.Length);
            byte old = bytes[at];
            bytes[at] ^= (byte)(1 << random.Next(8));
            File.WriteAllBytes(path, bytes);
            try
            {
                using Checkpoint found = OnnxCheckpoints.Open(Out);
                foreach (T5Parameter p in T5Parameters.Of(found.Config))
                    Assert.Equal(p.Shape, found[p.Name].Shape);
            }
            catch (InvalidDataException e)
            {
                Assert.StartsWith(Out, e.Message, StringComparison.Ordinal);
            }
            bytes[at] = old;
        }
    }

    [Fact]
    public void UnknownParametersAreNamed()
    {
        using SourceCheckpoint source = new();
        PackageExporter.Export(source, Out, new());
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        Assert.Contains("reading tensor 'decoder.nothing'", Assert.Throws<InvalidDataException>(() => package["decoder.nothing"]).Message, StringComparison.Ordinal);
        package.Dispose();
        Assert.Throws<ObjectDisposedException>(() => package[Q]);
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private string[] Entries() => [.. Directory.GetFileSystemEntries(_root).Select(e => Path.GetFileName(e)!)];

    private sealed class Sink(Action<PackageProgress> report) : IProgress<PackageProgress>
    {
        public void Report(PackageProgress value) => report(value);
    }
}
