using IptNative.Model.Backward;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Decoding;

/// <summary>In ONNX Runtime.</summary>
public sealed class RuntimeContinuousGenerationTests() : ContinuousGenerationTests(ForwardEngine.Ort);

/// <summary>In our own kernels.</summary>
public sealed class NativeContinuousGenerationTests() : ContinuousGenerationTests(ForwardEngine.Native);

/// <summary>Texts that join and leave at different steps, against the same texts generated alone.</summary>
public abstract class ContinuousGenerationTests : IDisposable
{
    private static readonly int Vocabulary = OddShapes.ThreeHeads.VocabSize, DModel = OddShapes.ThreeHeads.DModel;
    private static readonly int[] PromptLengths = [3, 1, 7];

    private readonly MemoryCheckpoint _checkpoint = MemoryCheckpoint.Random(OddShapes.ThreeHeads, seed: 5);
    private readonly FrozenT5 _model;
    private readonly PromptMemory _prompts;

    protected ContinuousGenerationTests(ForwardEngine engine)
    {
        _model = FrozenT5.Load(_checkpoint, new FrozenT5Options { Threads = 1, Generation = engine });
        var random = new Random(3);
        float[] values = [.. Enumerable.Range(0, PromptLengths.Sum() * DModel).Select(_ => (float)(random.NextDouble() - 0.5) * 4)];
        _prompts = new PromptMemory(_model.Device, DModel, values, PromptLengths);
    }

    private sealed class Reader(GenerationOptions options, long stream, int[] input, int prompt, int topLogProbs = 0, int endAt = int.MaxValue) : LiveRequest(options, stream, topLogProbs)
    {
        public int[] Input => input;

        public int Prompt => prompt;

        public List<int>[] Ids { get; } = [.. Enumerable.Range(0, options.NumReturnSequences).Select(_ => new List<int>())];

        public List<float> LogProbs { get; } = [];

        public List<TokenLogProb[]> Tops { get; } = [];

        public FinishReason?[] Reasons { get; } = new FinishReason?[options.NumReturnSequences];

        public Exception? Error { get; private set; }

        public bool Wanted { get; set; } = true;

        public override bool IsWanted => Wanted && Error is null;

        public override bool Read(int sample, TokenLogProb token, ReadOnlySpan<TokenLogProb> top)
        {
            Assert.True(IsWanted);
            Ids[sample].Add(token.Id);
            if (sample == 0)
            {
                LogProbs.Add(token.LogProb);
                Tops.Add(top.ToArray());
            }
            return Ids[sample].Count < endAt;
        }

        public override void Finished(int sample, FinishReason reason) => Reasons[sample] = reason;

        public override void Failed(Exception reason) => Error = reason;
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void ATextIsWhatItIsAlone(int seed)
    {
        var random = new Random(seed);
        Reader[] readers = [.. Enumerable.Range(0, 23).Select(i => new Reader(
            new GenerationOptions { MaxLength = random.Next(1, 40), MinLength = 0, DoSample = i % 3 > 0, NumReturnSequences = i % 3 == 2 ? 3 : 1, Temperature = 1.5, TopK = i % 2 * 9, Seed = i },
            stream: i, Ids(random, random.Next(1, 30)), prompt: random.Next(-1, PromptLengths.Length)))];
        using var generation = new ContinuousGeneration(_checkpoint, _model.Device);
        int joined = 0;
        int together = 0;
        while (joined < readers.Length || generation.Rows > 0)
        {
            int count = Math.Min(random.Next(0, 4), readers.Length - joined);
            Join(generation, readers[joined..(joined + count)]);
            joined += count;
            together = Math.Max(together, generation.Rows);
            generation.Step();
        }

        Assert.True(together >= 8, $"at most {together} texts were alive at a time");
        foreach (Reader reader in readers)
        {
            IReadOnlyList<GeneratedSequence> alone = Alone(reader);
            for (int sample = 0; sample < alone.Count; sample++)
            {
                Assert.Equal(alone[sample].Ids, reader.Ids[sample]);
                Assert.Equal(alone[sample].Finish, reader.Reasons[sample]);
            }
            // Sums of up to 60 float32 products through a dozen sublayers, in another order: some tens of eps (6e-8) times logits of about 10.
            for (int i = 0; i < reader.LogProbs.Count; i++)
                Assert.Equal(alone[0].TokenLogProbs![i], reader.LogProbs[i], 3e-5); // log probabilities were asked for
        }
    }

    [Fact]
    public void WhoLeavesDisturbsNobody()
    {
        var random = new Random(9);
        Reader[] readers = [.. Enumerable.Range(0, 9).Select(i => new Reader(new GenerationOptions { MaxLength = 30, MinLength = 29, DoSample = true, TopK = 0, NumReturnSequences = 1 + i % 2, Seed = i }, i, Ids(random, 3 * i + 1), i % 3))];
        using var generation = new ContinuousGeneration(_checkpoint, _model.Device);
        Join(generation, readers[..4]);
        // Before its first step, in the middle, and two samples at once.
        readers[1].Wanted = false;
        for (int step = 0; step < 12; step++)
        {
            if (step == 3) Join(generation, readers[4..]);
            if (step == 5) (readers[0].Wanted, readers[7].Wanted) = (false, false);
            generation.Step();
        }
        while (generation.Rows > 0) generation.Step();

        Assert.Empty(readers[1].Ids[0]);
        Assert.Equal(5, readers[0].Ids[0].Count);
        foreach (int i in (int[])[2, 3, 4, 5, 6, 8])
            Assert.Equal(Alone(readers[i]).Select(s => s.Ids), readers[i].Ids.Select(l => l.ToArray()));
    }

    [Fact]
    public void AReaderEndsItsTextAndIsToldTheLikeliestTokens()
    {
        var reader = new Reader(new GenerationOptions { MaxLength = 20, MinLength = 19 }, 0, [5, 6, 7, 1], 0, topLogProbs: 3, endAt: 4);
        using var generation = new ContinuousGeneration(_checkpoint, _model.Device);
        Join(generation, [reader]);
        while (generation.Rows > 0) generation.Step();
        Assert.Equal(4, reader.Ids[0].Count);
        Assert.Null(reader.Reasons[0]);
        for (int i = 0; i < 4; i++)
        {
            TokenLogProb[] top = reader.Tops[i];
            Assert.Equal(3, top.Length);
            Assert.True(top[0].LogProb >= top[1].LogProb && top[1].LogProb >= top[2].LogProb);
            // Greedy: the first, save where it is the end that may not come yet.
            Assert.Equal(reader.Ids[0][i], top[0].Id == 1 ? top[1].Id : top[0].Id);
        }
    }

    [Fact]
    public void BrokenNumbersFailTheirOwnRequestOnly()
    {
        float[] values = new float[2 * DModel];
        values.AsSpan(0, DModel).Fill(float.NaN);
        values.AsSpan(DModel).Fill(0.25f);
        using var prompts = new PromptMemory(_model.Device, DModel, values, [1, 1]);
        var options = new GenerationOptions { MaxLength = 6 };
        Reader broken = new(options with { DoSample = true, NumReturnSequences = 2 }, 0, [9, 8, 1], 0), sound = new(options, 1, [9, 8, 1], 1);
        using var generation = new ContinuousGeneration(_checkpoint, _model.Device);
        Join(generation, [broken, sound], prompts.Table);
        while (generation.Rows > 0) generation.Step();
        Assert.Contains("not finite", broken.Error?.Message, StringComparison.Ordinal);
        Assert.Null(sound.Error);
        Assert.NotNull(sound.Reasons[0]);
    }

    [Fact]
    public void AllCanBeFailedAndOthersComeAfter()
    {
        Reader first = new(new GenerationOptions { MaxLength = 9, MinLength = 8 }, 0, [4, 1], -1), second = new(new GenerationOptions { MaxLength = 9, MinLength = 8 }, 0, [4, 1], -1);
        using var generation = new ContinuousGeneration(_checkpoint, _model.Device);
        Join(generation, [first]);
        generation.Step();
        generation.FailAll(new InvalidDataException("gone"));
        Assert.Equal("gone", first.Error?.Message);
        Join(generation, [second]);
        while (generation.Rows > 0) generation.Step();
        Assert.Equal(Alone(second)[0].Ids, second.Ids[0]);
    }

    [Fact]
    public void BeamsAndMismatchedCountsAreRefused()
    {
        Assert.Contains("expected 1. Beams compete", Assert.Throws<ArgumentException>(() => new Reader(new GenerationOptions { NumBeams = 2 }, 0, [1], -1)).Message, StringComparison.Ordinal);
        using var generation = new ContinuousGeneration(_checkpoint, _model.Device);
        var batch = new T5Batch();
        batch.Add([3, 1]);
        Assert.Contains("found 1 examples and 0 requests", Assert.Throws<ArgumentException>(() => generation.Join(batch, null, [])).Message, StringComparison.Ordinal);
    }

    public void Dispose()
    {
        _prompts.Dispose();
        _model.Dispose();
        _checkpoint.Dispose();
        GC.SuppressFinalize(this);
    }

    private void Join(ContinuousGeneration generation, Reader[] readers, PromptTable? prompts = null)
    {
        var batch = new T5Batch();
        foreach (Reader reader in readers)
            batch.Add(reader.Input, prompt: reader.Prompt);
        generation.Join(batch, prompts ?? _prompts.Table, readers);
    }

    private IReadOnlyList<GeneratedSequence> Alone(Reader reader)
    {
        var batch = new T5Batch();
        batch.Add(reader.Input, prompt: reader.Prompt);
        using IStepDecoder decoder = _model.StartDecoding(_model.Encode(batch, _prompts.Table));
        return Generator.Generate(decoder, reader.Options with { ReturnLogProbs = true }, 0, 1, [reader.Stream])[0];
    }

    private static int[] Ids(Random random, int length) => [.. Enumerable.Range(0, length - 1).Select(_ => random.Next(2, Vocabulary)), 1];
}
