// Whole answers where memory is not the host's, against the same answers on the CPU: greedy, beams, samples, every weight format, texts that come and go;
// one copy of the weights beside training; refusals, and memory that ends.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Device.Tests;

public abstract class DeviceAnswerTests<TDevice>
    where TDevice : IStepDevice
{
    // Log probabilities of a few tokens: both devices sum float32, each in its own order.
    private const double Tolerance = 2e-4;

    private static readonly GenerationOptions Greedy = new() { MaxLength = 5, ReturnLogProbs = true };

    [Theory]
    [InlineData(nameof(OddShapes.TiedRelu))]
    [InlineData(nameof(OddShapes.OneHead))]
    [InlineData(nameof(OddShapes.WideHeads))]
    [InlineData(nameof(OddShapes.ThinHeads))]
    public void GreedyAnswersAreTheCpus(string shape)
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.Named(shape), seed: 5);
        AreTheCpus(checkpoint, Greedy);
    }

    /// <summary>Beams take each other's cache; long ones outgrow it, finished ones leave.</summary>
    [Theory]
    [InlineData(nameof(OddShapes.OneHead), 2, 18)]
    [InlineData(nameof(OddShapes.TiedRelu), 3, 3)]
    public void BeamsAreTheCpus(string shape, int beams, int length)
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.Named(shape), seed: 6);
        AreTheCpus(checkpoint, new GenerationOptions { MaxLength = length, NumBeams = beams, NumReturnSequences = 2, ReturnLogProbs = true });
    }

    /// <summary>The same random numbers meet almost the same logits.</summary>
    [Fact]
    public void SamplesAreTheCpus()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.ThinHeads, seed: 7);
        AreTheCpus(checkpoint, new GenerationOptions { MaxLength = 4, DoSample = true, TopK = 9, Temperature = 1.3, NumReturnSequences = 2, Seed = 4, ReturnLogProbs = true });
    }

    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    [InlineData(DType.I8)]
    [InlineData(DType.U4)]
    public void EveryWeightFormatIsReadAsItIsStored(DType format)
    {
        using var package = new FixturePackage(format);
        AreTheCpus(package.Checkpoint, Greedy with { MaxLength = 2 });
    }

    /// <summary>Texts that join between steps, with prompts, and leave.</summary>
    [Fact]
    public void TextsComeAndGoThereToo()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.TiedRelu, seed: 8);
        using ComputeDevice device = TDevice.Create();
        using var cpu = new CpuDevice(1);
        (int[][] Ids, double Sum) here = Live(checkpoint, cpu), there = Live(checkpoint, device);
        Assert.Equal(here.Ids, there.Ids);
        Assert.Equal(here.Sum, there.Sum, 10 * Tolerance);
    }

    /// <summary>Training and answering read the same bytes.</summary>
    [Fact]
    public void WeightsAreThereOnce()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 5);
        using ComputeDevice device = TDevice.Create();
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device });
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = ForwardEngine.Native });
        long weights = pass.WeightBytes;
        Assert.True(weights > 0);
        Answers(model, null, Greedy with { MaxLength = 1 });
        Assert.Equal(weights, pass.WeightBytes);
        Assert.True(model.HeldBytes > weights);
    }

    /// <summary>Prompts of another device are brought for each batch.</summary>
    [Fact]
    public void PromptsMayLieOnTheHost()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 5);
        using ComputeDevice device = TDevice.Create();
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device });
        using var cpu = new CpuDevice(1);
        using PromptMemory here = Prompts(cpu, model), there = Prompts(device, model);
        GenerationOptions few = Greedy with { MaxLength = 2 };
        Assert.Equal(Ids(Answers(model, there.Table, few)), Ids(Answers(model, here.Table, few)));
    }

    [Fact]
    public void WhatOnlyTheCpuDoesIsRefused()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 5);
        using ComputeDevice device = TDevice.Create();
        var e = Assert.Throws<ArgumentException>(() => FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device, Generation = ForwardEngine.Ort }));
        Assert.StartsWith($"generating on {device.Name}: found ONNX Runtime, which generates on the CPU only, expected our own kernels. Use --forward native, or --device cpu.", e.Message, StringComparison.Ordinal);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device });
        var batch = new T5Batch();
        batch.Add([5, 6], [7]);
        var refused = Assert.Throws<NotSupportedException>(() => model.Encode(batch, null, TapeDetail.Blocks));
        Assert.StartsWith($"a pass of ONNX Runtime: found a model on {device.Name}, expected one on the CPU", refused.Message, StringComparison.Ordinal);
        EncodedBatch encoded = model.Encode(batch);
        Assert.Throws<NotSupportedException>(() => model.Score(encoded, batch));
    }

    private static void AreTheCpus(Checkpoint checkpoint, GenerationOptions options)
    {
        using ComputeDevice device = TDevice.Create();
        using FrozenT5 here = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1 }), there = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device });
        using PromptMemory itsPrompts = Prompts(here.Device, here), prompts = Prompts(device, there);
        IReadOnlyList<GeneratedSequence>[] expected = Answers(here, itsPrompts.Table, options), actual = Answers(there, prompts.Table, options);
        Assert.Equal(Ids(expected), Ids(actual));
        for (int e = 0; e < expected.Length; e++)
        {
            for (int i = 0; i < expected[e].Count; i++)
            {
                Assert.Equal(expected[e][i].Score, actual[e][i].Score, Tolerance);
                Assert.Equal(expected[e][i].Finish, actual[e][i].Finish);
                // Not null: log probabilities were asked for.
                Assert.All(expected[e][i].TokenLogProbs!.Zip(actual[e][i].TokenLogProbs!), p => Assert.Equal(p.First, p.Second, Tolerance));
            }
        }
    }

    private static int[][] Ids(IReadOnlyList<GeneratedSequence>[] answers) => [.. answers.SelectMany(a => a.Select(s => s.Ids))];

    // One example without a prompt, one prompt in the middle of its text, and a second batch in memory that the first one left.
    private static IReadOnlyList<GeneratedSequence>[] Answers(FrozenT5 model, PromptTable? prompts, GenerationOptions options)
    {
        var batch = new T5Batch();
        var random = new Random(3);
        IReadOnlyList<GeneratedSequence>[] answers = [];
        foreach (int[] lengths in (int[][])[[4, 1, 3], [18]])
        {
            batch.Clear();
            for (int i = 0; i < lengths.Length; i++)
                batch.Add([.. Enumerable.Range(0, lengths[i]).Select(_ => random.Next(model.Config.VocabSize))], default, prompts is null ? -1 : i - 1, i == 2 ? 1 : 0);
            EncodedBatch encoded = model.Encode(batch, prompts);
            using IStepDecoder decoder = model.StartDecoding(encoded);
            answers = [.. answers, .. Generator.Generate(decoder, options, model.Config.DecoderStartTokenId, model.Config.EosTokenId)];
        }
        return answers;
    }

    private static PromptMemory Prompts(ComputeDevice device, FrozenT5 model)
    {
        var random = new Random(9);
        return new PromptMemory(device, [.. ((int[])[2, 5]).Select(n => new Prompt([.. Enumerable.Range(0, n * model.Config.DModel).Select(_ => (float)(2 * random.NextDouble() - 1))], n, model.Config.DModel))]);
    }

    private static (int[][] Ids, double Sum) Live(Checkpoint checkpoint, ComputeDevice device)
    {
        using var generation = new ContinuousGeneration(checkpoint, device);
        int d = checkpoint.Config.DModel;
        using var prompts = new PromptMemory(device, new Prompt([.. Enumerable.Range(0, 3 * d).Select(i => 0.1f * (i % 7 - 3))], 3, d));
        var readers = new List<LiveReader>();
        for (int step = 0; step < 4 || generation.Rows > 0; step++)
        {
            if (step < 4)
            {
                var batch = new T5Batch();
                batch.Add([2 + step, 9, 4], default, prompt: step % 2 - 1);
                readers.Add(new LiveReader(new GenerationOptions { MaxLength = 3 + step, DoSample = step == 2, Seed = 1 }));
                generation.Join(batch, prompts.Table, [readers[^1]]);
            }
            generation.Step();
        }
        Assert.All(readers, r => Assert.Null(r.Error));
        return ([.. readers.Select(r => r.Ids.ToArray())], readers.Sum(r => r.Sum));
    }

    private sealed class LiveReader(GenerationOptions options) : LiveRequest(options, stream: 0, topLogProbs: 0)
    {
        public List<int> Ids { get; } = [];

        public double Sum { get; private set; }

        public Exception? Error { get; private set; }

        public override bool IsWanted => Error is null;

        public override bool Read(int sample, TokenLogProb token, ReadOnlySpan<TokenLogProb> top)
        {
            Ids.Add(token.Id);
            Sum += token.LogProb;
            return true;
        }

        public override void Finished(int sample, FinishReason reason)
        {
            // What was read says it.
        }

        public override void Failed(Exception reason) => Error = reason;
    }
}

public sealed class IlgpuAnswerTests : DeviceAnswerTests<HostStepDevice>
{
    /// <summary>Blocks that are kept for the next texts make room before anything is refused; then the largest pieces are named, and the model goes on.</summary>
    [Fact]
    public void MemoryThatEndsIsNamedAndKeptBlocksGoFirst()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 5);
        using HostAcceleratorDevice device = HostAcceleratorDevice.Create();
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device });
        var batch = new T5Batch();
        for (int i = 0; i < 4; i++)
            batch.Add([5, 6, 7]);
        EncodedBatch encoded = model.Encode(batch);
        model.StartDecoding(encoded).Dispose();
        long kept = device.FreeBytes!.Value; // it knows
        model.ReleaseIdle();
        long block = (device.FreeBytes!.Value - kept) / 8; // four texts and four rows, of one size
        Assert.True(block > 0);
        // Small blocks are kept again; a larger one fits only where they were.
        model.StartDecoding(encoded).Dispose();
        batch.Clear();
        batch.Add([.. Enumerable.Repeat(5, 40)]);
        encoded = model.Encode(batch);
        device.Memory -= device.FreeBytes!.Value - block;
        using (model.StartDecoding(encoded))
        {
            // It has what was kept.
        }
        model.ReleaseIdle();
        device.Memory -= device.FreeBytes!.Value - block;
        var e = Assert.Throws<InsufficientMemoryException>(() => model.StartDecoding(encoded));
        Assert.Matches(@"^keys and values of a text: taking \d+ bytes on ilgpu failed; \d+ of \d+ bytes are free\. Largest so far: \S+.*Use a smaller batch", e.Message);
        device.Memory = 1 << 30;
        using IStepDecoder decoder = model.StartDecoding(encoded);
        Assert.Equal(checkpoint.Config.VocabSize, decoder.DecodeNext([checkpoint.Config.DecoderStartTokenId]).Length);
    }
}

#if !ILGPU_EMULATION
public sealed class CudaAnswerTests : DeviceAnswerTests<CudaStepDevice>;
#endif
