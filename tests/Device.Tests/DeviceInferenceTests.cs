// What generate and evaluate do with a device of its own memory: texts as on the CPU, batches that fit, refusals before anything is copied.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Decoding;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Inference;
using IptNative.Tuning.Memory;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class DeviceInferenceTests : IDisposable
{
    private readonly SmallModel _model = new();

    [Fact]
    public void TextsAreTheCpus()
    {
        string[] texts = ["what is my balance", "play some jazz"];
        var options = new GenerationOptions { MaxLength = 2 };
        using ComputeDevice device = HostAcceleratorDevice.Create();
        using TextGenerator here = TextGenerator.Open(_model.Model, null, 1), there = TextGenerator.Open(_model.Model, null, 1, device: device);
        Assert.Equal(Outputs(here), Outputs(there));

        string[] Outputs(TextGenerator generator) => [.. generator.Generate(texts, options, 2, TestContext.Current.CancellationToken).SelectMany(b => b.Select(t => string.Join(' ', t.Sequence.Ids)))];
    }

    [Fact]
    public void AModelThatIsTooLargeIsRefusedWithWhatWouldFit()
    {
        // d_model 512, 6 + 6 layers: 308 MB in float32.
        StoredWeights weights = StoredWeights.Of(T5Shape("small"), Kernels.DType.F32);
        using HostAcceleratorDevice device = HostAcceleratorDevice.Create(memory: 560_000_000);
        var e = Assert.Throws<InsufficientMemoryException>(() => AnswerPlanner.Require(device, weights, promptRows: 0));
        Assert.Matches(@"^an answer does not fit into 560 MB of ilgpu: weights of 3\d\d MB and a text of 256 positions take \d+ MB, and a tenth is kept to spare\. Smallest change that fits: weights exported with --dtype bf16 \(\d+ MB\)\.$", e.Message);
        device.Memory = 270_000_000;
        e = Assert.Throws<InsufficientMemoryException>(() => AnswerPlanner.Require(device, weights, promptRows: 0));
        Assert.EndsWith("Nothing smaller fits either: use shorter inputs, a device with more memory, or --device cpu.", e.Message, StringComparison.Ordinal);
        Assert.Throws<InsufficientMemoryException>(() => TextGenerator.Open(_model.Model, null, 1, device: device));
        Assert.Equal(270_000_000, device.FreeBytes);
    }

    [Fact]
    public void AnEvaluationTakesAsManyTextsAsFit()
    {
        StoredWeights weights = StoredWeights.Of(T5Shape("small"), Kernels.DType.F32);
        var options = new EvaluationOptions();
        using HostAcceleratorDevice device = HostAcceleratorDevice.Create(memory: 4_000_000_000);
        Assert.Equal(options, Fit());
        device.Memory = 750_000_000;
        EvaluationOptions fewer = Fit();
        Assert.InRange(fewer.BatchSize, 2, 32);
        Assert.InRange(fewer.MaxBatchPositions, 200, 2048);
        device.Memory = 640_000_000;
        Assert.Equal(1, Fit().BatchSize);
        using var cpu = new CpuDevice(1);
        Assert.Same(options, AnswerPlanner.Fit(cpu, weights, options, 100, 200, 8));

        EvaluationOptions Fit() => AnswerPlanner.Fit(device, weights, options, promptRows: 100, longest: 200, tokens: 8);
    }

    /// <summary>The plan counts what the code takes; what it allows for code is nothing here.</summary>
    [Fact]
    public void ThePlanIsWhatIsTaken()
    {
        using Checkpoint checkpoint = Checkpoint.Open(_model.Model);
        using ComputeDevice device = HostAcceleratorDevice.Create();
        using var generator = TextGenerator.Open(_model.Model, null, 1, device: device);
        string text = string.Join(' ', Enumerable.Repeat("balance", 12));
        GeneratedText[] answers = [.. generator.Generate([text, text], new GenerationOptions { MaxLength = 1 }, 2, TestContext.Current.CancellationToken).SelectMany(b => b)];
        Assert.Equal(2, answers.Length);
        int positions = 2 * Model.Tokenizer.T5Tokenizer.Load(_model.Model, checkpoint.Config.VocabSize).Encode(text, addEos: true).Length;
        MemoryPlan plan = MemoryPlan.OfAnswers(new MemoryRequest { Weights = StoredWeights.Of(checkpoint), Device = "ilgpu", PromptRows = 0, AnswerPositions = positions, AnswerTexts = 2, AnswerTokens = 1 });
        long planned = plan.Total - plan.Lines.Single(l => l.What == "device code").Bytes;
        // Scratch is taken by the megabyte; ids, biases and places are not counted.
        Assert.InRange(device.PeakBytes, 0.8 * planned, 1.1 * planned + (1 << 20) + 30_000);
    }

    public void Dispose() => _model.Dispose();

    private static T5Config T5Shape(string name) => T5Shapes.Named(name);
}
