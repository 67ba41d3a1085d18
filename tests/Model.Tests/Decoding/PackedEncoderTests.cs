using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Blocks;
using IptNative.Model.Config;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Decoding;

/// <summary>The packed encoder against the one that training computes with: the same bits, whoever joins at the same time.</summary>
public sealed class PackedEncoderTests
{
    [Theory]
    [InlineData(true, false, 1)]
    [InlineData(true, true, 2)]
    [InlineData(false, true, 1)]
    public void IsTheTrainingEncoderBitForBit(bool gated, bool relu, int threads)
    {
        T5Config config = OddShapes.ThreeHeads with { NumLayers = 3, NumDecoderLayers = 1, IsGated = gated, IsRelu = relu };
        MemoryCheckpoint checkpoint = MemoryCheckpoint.Random(config, seed: 5);
        using var device = new CpuDevice(threads);
        using var weights = new BlockWeights(device, checkpoint);
        using var layers = new T5Layers(weights);
        using var training = new NativeForward(layers, null);
        using var shared = new PackedWeights();
        using var packed = new PackedEncoder(layers, ComputeType.F32, shared);
        using var second = new PackedEncoder(layers, ComputeType.F32, shared);
        using var inputs = new PackedInputs(device, checkpoint.Config);
        var random = new Random(7);
        int[] prompts = [3, 7];
        using var memory = new PromptMemory(device, config.DModel, [.. Enumerable.Range(0, prompts.Sum() * config.DModel).Select(_ => (float)random.NextDouble() - 0.5f)], prompts);
        int[][] texts = [.. new[] { 1, 40, 17, 3, 90 }.Select(n => Enumerable.Range(0, n).Select(_ => random.Next(2, config.VocabSize)).ToArray())];
        var batch = new T5Batch();
        for (int i = 0; i < texts.Length; i++)
            batch.Add(texts[i], prompt: i % 3 - 1);
        inputs.SetSources(batch, memory.Table);
        training.EncodeBatch(memory.Table, inputs);
        float[] expected = Floats(device, training.EncoderOutput);
        Assert.Equal(expected, Floats(device, packed.Encode(memory.Table, inputs)));
        Assert.Equal(expected, Floats(device, second.Encode(memory.Table, inputs)));

        // The last text alone is what it was in company.
        var alone = new T5Batch();
        alone.Add(texts[^1], prompt: (texts.Length - 1) % 3 - 1);
        inputs.SetSources(alone, memory.Table);
        float[] last = Floats(device, packed.Encode(memory.Table, inputs));
        Assert.Equal(expected[^last.Length..], last);
    }

    private static float[] Floats(CpuDevice device, Tensor tensor)
    {
        float[] values = new float[tensor.Elements];
        device.CopyToHost(tensor, System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan()));
        return values;
    }
}
