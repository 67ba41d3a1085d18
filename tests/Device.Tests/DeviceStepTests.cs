// A whole prompt-tuning step where memory is not the host's, against the same step on the CPU: losses, prompt gradients, refusals, where NaN comes from.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Device.Tests;

public abstract class DeviceStepTests<TDevice>
    where TDevice : IStepDevice
{
    // Both are float32 and sum in different orders; the project's bound for the whole model.
    private const double Tolerance = 2e-5;

    // A bf16 tape rounds what was almost the same to 8 bits: now and then to another neighbour, 2^-8 apart, of one number among many.
    private const double RoundedTolerance = 2e-3;

    [Theory]
    [InlineData(nameof(OddShapes.TiedRelu), Activations.Full)]
    [InlineData(nameof(OddShapes.OneHead), Activations.Full)]
    [InlineData(nameof(OddShapes.WideHeads), Activations.Blocks)]
    [InlineData(nameof(OddShapes.ThinHeads), Activations.Sublayers)]
    public void LossAndGradientAreTheCpus(string shape, Activations activations)
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.Named(shape), seed: 5);
        Near(checkpoint, new GradientOptions { Activations = activations }, Tolerance);
    }

    /// <summary>Weights stay as they are stored, codes with their scales: one copy, as many bytes as the file's.</summary>
    [Theory]
    [InlineData(DType.BF16, DType.F32)]
    [InlineData(DType.F16, DType.F32)]
    [InlineData(DType.I8, DType.F32)]
    [InlineData(DType.U4, DType.BF16)]
    public void EveryWeightFormatIsComputedWithAsItIsStored(DType format, DType tape)
    {
        using var package = new FixturePackage(format);
        long bytes = Near(package.Checkpoint, new GradientOptions { Tape = tape }, tape == DType.F32 ? Tolerance : RoundedTolerance);
        Assert.Equal(Tuning.Memory.StoredWeights.Of(package.Checkpoint).Bytes, bytes);
    }

    /// <summary>PyTorch's float64 gradient of the fixture's batch, without the CPU device in between.</summary>
    [Fact]
    public void TheFixturesLossAndPromptGradientAreMet()
    {
        using Checkpoint checkpoint = Checkpoint.Open(Goldens.Folder);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1 });
        using ComputeDevice device = TDevice.Create();
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Device = device, Forward = ForwardEngine.Native });
        Npy prompt = Goldens.Load("prompt"), ids = Goldens.Load("input_ids"), mask = Goldens.Load("attention_mask"), labels = Goldens.Load("labels");
        using DeviceBuffer values = device.Allocate(DType.F32, prompt.Floats.Length, "prompt"), gradient = device.Allocate(DType.F32, prompt.Floats.Length, "gradient");
        values.Tensor.CopyFrom<float>(prompt.Floats);
        gradient.Tensor.CopyFrom<float>(new float[prompt.Floats.Length]);
        var batch = new T5Batch();
        int tokens = 0, source = ids.Shape[1], target = labels.Shape[1];
        for (int b = 0; b < ids.Shape[0]; b++)
        {
            int length = mask.Ints.AsSpan(b * source, source).Count(1);
            int[] label = labels.Ints[(b * target)..((b + 1) * target)];
            batch.Add(ids.Ints.AsSpan(b * source, length), label, prompt: 0);
            tokens += GradientPass.CountedTokens(label);
        }
        double[] loss = [0];
        pass.Run(batch, new PromptTable(values.Tensor, prompt.Shape[1], prompt.Shape[0]), new int[batch.Count], [1.0 / tokens], loss, gradient.Tensor);
        double[] expected = Goldens.Load("grad_prompt64").Doubles;
        Assert.Equal(Goldens.Expected("loss64"), loss[0], 1e-5 * loss[0]);
        Goldens.Near(expected, gradient.Tensor.ToArray<float>(), Tolerance * expected.Max(Math.Abs), "prompt gradient");
    }

    /// <summary>As on the CPU: the sublayer and the direction.</summary>
    [Fact]
    public unsafe void WhereTheFirstNaNComesFromIsFoundThereToo()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.ThinHeads, seed: 5);
        *(float*)checkpoint["decoder.block.0.layer.2.DenseReluDense.wo.weight"].Address = float.NaN;
        using ComputeDevice device = TDevice.Create();
        using var step = new Step(checkpoint, device, new GradientOptions());
        Assert.False(double.IsFinite(step.Run().Loss[0]));
        Assert.Equal("decoder.block.0.layer.2, forward", step.Pass.FindNonFinite(step.Batch, step.Table));
    }

    /// <summary>ONNX Runtime reads the device's one copy of the weights and writes the tape there; the backward sweep goes on from it.</summary>
    [Theory]
    [InlineData(nameof(OddShapes.TiedRelu), Activations.Full)]
    [InlineData(nameof(OddShapes.OneHead), Activations.Full)]
    [InlineData(nameof(OddShapes.WideHeads), Activations.Blocks)]
    [InlineData(nameof(OddShapes.ThinHeads), Activations.Sublayers)]
    public void OnnxRuntimesForwardPassInTheDevicesMemoryIsTheCpus(string shape, Activations activations)
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.Named(shape), seed: 5);
        Near(checkpoint, new GradientOptions { Activations = activations }, Tolerance, ort: true);
    }

    /// <summary>Narrow weights are bound as they are stored and widened one by one in the graph.</summary>
    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void OnnxRuntimeReadsNarrowWeightsWhereTheyLie(DType format)
    {
        using var package = new FixturePackage(format);
        Assert.Equal(Tuning.Memory.StoredWeights.Of(package.Checkpoint).Bytes, Near(package.Checkpoint, new GradientOptions(), Tolerance, ort: true));
    }

    /// <summary>A second step of the same shape: memory that is bound already, and a prompt that has moved.</summary>
    [Fact]
    public void StepsFollowOneAnother()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 5);
        using ComputeDevice device = TDevice.Create();
        using var step = new Step(checkpoint, device, new GradientOptions(), (RuntimePlace)TDevice.Place(device));
        (float[] gradient, double[] loss) = step.Run();
        (float[] again, double[] lossAgain) = step.Run();
        Assert.Equal(loss, lossAgain);
        Assert.Equal(gradient, again);
        step.Table.Values.CopyFrom<float>(new float[step.Table.Values.Elements]);
        Assert.NotEqual(loss, step.Run().Loss);
    }

    [Fact]
    public void BothReadWhatTheOtherWrote()
    {
        using ComputeDevice device = TDevice.Create();
        // The emulation needs a second for a million elements of one pass.
        SharingProof proof = RuntimeSharing.Prove(device, (RuntimePlace)TDevice.Place(device), 1025);
        Assert.Equal((0, "", 64, 1025), (proof.Wrong, proof.First, proof.Rounds, proof.Elements));
        Assert.Equal(device.Name, proof.Device);
    }

    [Fact]
    public void CodesWithScalesAreRefusedForOnnxRuntime()
    {
        using var package = new FixturePackage(DType.I8);
        using FrozenT5 model = FrozenT5.Load(package.Checkpoint, new FrozenT5Options { Threads = 1 });
        using ComputeDevice device = TDevice.Create();
        RuntimePlace.Provide(device, (RuntimePlace)TDevice.Place(device));
        var options = new GradientOptions { Device = device, Forward = ForwardEngine.Ort };
        string message = Assert.Throws<NotSupportedException>(() => new GradientPass(package.Checkpoint, model, options)).Message;
        Assert.Contains($"a forward pass by ONNX Runtime on {device.Name}; '", message, StringComparison.Ordinal);
        Assert.EndsWith("is int8, expected f32, bf16 or f16. Choose --forward native, which reads the codes as they are, or export the checkpoint with --dtype bf16.", message, StringComparison.Ordinal);
    }

    [Fact]
    public void WhatTheHostIsNeededForIsRefused()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 5);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1 });
        using ComputeDevice device = TDevice.Create();
        var native = new GradientOptions { Device = device, Forward = ForwardEngine.Native };
        Refused(native with { Weights = WeightResidence.Streamed }, $"training on {device.Name}: found streamed weights, expected weights that the device holds. Use --weights auto with a smaller weight dtype (iptnative export --dtype int8), or --device cpu.");
        Refused(native with { SpillFolder = "there" }, $"training on {device.Name}: found a tape that is spilled to there, expected one that the device holds.");

        void Refused(GradientOptions options, string message) =>
            Assert.StartsWith(message, Assert.Throws<ArgumentException>(() => new GradientPass(checkpoint, model, options)).Message, StringComparison.Ordinal);
    }

    private static long Near(Checkpoint checkpoint, GradientOptions options, double tolerance, bool ort = false)
    {
        using ComputeDevice device = TDevice.Create();
        using var cpu = new CpuDevice(1);
        using var here = new Step(checkpoint, cpu, options);
        using var there = new Step(checkpoint, device, options, ort ? (RuntimePlace)TDevice.Place(device) : null);
        (float[] gradient, double[] loss) = here.Run();
        (float[] itsGradient, double[] itsLoss) = there.Run();
        Assert.Equal(loss[0], itsLoss[0], tolerance * loss[0]);
        Assert.Equal(loss[1], itsLoss[1], tolerance * loss[1]);
        Goldens.Near([.. gradient.Select(v => (double)v)], itsGradient, tolerance * gradient.Max(Math.Abs), "prompt gradient");
        Assert.Equal(0, here.Pass.WeightBytes);
        return there.Pass.WeightBytes;
    }
}
