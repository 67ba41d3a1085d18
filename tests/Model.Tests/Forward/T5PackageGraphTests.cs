using IptNative.Kernels;
using IptNative.Model.Config;
using IptNative.Model.Onnx;
using IptNative.Model.Onnx.Graph;
using Xunit;

namespace IptNative.Model.Tests.Forward;

public sealed class T5PackageGraphTests
{
    [Fact]
    public void LogitsEqualHuggingFaces()
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Golden();
        using var graph = new PlainGraph(checkpoint);
        Npy embeds = Goldens.Load("encoder_hidden");
        int[] ids = Goldens.Load("input_ids").Ints;
        int width = checkpoint.Config.DModel, prompt = 10, text = 24, batch = 4, source = prompt + text;
        int[] textMask = Goldens.Load("attention_mask").Ints;
        int[] mask = [.. Enumerable.Range(0, batch).SelectMany(b => Enumerable.Repeat(1, prompt).Concat(textMask.AsSpan(b * text, text).ToArray()))];
        float[] first = embeds.Floats[..(batch * source * width)];
        float[] logits = graph.Logits(first, mask, Goldens.Load("decoder_input_ids").Ints, batch, source, 7);
        // Logits reach 26; float32 through four blocks loses about 40 eps of that. PyTorch's own float32 differs by 1e-5.
        Goldens.Near(Goldens.Load("logits64").Doubles, logits, 5e-5, "logits");
        Assert.Equal(batch * text, ids.Length);
    }

    [Fact]
    public void HalfWeightsAreCastInTheGraph()
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Golden("model_bf16.safetensors");
        using var graph = new PlainGraph(checkpoint);
        float[] logits = graph.Logits(new float[3 * checkpoint.Config.DModel], [1, 1, 1], [0, 5], 1, 3, 2);
        Assert.All(logits, v => Assert.True(float.IsFinite(v)));
    }

    [Fact]
    public void MissingTensorIsNamed()
    {
        var config = T5Config.Load(Path.Combine(Goldens.Folder, "config.json"));
        ArgumentException e = Assert.Throws<ArgumentException>(() => T5PackageGraph.Build(config, []));
        Assert.Contains("tensor 'shared.weight' [128, 32] is missing", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void WrongShapeNamesBoth()
    {
        var config = T5Config.Load(Path.Combine(Goldens.Folder, "config.json"));
        ArgumentException e = Assert.Throws<ArgumentException>(() => T5PackageGraph.Build(config, [new PackageTensor("shared.weight", DType.F32, new TensorShape(7, 32), "x", 0, 896)]));
        Assert.Contains("has shape [7, 32], the configuration implies [128, 32]", e.Message, StringComparison.Ordinal);
    }
}
