using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Config;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Model.Onnx.Graph;
using IptNative.Model.Tests.Reference;
using Xunit;

namespace IptNative.Model.Tests.Forward;

/// <summary>Odd sizes, ragged batches and prompts, three formulations: the fused graphs, the package's plain graph, loops in double.</summary>
public sealed unsafe class FrozenT5ShapeTests
{
    // Logits are of size 1 to 10, sums of at most 53 float32 products through up to twelve sublayers: 1e2 eps times 10 is 6e-5.
    private const double Tolerance = 1e-4;

    /// <summary>Each shape with each engine.</summary>
    public static TheoryData<string, ForwardEngine> Generated
    {
        get
        {
            var data = new TheoryData<string, ForwardEngine>();
            foreach (TheoryDataRow<string> shape in Shapes)
            {
                data.Add(shape.Data, ForwardEngine.Ort);
                data.Add(shape.Data, ForwardEngine.Native);
            }
            return data;
        }
    }

    public static TheoryData<string> Shapes => [nameof(OddShapes.TiedRelu), nameof(OddShapes.OneHead), nameof(OddShapes.WideHeads), nameof(OddShapes.ThinHeads)];

    [Theory]
    [MemberData(nameof(Shapes))]
    public void ThreeFormulationsAgree(string shape)
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Random(OddShapes.Named(shape), seed: 7);
        T5Config config = checkpoint.Config;
        using FrozenT5 model = FrozenT5.Load(checkpoint);
        using PromptMemory prompts = Prompts(model);
        T5Batch batch = Ragged(config);
        EncodedBatch encoded = model.Encode(batch, prompts.Table);
        DecodedBatch decoded = model.Score(encoded, batch);
        int B = encoded.Batch, S = encoded.SourceLength, T = decoded.TargetLength, D = config.DModel;
        float[] embeds = PromptMemory.Floats(encoded.InputsEmbeds).ToArray();
        int[] mask = PromptMemory.Ints(encoded.Mask).ToArray();
        int[] ids = Shifted(config, PromptMemory.Ints(decoded.Labels), T);

        using var plain = new PlainGraph(checkpoint);
        float[] logits = PromptMemory.Floats(decoded.Logits).ToArray();
        Goldens.Near([.. plain.Logits(embeds, mask, ids, B, S, T).Select(v => (double)v)], logits, Tolerance, "plain graph");

        var reference = new ReferenceT5(checkpoint);
        for (int b = 0; b < B; b++)
        {
            double[][] rows = [.. embeds.AsSpan(b * S * D, S * D).ToArray().Chunk(D).Select(r => r.Select(v => (double)v).ToArray())];
            bool[] read = [.. mask.AsSpan(b * S, S).ToArray().Select(v => v == 1)];
            double[][] expected = reference.Decode(ids[(b * T)..((b + 1) * T)], reference.Encode(rows, read), read);
            Goldens.Near([.. expected.SelectMany(r => r)], logits.AsSpan(b * T * config.VocabSize, T * config.VocabSize), Tolerance, $"reference, example {b}");
        }
    }

    [Theory]
    [MemberData(nameof(Generated))]
    public void StepsEqualTheWholeDecoder(string shape, ForwardEngine engine)
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Random(OddShapes.Named(shape), seed: 8);
        T5Config config = checkpoint.Config;
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Generation = engine });
        using PromptMemory prompts = Prompts(model);
        // 35 steps: the cache doubles twice, from 16 to 32 to 64.
        T5Batch batch = Ragged(config, targets: 35);
        EncodedBatch encoded = model.Encode(batch, prompts.Table);
        DecodedBatch decoded = model.Score(encoded, batch);
        int T = decoded.TargetLength, V = config.VocabSize;
        int[] ids = Shifted(config, PromptMemory.Ints(decoded.Labels), T);
        float[] whole = PromptMemory.Floats(decoded.Logits).ToArray();
        using IStepDecoder steps = model.StartDecoding(encoded);
        for (int t = 0; t < T; t++)
        {
            float[] logits = steps.DecodeNext([.. Enumerable.Range(0, 3).Select(b => ids[b * T + t])]).ToArray();
            for (int b = 0; b < 3; b++)
                Goldens.Near([.. whole.AsSpan((b * T + t) * V, V).ToArray().Select(v => (double)v)], logits.AsSpan(b * V, V), Tolerance, $"step {t}, row {b}");
        }
    }

    [Fact]
    public void ABatchEqualsItsExamplesOneByOne()
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 9);
        using FrozenT5 model = FrozenT5.Load(checkpoint);
        using PromptMemory prompts = Prompts(model);
        T5Batch batch = Ragged(model.Config);
        DecodedBatch decoded = model.Score(model.Encode(batch, prompts.Table), batch);
        int V = model.Config.VocabSize, T = decoded.TargetLength;
        float[] together = PromptMemory.Floats(decoded.Logits).ToArray();
        var one = new T5Batch();
        for (int b = 0; b < batch.Count; b++)
        {
            one.Clear();
            one.Add(batch.InputIds(b), batch.Labels(b), batch.Prompt(b), batch.PromptPosition(b));
            DecodedBatch alone = model.Score(model.Encode(one, prompts.Table), one);
            int n = alone.TargetLength * V;
            // Padding weighs exactly 0; only the grouping of sums inside a GEMM depends on the number of rows.
            Goldens.Near([.. PromptMemory.Floats(alone.Logits).ToArray().Select(v => (double)v)], together.AsSpan(b * T * V, n), 5e-6, $"example {b}");
        }
    }

    [Theory]
    [InlineData("beams within each text", new[] { 1, 1, 0, 3, 5, 4, 7, 7, 7 })]
    [InlineData("a text finished", new[] { 2, 1, 8, 6 })]
    [InlineData("uneven rows", new[] { 0, 4, 4, 3, 8 })]
    [InlineData("texts out of order", new[] { 6, 0, 3 })]
    [InlineData("more rows than before", new[] { 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8 })]
    public void ReorderGoesOnFromTheChosenRows(string what, int[] sources)
    {
        GoesOn(what, sources, ForwardEngine.Ort);
        GoesOn(what, sources, ForwardEngine.Native);
    }

    private static void GoesOn(string what, int[] sources, ForwardEngine engine)
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Random(OddShapes.WideHeads, seed: 10);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Generation = engine });
        using PromptMemory prompts = Prompts(model);
        EncodedBatch encoded = model.Encode(Ragged(model.Config), prompts.Table);
        int V = model.Config.VocabSize;
        using IStepDecoder beams = model.StartDecoding(encoded, beamsPerExample: 3);
        Assert.Equal((9, V), (beams.Rows, beams.VocabSize));
        int[][] history = [[.. Enumerable.Repeat(0, 9)], [.. Enumerable.Range(1, 9)]];
        foreach (int[] tokens in history)
            beams.DecodeNext(tokens);
        beams.Reorder(sources);
        beams.Reorder([.. Enumerable.Range(0, sources.Length)]);
        Assert.Equal(sources.Length, beams.Rows);
        int[] next = [.. sources.Select((_, r) => (r * 5 + 2) % V)];
        float[] logits = beams.DecodeNext(next).ToArray();
        float[] again = beams.DecodeNext(next).ToArray();

        // Each row on its own: a decoder over all texts that is fed this row's history.
        for (int r = 0; r < sources.Length; r++)
        {
            using IStepDecoder alone = model.StartDecoding(encoded);
            int text = sources[r] / 3;
            foreach (int[] tokens in history)
                alone.DecodeNext([.. Enumerable.Repeat(tokens[sources[r]], 3)]);
            int[] fed = [.. Enumerable.Repeat(next[r], 3)];
            Near(alone.DecodeNext(fed).Slice(text * V, V).ToArray(), logits.AsSpan(r * V, V), $"{what}, row {r}");
            Near(alone.DecodeNext(fed).Slice(text * V, V).ToArray(), again.AsSpan(r * V, V), $"{what}, row {r}, a step later");
        }

        // The same sums in GEMMs of other heights.
        static void Near(float[] expected, ReadOnlySpan<float> actual, string what) => Goldens.Near([.. expected.Select(v => (double)v)], actual, 1e-5, what);
    }

    [Fact]
    public void AFullyMaskedTextStaysFiniteAndEqualsHuggingFaces()
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Random(OddShapes.TiedRelu, seed: 11);
        T5Config c = checkpoint.Config;
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Generation = ForwardEngine.Ort });
        T5Batch batch = Ragged(c, prompts: false);
        // The public way in has no fully masked text: each has a position. So the mask is emptied behind its back, under the decoder.
        EncodedBatch encoded = model.Encode(batch);
        int S = encoded.SourceLength, D = c.DModel;
        var mask = new Span<int>((void*)encoded.Mask.Address, 3 * S);
        mask.Slice(S, S).Clear();
        using GraphBinding run = model.Session("encoder").Bind();
        using DeviceBuffer hidden = model.Device.Allocate(Kernels.DType.F32, 3L * S * D, "hidden");
        using DeviceBuffer bias = model.Device.Allocate(Kernels.DType.F32, (long)c.NumHeads * S * S, "bias");
        Kernels.Ops.RelativePositionBias.Forward(model.Device, model.BiasTable("encoder"), bias.Tensor, c.RelativeAttentionNumBuckets, c.NumHeads, S, S, true, c.RelativeAttentionMaxDistance);
        run.Input(T5RuntimeGraph.InputsEmbeds, encoded.InputsEmbeds, 3, S, D);
        run.Input(T5RuntimeGraph.KeyMask, encoded.Mask, 3, S);
        run.Input(T5RuntimeGraph.PositionBias, bias.Tensor, 1, c.NumHeads, S, S);
        run.Output(T5RuntimeGraph.EncoderHidden, hidden.Tensor, 3, S, D);
        run.Run();
        PromptMemory.Floats(hidden.Tensor).CopyTo(new Span<float>((void*)encoded.Hidden.Address, 3 * S * D));
        DecodedBatch decoded = model.Score(encoded, batch);
        int T = decoded.TargetLength;
        float[] logits = PromptMemory.Floats(decoded.Logits).ToArray();
        Assert.All(logits, v => Assert.True(float.IsFinite(v)));

        using var plain = new PlainGraph(checkpoint);
        float[] expected = plain.Logits(PromptMemory.Floats(encoded.InputsEmbeds).ToArray(), mask.ToArray(), Shifted(c, PromptMemory.Ints(decoded.Labels), T), 3, S, T);
        Goldens.Near([.. expected.Select(v => (double)v)], logits, Tolerance, "fully masked");

        using IStepDecoder steps = model.StartDecoding(encoded);
        float[] first = steps.DecodeNext([0, 0, 0]).ToArray();
        Goldens.Near([.. expected.AsSpan(T * c.VocabSize, c.VocabSize).ToArray().Select(v => (double)v)], first.AsSpan(c.VocabSize, c.VocabSize), Tolerance, "fully masked, first step");
    }

    [Fact]
    public void ARepeatedStepAllocatesNextToNothing()
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 12);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1 });
        using PromptMemory prompts = Prompts(model);
        // The longer one first: afterwards no buffer grows. Then they take turns, as batches of different lengths do in training.
        T5Batch[] batches = [Ragged(model.Config, targets: 9), Ragged(model.Config)];
        int turn = 0;
        for (int i = 0; i < 4; i++)
            Step();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10; i++)
            Step();
        long perStep = (GC.GetAllocatedBytesForCurrentThread() - before) / 10;
        // Nothing of ours; ONNX Runtime's binding may take a closure or two.
        Assert.InRange(perStep, 0, 256);

        void Step()
        {
            T5Batch batch = batches[turn++ % 2];
            model.Score(model.Encode(batch, prompts.Table, TapeDetail.Sublayers), batch, TapeDetail.Sublayers);
        }
    }

    private static PromptMemory Prompts(FrozenT5 model)
    {
        var random = new Random(3);
        int D = model.Config.DModel;
        return new PromptMemory(model.Device, D, [.. Enumerable.Range(0, 8 * D).Select(_ => (float)(2 * random.NextDouble() - 1))], 5, 0, 3);
    }

    // Three texts with other lengths, prompts and prompt positions; the second is the longest with its prompt, the third has none.
    private static T5Batch Ragged(T5Config config, int targets = 4, bool prompts = true)
    {
        var random = new Random(5);
        var batch = new T5Batch();
        batch.Add(Ids(9), Ids(targets), prompts ? 2 : -1, 4);
        batch.Add(Ids(13), Ids(targets - 3), prompts ? 0 : -1);
        batch.Add(Ids(1), Ids(1));
        return batch;

        int[] Ids(int n) => [.. Enumerable.Range(0, n).Select(_ => random.Next(config.VocabSize))];
    }

    private static int[] Shifted(T5Config config, ReadOnlySpan<int> labels, int T)
    {
        int[] ids = new int[labels.Length];
        for (int i = 0; i < ids.Length; i++)
            ids[i] = i % T == 0 ? config.DecoderStartTokenId : labels[i - 1] < 0 ? config.PadTokenId : labels[i - 1];
        return ids;
    }
}
