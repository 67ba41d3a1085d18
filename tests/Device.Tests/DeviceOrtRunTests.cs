// Runs of `train` whose forward pass is ONNX Runtime's in the device's memory: the same losses and scores as on the CPU, over one copy of the weights; what such a
// run is refused before anything is written.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Training;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class DeviceOrtRunTests : IDisposable
{
    private readonly SmallModel _model = new(pieces: 92);

    [Fact]
    public void ItsLossesAndScoresAreTheCpus()
    {
        Heard here = new(), there = new();
        var notes = new List<string>();
        var place = new HostAcceleratorPlace();
        string[] ort = ["forward=ort", "training.steps=2"];
        TrainRunReport onCpu = TrainRun.Execute(_model.Run("here", overrides: ort), false, here, _ => { }, TestContext.Current.CancellationToken);
        TrainRunReport report = TrainRun.ExecuteOn(() => Placed(place), _model.Run("there", overrides: [.. ort, "device=auto"]), false, there, notes.Add, TestContext.Current.CancellationToken);
        Assert.Equal(StopReason.Steps, report.Outcomes[0].Stopped);
        Assert.Equal(2, there.Steps.Count);
        for (int i = 0; i < here.Steps.Count; i++)
        {
            // As in DeviceRunTests: float32 in another order, passed on by the optimizer.
            Assert.Equal(here.Steps[i].Loss, there.Steps[i].Loss, 1e-4 * here.Steps[i].Loss);
            Assert.Equal(here.Steps[i].GradientNorm, there.Steps[i].GradientNorm, 1e-3 * here.Steps[i].GradientNorm);
        }
        Assert.Equal(onCpu.Result.Rows[0].Scores["test"].Score, report.Result.Rows[0].Scores["test"].Score);
        Assert.Equal(here.Evaluations.Select(e => e.Step), there.Evaluations.Select(e => e.Step));
        // An encoder and a decoder pass for each step, and none for the answers.
        Assert.Equal((4, 4), place.Runs);
        Assert.Contains(notes, n => n.StartsWith("memory plan for ilgpu, ", StringComparison.Ordinal) && n.Contains("weights on ilgpu, ort forward, ", StringComparison.Ordinal));
        Assert.Contains(notes, n => n.StartsWith("forward by ONNX Runtime, weights on ilgpu, ", StringComparison.Ordinal));
    }

    /// <summary>ONNX Runtime, the backward sweep and the answers read the same bytes.</summary>
    [Fact]
    public void WeightsAreThereOnce()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 5);
        using HostAcceleratorDevice device = Placed(new HostAcceleratorPlace());
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device });
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = Model.Backward.ForwardEngine.Ort });
        var batch = new T5Batch();
        batch.Add([5, 6], [7]);
        double[] loss = [0];
        pass.Run(batch, null, [0], [1], loss, default);
        Assert.True(loss[0] > 0);
        using (IStepDecoder decoder = model.StartDecoding(model.Encode(batch)))
            decoder.DecodeNext([checkpoint.Config.DecoderStartTokenId]);
        Assert.Equal(Tuning.Memory.StoredWeights.Of(checkpoint).Bytes, pass.WeightBytes);
        Assert.InRange(model.HeldBytes, pass.WeightBytes, pass.WeightBytes + pass.Bytes);
    }

    /// <summary>What auto comes to decides, too; nothing of such a run is left behind.</summary>
    [Theory]
    [InlineData("weights=streamed", "device is \"auto\" and weights is streamed, which only the host does, expected none of it with a GPU.")]
    [InlineData("spill=spilled", "device is \"auto\" and spill names a folder for what the host cannot hold, expected none of it with a GPU.")]
    public void WhatOnlyTheHostDoesIsRefusedWhereAutoFoundAGpu(string option, string expected)
    {
        RunConfig config = _model.Run("refused", overrides: ["device=auto", option]);
        var e = Assert.Throws<ArgumentException>(() => TrainRun.ExecuteOn(() => HostAcceleratorDevice.Create(), config, false, new Heard(), _ => { }, TestContext.Current.CancellationToken));
        Assert.StartsWith(expected, e.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(config.Output));
    }

    [Fact]
    public void OnnxRuntimesBf16IsAGpus()
    {
        string[] options = ["forward=ort", "compute=bf16"];
        // Said by the options where they name the CPU, by the run where auto comes to it.
        Assert.Contains("forward is ort and compute is bf16, expected f32", Assert.Throws<InvalidDataException>(() => _model.Run("named", overrides: options)).Message, StringComparison.Ordinal);
        RunConfig config = _model.Run("auto", overrides: [.. options, "device=auto"]);
        var e = Assert.Throws<ArgumentException>(() => TrainRun.ExecuteOn(() => new CpuDevice(1), config, false, new Heard(), _ => { }, TestContext.Current.CancellationToken));
        Assert.StartsWith("forward is ort and compute is bf16, expected f32", e.Message, StringComparison.Ordinal);
        Assert.Equal("cuda:0", _model.Run("there", overrides: [.. options, "device=cuda:0"]).Device);
    }

    [Fact]
    public void ADeviceWithoutAProviderLeavesNoFolder()
    {
        RunConfig config = _model.Run("refused", overrides: ["forward=ort"]);
        var e = Assert.Throws<NotSupportedException>(() => TrainRun.ExecuteOn(() => HostAcceleratorDevice.Create(), config, false, new Heard(), _ => { }, TestContext.Current.CancellationToken));
        Assert.StartsWith("a forward pass by ONNX Runtime on ilgpu: it has no provider for this device", e.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(config.Output));
    }

    public void Dispose() => _model.Dispose();

    private static HostAcceleratorDevice Placed(RuntimePlace place)
    {
        HostAcceleratorDevice device = HostAcceleratorDevice.Create();
        RuntimePlace.Provide(device, place);
        return device;
    }
}
