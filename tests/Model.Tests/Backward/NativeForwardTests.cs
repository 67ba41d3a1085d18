using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Blocks;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Backward;

/// <summary>The native forward pass against ONNX Runtime: every tensor of the tape, every example, on odd shapes and on the shipped checkpoint.</summary>
public sealed class NativeForwardTests
{
    // Both are float32 and sum in different orders; the project's bound for the whole model.
    private const double Tolerance = 2e-5;

    public static TheoryData<string, Activations> Ways()
    {
        var data = new TheoryData<string, Activations>();
        foreach (string shape in (string[])[nameof(OddShapes.TiedRelu), nameof(OddShapes.OneHead), nameof(OddShapes.WideHeads), nameof(OddShapes.ThinHeads), "shipped", "golden"])
        {
            foreach (Activations activations in Enum.GetValues<Activations>())
                data.Add(shape, activations);
        }
        return data;
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void EveryTensorOfTheTapeEqualsOnnxRuntimes(string shape, Activations activations)
    {
        using Checkpoint checkpoint = Open(shape);
        T5Config config = checkpoint.Config;
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1 });
        using var weights = new BlockWeights(model.Device, checkpoint);
        using var layers = new T5Layers(weights);
        using PromptMemory prompts = Prompts(model.Device, config);
        T5Batch batch = Batch(config);
        using var inputs = new PackedInputs(model.Device, config);
        inputs.Set(batch, prompts.Table);
        using var native = new NativeForward(layers, activations);
        using var runtime = new RuntimeForward(model.Runtime, activations);
        native.Run(batch, prompts.Table, inputs);
        runtime.Run(batch, prompts.Table, inputs);
        Near(runtime.EncoderOutput, native.EncoderOutput, "encoder output");
        Compare(runtime.Encoder, native.Encoder, "encoder");
        Compare(runtime.Decoder, native.Decoder, "decoder");
    }

    [Theory]
    [InlineData(nameof(OddShapes.TiedRelu))]
    [InlineData(nameof(OddShapes.WideHeads))]
    [InlineData("shipped")]
    public void AnExampleAloneGivesItsRowsOfTheBatch(string shape)
    {
        using Checkpoint checkpoint = Open(shape);
        T5Config config = checkpoint.Config;
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1 });
        using var weights = new BlockWeights(model.Device, checkpoint);
        using var layers = new T5Layers(weights);
        using PromptMemory prompts = Prompts(model.Device, config);
        T5Batch batch = Batch(config), one = new();
        using var inputs = new PackedInputs(model.Device, config);
        using var alone = new PackedInputs(model.Device, config);
        using var native = new NativeForward(layers, Activations.Blocks);
        inputs.Set(batch, prompts.Table);
        native.Run(batch, prompts.Table, inputs);
        float[] encoded = PromptMemory.Floats(native.EncoderOutput).ToArray(), decoded = PromptMemory.Floats(native.Decoder.Last).ToArray();
        for (int b = 0; b < batch.Count; b++)
        {
            one.Clear();
            one.Add(batch.InputIds(b), batch.Labels(b), batch.Prompt(b), batch.PromptPosition(b));
            alone.Set(one, prompts.Table);
            native.Run(one, prompts.Table, alone);
            Near(encoded.AsSpan(inputs.Sources.Offset(b) * config.DModel, inputs.Sources.Length(b) * config.DModel), PromptMemory.Floats(native.EncoderOutput), $"example {b}, encoder");
            Near(decoded.AsSpan(inputs.Targets.Offset(b) * config.DModel, inputs.Targets.Length(b) * config.DModel), PromptMemory.Floats(native.Decoder.Last), $"example {b}, decoder");
        }
    }

    internal static Checkpoint Open(string shape) => shape switch
    {
        "shipped" => Checkpoint.Open(Path.Combine(Goldens.Root(), "models", "t5-gym-tiny")),
        "golden" => Checkpoint.Open(Goldens.Folder),
        _ => MemoryCheckpoint.Random(OddShapes.Named(shape), seed: 5),
    };

    /// <summary>Ragged texts and prompts: one example without a prompt, one prompt of no rows, one in the middle of its text.</summary>
    internal static T5Batch Batch(T5Config config)
    {
        var random = new Random(4);
        var batch = new T5Batch();
        batch.Add(Ids(7), Ids(3), 0, 2);
        batch.Add(Ids(1), Ids(5), 2);
        batch.Add(Ids(4), Ids(1));
        batch.Add(Ids(2), Ids(2), 1);
        return batch;

        int[] Ids(int n) => [.. Enumerable.Range(0, n).Select(_ => random.Next(config.VocabSize))];
    }

    internal static PromptMemory Prompts(ComputeDevice device, T5Config config)
    {
        int[] lengths = [3, 0, 5];
        var random = new Random(8);
        return new PromptMemory(device, config.DModel, [.. Enumerable.Range(0, lengths.Sum() * config.DModel).Select(_ => (float)(2 * random.NextDouble() - 1))], lengths);
    }

    private static void Compare(StackTape expected, StackTape actual, string stack)
    {
        Near(expected.Last, actual.Last, $"{stack}'s last output");
        for (int i = 0; i < expected.Blocks * expected.SublayersPerBlock; i++)
        {
            int block = i / expected.SublayersPerBlock, layer = i % expected.SublayersPerBlock;
            SublayerTape e = expected[block, layer], a = actual[block, layer];
            string where = $"{stack}.block.{block}.layer.{layer}";
            Near(e.Input, a.Input, $"{where} input");
            Near(e.Query, a.Query, $"{where} q");
            Near(e.Key, a.Key, $"{where} k");
            Near(e.Value, a.Value, $"{where} v");
            Near(e.Gate, a.Gate, $"{where} gate");
            Near(e.Up, a.Up, $"{where} up");
        }
    }

    private static void Near(Tensor expected, Tensor actual, string what)
    {
        Assert.Equal(expected.IsEmpty, actual.IsEmpty);
        if (!expected.IsEmpty)
            Near(PromptMemory.Floats(expected), PromptMemory.Floats(actual), what);
    }

    private static void Near(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, string what)
    {
        double[] wanted = new double[expected.Length];
        double scale = 0;
        for (int i = 0; i < wanted.Length; i++)
        {
            wanted[i] = expected[i];
            scale = Math.Max(scale, Math.Abs(wanted[i]));
        }
        Goldens.Near(wanted, actual, Tolerance * scale, what);
    }
}
