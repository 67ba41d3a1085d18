using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using IptNative.Model.Tests.Reference;
using Xunit;

namespace IptNative.Model.Tests.Backward;

/// <summary>Odd sizes, ragged prompts, every engine and tape, against central differences of a T5 in double loops.</summary>
public sealed unsafe class GradientPassTests
{
    // float32 against float64, max norm, through at most four blocks: the project's bound for the whole model.
    private const double Tolerance = 2e-5;

    private static readonly int[] Lengths = [3, 0, 2];

    public static TheoryData<string, ForwardEngine, Activations> Ways()
    {
        var data = new TheoryData<string, ForwardEngine, Activations>();
        foreach (string shape in (string[])[nameof(OddShapes.TiedRelu), nameof(OddShapes.OneHead), nameof(OddShapes.WideHeads), nameof(OddShapes.ThinHeads)])
        {
            foreach (ForwardEngine engine in Enum.GetValues<ForwardEngine>())
            {
                foreach (Activations activations in Enum.GetValues<Activations>())
                    data.Add(shape, engine, activations);
            }
        }
        return data;
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void GradientsEqualCentralDifferencesOfTheReference(string shape, ForwardEngine engine, Activations activations)
    {
        using var t = new Trial(OddShapes.Named(shape), engine, activations);
        double[] weights = [0.5, 1.0 / 3];
        float[] ours = t.Gradient(weights, out double[] loss);

        double[] table = [.. PromptMemory.Floats(t.Prompts.Table.Values).ToArray().Select(v => (double)v)];
        double[] expectedLoss = Reference(t, table);
        Assert.Equal(weights[0] * expectedLoss[0], loss[0], 1e-5 * Math.Abs(loss[0]));
        Assert.Equal(weights[1] * expectedLoss[1], loss[1], 1e-5 * Math.Abs(loss[1]));
        double[] expected = new double[table.Length];
        for (int i = 0; i < table.Length; i++)
        {
            // Third derivatives are of size 1 here: the difference is off by h^2 = 1e-8 and by 1e-16 / h.
            const double H = 1e-4;
            double at = table[i];
            table[i] = at + H;
            double[] above = Reference(t, table);
            table[i] = at - H;
            double[] below = Reference(t, table);
            table[i] = at;
            for (int g = 0; g < 2; g++)
                expected[i] += weights[g] * (above[g] - below[g]) / (2 * H);
        }
        double scale = expected.Max(Math.Abs);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(ours[i] - expected[i]) <= Tolerance * scale, $"prompt value {i}: {ours[i]:g9}, expected {expected[i]:g9}, largest {scale:g3}");
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void MicroBatchesAddUpToTheBatch(string shape, ForwardEngine engine, Activations activations)
    {
        using var t = new Trial(OddShapes.Named(shape), engine, activations);
        double[] weights = [0.5, 1.0 / 3];
        float[] whole = t.Gradient(weights, out double[] wholeLoss);
        t.Clear();
        double[] loss = [0, 0];
        var one = new T5Batch();
        for (int b = 0; b < t.Batch.Count; b++)
        {
            one.Clear();
            one.Add(t.Batch.InputIds(b), t.Batch.Labels(b), t.Batch.Prompt(b), t.Batch.PromptPosition(b));
            t.Pass.Run(one, t.Prompts.Table, t.Groups.AsSpan(b, 1), weights, loss, t.Gradients);
        }
        // Other heights of the same products: only the grouping of float sums inside a GEMM differs.
        float scale = whole.Max(Math.Abs);
        Assert.Equal(wholeLoss[0] + wholeLoss[1], loss[0] + loss[1], 1e-5 * Math.Abs(wholeLoss[0]));
        float[] parts = PromptMemory.Floats(t.Gradients).ToArray();
        for (int i = 0; i < whole.Length; i++)
            Assert.True(Math.Abs(whole[i] - parts[i]) <= 1e-5f * scale, $"prompt value {i}: {parts[i]:g9}, expected {whole[i]:g9}");
    }

    [Fact]
    public void ARepeatedStepAllocatesNothingInOurKernels()
    {
        using var t = new Trial(OddShapes.WideHeads, ForwardEngine.Native, Activations.Sublayers);
        double[] weights = [1, 1], loss = [0, 0];
        t.Pass.Run(t.Batch, t.Prompts.Table, t.Groups, weights, loss, t.Gradients);
        t.Pass.Run(t.Batch, t.Prompts.Table, t.Groups, weights, loss, t.Gradients);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10; i++)
            t.Pass.Run(t.Batch, t.Prompts.Table, t.Groups, weights, loss, t.Gradients);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Theory]
    [InlineData("encoder.block.1.layer.0.layer_norm.weight", "encoder.block.1.layer.0, forward")]
    [InlineData("decoder.block.0.layer.2.DenseReluDense.wo.weight", "decoder.block.0.layer.2, forward")]
    [InlineData("lm_head.weight", "lm_head and cross entropy, forward")]
    public void ANumberThatIsNotFiniteIsLocated(string poisoned, string expected)
    {
        using var t = new Trial(OddShapes.ThinHeads, ForwardEngine.Ort, Activations.Full);
        Assert.Null(t.Pass.FindNonFinite(t.Batch, t.Prompts.Table));
        *(float*)t.Checkpoint[poisoned].Address = float.NaN;
        Assert.Equal(expected, t.Pass.FindNonFinite(t.Batch, t.Prompts.Table));
    }

    [Fact]
    public void AnExampleWithoutALabelThatCountsIsRefused()
    {
        using var t = new Trial(OddShapes.OneHead, ForwardEngine.Native, Activations.Full);
        var batch = new T5Batch();
        batch.Add([1, 2], [T5Batch.Ignore]);
        var e = Assert.Throws<ArgumentException>(() => t.Pass.Run(batch, null, [0], [1.0], new double[1], default));
        Assert.StartsWith("scoring a batch: example 0 has no label that counts", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AGroupWithoutAWeightIsRefused()
    {
        using var t = new Trial(OddShapes.OneHead, ForwardEngine.Native, Activations.Full);
        var e = Assert.Throws<ArgumentException>(() => t.Pass.Run(t.Batch, t.Prompts.Table, [0, 2, 0, 1], [1, 1], new double[2], t.Gradients));
        Assert.StartsWith("GradientPass: example 1 is in group 2, expected 0 to 1.", e.Message, StringComparison.Ordinal);
    }

    // Loss of each group: sums over tokens in double.
    private static double[] Reference(Trial t, double[] table)
    {
        T5Config c = t.Checkpoint.Config;
        var reference = new ReferenceT5(t.Checkpoint);
        double[][] shared = [.. t.Checkpoint.Floats(T5Parameters.Shared).Chunk(c.DModel).Select(r => r.Select(v => (double)v).ToArray())];
        double[] sums = [0, 0];
        for (int b = 0; b < t.Batch.Count; b++)
        {
            List<double[]> rows = [.. t.Batch.InputIds(b).ToArray().Select(id => shared[id])];
            int prompt = t.Batch.Prompt(b);
            if (prompt >= 0)
                rows.InsertRange(t.Batch.PromptPosition(b), table.Chunk(c.DModel).Skip(t.Prompts.Table.First(prompt)).Take(t.Prompts.Table.Length(prompt)));
            bool[] read = [.. rows.Select(_ => true)];
            int[] labels = t.Batch.Labels(b).ToArray();
            int[] inputs = new int[labels.Length];
            InputAssembler.ShiftRight(labels, inputs, c);
            double[][] logits = reference.Decode(inputs, reference.Encode([.. rows], read), read);
            for (int i = 0; i < labels.Length; i++)
            {
                if (labels[i] == T5Batch.Ignore)
                    continue;
                double top = logits[i].Max();
                sums[t.Groups[b]] += top + Math.Log(logits[i].Sum(v => Math.Exp(v - top))) - logits[i][labels[i]];
            }
        }
        return sums;
    }

    private sealed class Trial : IDisposable
    {
        private readonly FrozenT5 _model;
        private readonly DeviceBuffer _gradients;

        public Trial(T5Config config, ForwardEngine engine, Activations activations)
        {
            Checkpoint = MemoryCheckpoint.Random(config, seed: 21);
            _model = FrozenT5.Load(Checkpoint, new FrozenT5Options { Threads = 1 });
            var random = new Random(3);
            Prompts = new PromptMemory(_model.Device, config.DModel, [.. Enumerable.Range(0, Lengths.Sum() * config.DModel).Select(_ => (float)(2 * random.NextDouble() - 1))], Lengths);
            _gradients = _model.Device.Allocate(DType.F32, Prompts.Table.Values.Elements, "gradient");
            Clear();
            // Two examples share a prompt, in two groups; one has none; one label in the middle and one at the end do not count.
            Batch.Add(Ids(6), [1, T5Batch.Ignore, 2], 0, 2);
            Batch.Add(Ids(3), [3, 4, 5, T5Batch.Ignore], 2);
            Batch.Add(Ids(1), [6]);
            Batch.Add(Ids(2), [7, 8], 0);
            Groups = [0, 1, 0, 1];
            Pass = new GradientPass(Checkpoint, _model, new GradientOptions { Forward = engine, Activations = activations });

            int[] Ids(int n) => [.. Enumerable.Range(0, n).Select(_ => random.Next(config.VocabSize))];
        }

        public MemoryCheckpoint Checkpoint { get; }

        public PromptMemory Prompts { get; }

        public T5Batch Batch { get; } = new();

        public int[] Groups { get; }

        public GradientPass Pass { get; }

        public Tensor Gradients => _gradients.Tensor;

        public void Clear() => Elementwise.Fill(_model.Device, _gradients.Tensor, _gradients.Tensor.Elements, 0);

        public float[] Gradient(double[] weights, out double[] loss)
        {
            Clear();
            loss = new double[weights.Length];
            Pass.Run(Batch, Prompts.Table, Groups, weights, loss, Gradients);
            return PromptMemory.Floats(Gradients).ToArray();
        }

        public void Dispose()
        {
            Pass.Dispose();
            _gradients.Dispose();
            Prompts.Dispose();
            _model.Dispose();
            Checkpoint.Dispose();
        }
    }
}
