// A whole prompt-tuning step where memory is not the host's, against the same step on the CPU: losses, prompt gradients, refusals, where NaN comes from.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class DeviceStepTests
{
    // Both are float32 and sum in different orders; the project's bound for the whole model.
    private const double Tolerance = 2e-5;

    [Theory]
    [InlineData(nameof(OddShapes.TiedRelu), Activations.Full)]
    [InlineData(nameof(OddShapes.WideHeads), Activations.Blocks)]
    [InlineData(nameof(OddShapes.ThinHeads), Activations.Sublayers)]
    public void LossAndGradientAreTheCpus(string shape, Activations activations)
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.Named(shape), seed: 5);
        using ComputeDevice device = HostAcceleratorDevice.Create();
        using var cpu = new CpuDevice(1);
        using var here = new Step(checkpoint, cpu, new GradientOptions { Activations = activations });
        using var there = new Step(checkpoint, device, new GradientOptions { Activations = activations });
        Near(here, there);
    }

    private static void Near(Step expected, Step actual)
    {
        (float[] gradient, double[] loss) = expected.Run();
        (float[] itsGradient, double[] itsLoss) = actual.Run();
        Assert.Equal(loss[0], itsLoss[0], Tolerance * loss[0]);
        Assert.Equal(loss[1], itsLoss[1], Tolerance * loss[1]);
        Goldens.Near([.. gradient.Select(v => (double)v)], itsGradient, Tolerance * gradient.Max(Math.Abs), "prompt gradient");
    }
}
