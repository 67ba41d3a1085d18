// int8 and int4 packages: what is rounded and by how much, the same numbers in every reader, and what is refused.
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Model.Onnx;
using IptNative.Model.Onnx.Package;
using IptNative.Model.Tests.Forward;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Tensor = IptNative.Kernels.Devices.Tensor;
using Xunit;

namespace IptNative.Model.Tests.Package;

public sealed unsafe class QuantisedPackageTests : IDisposable
{
    private const string Q = "encoder.block.0.layer.0.SelfAttention.q.weight";
    private readonly string _root = Directory.CreateTempSubdirectory("iptnative-quantised-").FullName;

    private static string Gym => Path.Combine(Goldens.Root(), "models", "t5-gym-tiny");

    private string Out => Path.Combine(_root, "t5");

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Theory]
    [InlineData(DType.I8)]
    [InlineData(DType.U4)]
    public void EachNumberIsHalfAStepOffAtMost(DType format)
    {
        using Checkpoint source = Export(format);
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        foreach (T5Parameter p in T5Parameters.Of(source.Config))
        {
            Weight found = package[p.Name];
            DType stored = WeightFormats.Stored(p, format);
            Assert.Equal(stored, found.DType);
            Assert.Equal(stored == format, p.Name.EndsWith("wi_0.weight", StringComparison.Ordinal) || p.Name.EndsWith("wi_1.weight", StringComparison.Ordinal) || p.Name.Contains("Attention.", StringComparison.Ordinal) && p.Shape.Rank == 2 && !p.Name.Contains("relative", StringComparison.Ordinal));
            if (stored != format)
                continue;
            Assert.Equal(0, found.Address % 64);
            float[] expected = WeightValues.ToFloats(source[p.Name], "source"), actual = WeightValues.ToFloats(found, "package");
            float* scales = (float*)found.Scales.Address;
            for (int i = 0; i < expected.Length; i++)
            {
                // 4 bits: the zero point is rounded too, and moves the range by up to half a step, which the outermost code then lacks.
                double bound = scales[i / found.Scales.Block] * (format == DType.U4 ? 1.0 : 0.5) * (1 + 1e-5);
                Assert.True(Math.Abs(actual[i] - expected[i]) <= bound, $"{p.Name}[{i}] is {actual[i]:R}, expected {expected[i]:R} within {bound:R}");
            }
        }
    }

    [Theory]
    [InlineData(DType.I8)]
    [InlineData(DType.U4)]
    public void TheKernelsExpandToTheSameNumbers(DType format)
    {
        using Checkpoint source = Export(format);
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        using var device = new CpuDevice(1);
        Weight weight = package[Q];
        using DeviceBuffer expanded = device.Allocate(DType.F32, weight.Shape.Elements, "test");
        Dequantisation.Forward(device, new Tensor(device, weight.Address, weight.DType, weight.Shape.Elements) { Scales = weight.Scales }, expanded.Tensor);
        Assert.Equal(WeightValues.ToFloats(weight, "package"), new ReadOnlySpan<float>((void*)expanded.Tensor.Address, (int)weight.Shape.Elements).ToArray());
    }

    // Any runtime of opset 21 can run it: DequantizeLinear with blocks. Ours reads the same bytes through the packing loop.
    [Theory]
    [InlineData(DType.I8)]
    [InlineData(DType.U4)]
    public void OnnxRuntimeAndOurKernelsAgree(DType format)
    {
        using Checkpoint source = Export(format);
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        string plain = Path.Combine(_root, "plain");
        PackageExporter.Export(package, plain, new(DType.F32));
        int d = package.Config.DModel;
        (float[] x, long[] mask, long[] ids) = (new float[5 * d], [1, 1, 1, 1, 1], [0, 7, 9]);
        for (int i = 0; i < x.Length; i++)
            x[i] = MathF.Sin(i);
        double[][] logits = new double[2][];
        string[] folders = [Out, plain];
        for (int i = 0; i < folders.Length; i++)
        {
            using SessionOptions options = new() { IntraOpNumThreads = 1 };
            using InferenceSession session = new(Path.Combine(folders[i], "model.onnx"), options);
            using var results = session.Run([
                NamedOnnxValue.CreateFromTensor("inputs_embeds", new DenseTensor<float>(x, [1, 5, d])),
                NamedOnnxValue.CreateFromTensor("attention_mask", new DenseTensor<long>(mask, [1, 5])),
                NamedOnnxValue.CreateFromTensor("decoder_input_ids", new DenseTensor<long>(ids, [1, 3]))]);
            logits[i] = [.. results[0].AsEnumerable<float>()];
        }
        double scale = logits[1].Max(Math.Abs);
        // The same f32 weights in the same runtime, which may only fuse the two graphs differently.
        for (int i = 0; i < logits[0].Length; i++)
            Assert.Equal(logits[1][i], logits[0][i], 1e-5 * scale);
    }

    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.I8)]
    [InlineData(DType.U4)]
    public void GradientsEqualThoseOfTheExpandedWeights(DType format)
    {
        using Checkpoint source = Export(format);
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        string plain = Path.Combine(_root, "plain");
        PackageExporter.Export(package, plain, new(DType.F32));
        using Checkpoint expanded = OnnxCheckpoints.Open(plain);
        float[] expected = Gradient(expanded, ForwardEngine.Native, WeightResidence.Mapped, out double expectedLoss);
        // The same floats reach the same products: not one bit differs, wherever the weights are.
        foreach (WeightResidence residence in Enum.GetValues<WeightResidence>())
        {
            if (residence == WeightResidence.Streamed && !OperatingSystem.IsLinux())
                continue;
            Assert.Equal(expected, Gradient(package, ForwardEngine.Native, residence, out double loss));
            Assert.Equal(expectedLoss, loss);
        }
        float[] ort = Gradient(expanded, ForwardEngine.Ort, WeightResidence.Mapped, out _);
        float scale = expected.Max(Math.Abs);
        for (int i = 0; i < ort.Length; i++)
            Assert.True(Math.Abs(ort[i] - expected[i]) <= 2e-5 * scale, $"[{i}] {ort[i]} by ONNX Runtime, {expected[i]} by our kernels");
    }

    // Same floats, other order of sums: the text is that of ONNX Runtime on the expanded weights, and no weight is ever expanded for it.
    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    [InlineData(DType.I8)]
    [InlineData(DType.U4)]
    public void TextIsGeneratedFromTheBytesAsTheyAre(DType format)
    {
        using Checkpoint source = Export(format);
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        string plain = Path.Combine(_root, "plain");
        PackageExporter.Export(package, plain, new(DType.F32));
        using Checkpoint expanded = OnnxCheckpoints.Open(plain);
        using FrozenT5 model = FrozenT5.Load(package, new FrozenT5Options { Threads = 2 }), reference = FrozenT5.Load(expanded, new FrozenT5Options { Threads = 2, Generation = ForwardEngine.Ort });
        Assert.Equal((ForwardEngine.Native, ForwardEngine.Ort), (model.Generation, reference.Generation));
        foreach (GenerationOptions options in (GenerationOptions[])[new() { MaxLength = 12 }, new() { MaxLength = 12, NumBeams = 4 }, new() { MaxLength = 12, DoSample = true, Seed = 3 }])
            Assert.Equal(Texts(reference, options), Texts(model, options));
        Assert.Equal(0, model.ExpandedBytes);
        if (!OperatingSystem.IsLinux())
            return;
        // Streamed, the weights of one block at a time.
        using (new GradientPass(package, model, new GradientOptions { Forward = ForwardEngine.Native, Weights = WeightResidence.Streamed }))
            Assert.Equal(Texts(reference, new() { MaxLength = 12 }), Texts(model, new() { MaxLength = 12 }));

        static string[] Texts(FrozenT5 model, GenerationOptions options)
        {
            var batch = new T5Batch();
            var random = new Random(2);
            for (int b = 0; b < 5; b++)
                batch.Add([.. Enumerable.Range(0, 3 + 4 * b).Select(_ => random.Next(3, 2000)), 1]);
            using IStepDecoder decoder = model.StartDecoding(model.Encode(batch));
            return [.. Generator.Generate(decoder, options, 0, 1).Select(s => string.Join(' ', s[0].Ids))];
        }
    }

    [Fact]
    public void OnnxRuntimeExpandsOnlyWhenAllowed()
    {
        using Checkpoint source = Export(DType.I8);
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        var batch = new T5Batch();
        batch.Add([3, 4, 5]);
        using (FrozenT5 strict = FrozenT5.Load(package, new FrozenT5Options { Threads = 1, Generation = ForwardEngine.Ort }))
        {
            string message = Assert.Throws<InvalidDataException>(() => strict.Encode(batch)).Message;
            Assert.Contains("is int8, its CPU kernels take f32. Choose --forward native", message, StringComparison.Ordinal);
        }
        var told = new List<string>();
        using FrozenT5 model = FrozenT5.Load(package, new FrozenT5Options { Threads = 1, Generation = ForwardEngine.Ort, ExpandQuantised = told.Add });
        model.Encode(batch);
        Assert.Contains("are expanded as they are needed", Assert.Single(told), StringComparison.Ordinal);
        // Unless told otherwise, our own kernels answer, float32 weights too.
        using FrozenT5 plain = FrozenT5.Load(source, new FrozenT5Options { Threads = 1 });
        Assert.Equal(ForwardEngine.Native, plain.Generation);
    }

    [Fact]
    public void OddRowsKeepSixteenBits()
    {
        using SourceCheckpoint source = new(); // rows of 32: one block, and a row's zero points would not be whole bytes
        PackageExporter.Export(source, Out, new(DType.U4));
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        Assert.Equal(DType.BF16, package[Q].DType);
        PackageExporter.Export(source, Out, new(DType.I8, Overwrite: true));
        using Checkpoint eight = OnnxCheckpoints.Open(Out);
        Assert.Equal((DType.I8, 32), (eight[Q].DType, eight[Q].Scales.Block));
    }

    [Fact]
    public void PackagesOfFloatsStayReadableByOlderPrograms()
    {
        using Checkpoint source = Export(DType.BF16);
        Assert.Contains("\"format_version\": 1,", File.ReadAllText(Path.Combine(Out, "package.json")), StringComparison.Ordinal);
        PackageExporter.Export(source, Out, new(DType.U4, Overwrite: true));
        Assert.Contains("\"format_version\": 2,", File.ReadAllText(Path.Combine(Out, "package.json")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(DType.I8)]
    [InlineData(DType.U4)]
    public void AScaleThatIsNotFiniteIsFound(DType format)
    {
        using (Export(format))
        {
        }
        long at;
        using (Checkpoint package = OnnxCheckpoints.Open(Out))
            at = package[Q].Scales.Address + 12 - package[T5Parameters.Shared].Address; // the data file begins with the embeddings
        using (FileStream file = new(Path.Combine(Out, "model.onnx_data"), FileMode.Open))
        {
            file.Position = at;
            file.Write(BitConverter.GetBytes(float.NaN));
        }
        using Checkpoint damaged = OnnxCheckpoints.Open(Out);
        int block = format == DType.I8 ? 64 : 32;
        string message = Assert.Throws<InvalidDataException>(() => damaged.CheckFinite(releasePages: true)).Message;
        Assert.Contains($"tensor '{Q}' [128, 128] has a NaN or infinity among its scales, in the block of element {3 * block}", message, StringComparison.Ordinal);
    }

    [Fact]
    public void ScalesOfAnotherLengthAreRefused()
    {
        using Checkpoint source = Export(DType.U4);
        // The graph as a hand might change it: the scales' last dimension halved, their length too.
        IReadOnlyList<PackageTensor> plan = PackageExporter.Plan(source.Config, DType.U4);
        string scale = PackageTensor.ScaleOf(Q), zero = PackageTensor.ZeroPointOf(Q);
        foreach ((string name, string expected) in ((string, string)[])[(scale, $"its scale tensor '{scale}' has shape [128, 2], expected one scale for every 32 elements of a row"), (zero, $"tensor '{zero}' is u4 [128, 2], expected u4 [128, 4]")])
        {
            PackageTensor[] changed = [.. plan.Select(t => t.Name == name ? t with { Shape = new(t.Shape[0], t.Shape[1] / 2), Length = t.Length / 2 } : t)];
            byte[] graph = IptNative.Model.Onnx.Graph.T5PackageGraph.Build(source.Config, changed);
            ReplaceGraph(graph);
            Assert.Contains(expected, Assert.Throws<InvalidDataException>(() => OnnxCheckpoints.Open(Out).Dispose()).Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(WeightResidence.Mapped)]
    [InlineData(WeightResidence.Streamed)]
    public void ATruncatedOrRewrittenFileIsAnErrorNotACrash(WeightResidence residence)
    {
        if (!OperatingSystem.IsLinux())
            return; // elsewhere a mapped file cannot be truncated
        using Checkpoint source = Export(DType.U4);
        string data = Path.Combine(Out, "model.onnx_data");
        using Checkpoint package = OnnxCheckpoints.Open(Out);
        using FrozenT5 model = FrozenT5.Load(package, new FrozenT5Options { Threads = 1 });
        using var pass = new GradientPass(package, model, new GradientOptions { Forward = ForwardEngine.Native, Weights = residence });
        var batch = new T5Batch();
        batch.Add([3, 4, 5], [6, 1]);
        double[] loss = [0];
        pass.Run(batch, null, [0], [1], loss, default);
        using IStepDecoder decoder = model.StartDecoding(model.Encode(batch));
        decoder.DecodeNext([0]);
        using (FileStream file = new(data, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            file.SetLength(1 << 20);
        foreach (Action use in (Action[])[() => pass.Run(batch, null, [0], [1], loss, default), () => model.Encode(batch), () => decoder.DecodeNext([0])])
            Assert.Contains("Something truncated or rewrote it while it was in use", Assert.Throws<IOException>(use).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OnnxRuntimeCannotStream()
    {
        using Checkpoint source = OnnxCheckpoints.Open(Gym);
        using FrozenT5 model = FrozenT5.Load(source, new FrozenT5Options { Threads = 1 });
        Assert.Contains("--forward native", Assert.Throws<ArgumentException>(() => new GradientPass(source, model, new GradientOptions { Weights = WeightResidence.Streamed })).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("f32")]
    [InlineData("f16")]
    [InlineData("bf16")]
    [InlineData("int8")]
    [InlineData("int4")]
    public void RandomPackagesOpenAndRun(string format)
    {
        var json = (JsonObject)T5Shapes.Named("small").Source.DeepClone();
        (json["num_layers"], json["num_decoder_layers"], json["vocab_size"]) = (2, 1, 1000);
        T5Config config = T5Config.Parse(json, "test");
        Directory.CreateDirectory(Out);
        RandomPackage.Write(config, Out, WeightFormats.Parse(format)!.Value);
        using Checkpoint package = Checkpoint.Open(Out, new CheckpointOpenOptions { ReleasePages = true });
        float[] gradient = Gradient(package, ForwardEngine.Native, WeightResidence.Mapped, out double loss);
        Assert.All(gradient, g => Assert.True(float.IsFinite(g)));
        // Unit variance into the head gives logits of unit variance: ln V + 1/2, give or take four tokens' luck.
        Assert.Equal(Math.Log(config.VocabSize) + 0.5, loss, 2.5);
        Assert.InRange(RandomPackage.Bytes(config, WeightFormats.Parse(format)!.Value), 1, long.MaxValue);
    }

    private Checkpoint Export(DType format)
    {
        Checkpoint source = OnnxCheckpoints.Open(Gym);
        PackageExporter.Export(source, Out, new(format));
        return source;
    }

    private void ReplaceGraph(byte[] graph)
    {
        string path = Path.Combine(Out, "model.onnx"), manifest = Path.Combine(Out, "package.json");
        File.WriteAllBytes(path, graph);
        string text = File.ReadAllText(manifest);
        int at = text.IndexOf("\"model.onnx\": {", StringComparison.Ordinal);
        File.WriteAllText(manifest, text[..at] + new Regex("\"bytes\": [0-9]+").Replace(text[at..], $"\"bytes\": {graph.Length}", 1));
    }

    // Two examples of other lengths that share a prompt; the mean loss's gradient.
    private static float[] Gradient(Checkpoint checkpoint, ForwardEngine engine, WeightResidence residence, out double loss)
    {
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 2 });
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = engine, Weights = residence, Activations = Activations.Blocks });
        int d = checkpoint.Config.DModel, elements = 3 * d;
        var random = new Random(5);
        using var prompts = new PromptMemory(model.Device, d, [.. Enumerable.Range(0, elements).Select(_ => random.NextSingle() - 0.5f)], [3]);
        using DeviceBuffer gradient = model.Device.Allocate(DType.F32, elements, "gradient");
        Elementwise.Fill(model.Device, gradient.Tensor, elements, 0);
        var batch = new T5Batch();
        batch.Add([11, 12, 13, 14, 1], [21, 1], 0);
        batch.Add([31, 1], [22, 1], 0);
        double[] sum = [0];
        pass.Run(batch, prompts.Table, [0, 0], [0.25], sum, gradient.Tensor);
        loss = sum[0];
        return PromptMemory.Floats(gradient.Tensor).ToArray();
    }
}
