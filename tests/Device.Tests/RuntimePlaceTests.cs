// Devices that ONNX Runtime has no provider for, and the order of its runs with ours.
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class RuntimePlaceTests
{
    [Fact]
    public void ADeviceWithoutAProviderIsRefusedBeforeAnyWeightGoesThere()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 5);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1 });
        using HostAcceleratorDevice device = HostAcceleratorDevice.Create();
        long free = device.FreeBytes!.Value; // it says so
        Assert.Equal("a forward pass by ONNX Runtime on ilgpu: it has no provider for this device, expected the CPU or CUDA. Use --forward native, or --device cpu.",
            Assert.Throws<NotSupportedException>(() => new GradientPass(checkpoint, model, new GradientOptions { Device = device, Forward = ForwardEngine.Ort })).Message);
        Assert.Equal(free, device.FreeBytes);
        Assert.Null(device.Cuda);
    }

    /// <summary>Encoder and decoder, each put in order with what is before and behind it.</summary>
    [Fact]
    public void EveryRunIsBegunAndEnded()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 5);
        using HostAcceleratorDevice device = HostAcceleratorDevice.Create();
        var place = new HostAcceleratorPlace();
        using var step = new Step(checkpoint, device, new GradientOptions(), place);
        step.Run();
        Assert.Equal((2, 2), place.Runs);
    }
}
