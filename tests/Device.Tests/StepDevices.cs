// The devices that whole steps are tested on: host threads, with memory that the host cannot touch, and an NVIDIA GPU where ILGPU's package is.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Forward;
#if !ILGPU_EMULATION
using Xunit;
#endif

namespace IptNative.Device.Tests;

/// <summary>Makes a device.</summary>
public interface IStepDevice
{
    static abstract ComputeDevice Create();

    /// <summary>ONNX Runtime in the device's memory; a <see cref="RuntimePlace"/>.</summary>
    static abstract object Place(ComputeDevice device);
}

public sealed class HostStepDevice : IStepDevice
{
    public static ComputeDevice Create() => HostAcceleratorDevice.Create();

    public static object Place(ComputeDevice device) => new HostAcceleratorPlace();
}

/// <summary>ONNX Runtime's CPU kernels in the memory of the host's accelerator, which it must be told by other addresses than the tensors say.</summary>
internal sealed class HostAcceleratorPlace : RuntimePlace
{
    /// <summary>Runs begun and ended.</summary>
    public (int Begun, int Ended) Runs { get; private set; }

    public override string Name => "ilgpu";

    public override void Begin() => Runs = Runs with { Begun = Runs.Begun + 1 };

    public override void End(Microsoft.ML.OnnxRuntime.OrtIoBinding binding) => Runs = Runs with { Ended = Runs.Ended + 1 };

    protected override nint Address(in Tensor tensor) => HostAcceleratorDevice.HostAddress(tensor);
}

public sealed class IlgpuStepTests : DeviceStepTests<HostStepDevice>;

#if !ILGPU_EMULATION
public sealed class CudaStepDevice : IStepDevice
{
    public static ComputeDevice Create()
    {
        var driver = CudaDriver.Query();
        Assert.SkipWhen(driver.Problem.Length > 0, driver.Problem);
        return DeviceChoice.Parse("cuda:0").Open(1, ComputeType.F32, out _);
    }

    public static object Place(ComputeDevice device)
    {
        try
        {
            return RuntimePlace.Of(device);
        }
        catch (NotSupportedException e)
        {
            Assert.Skip(e.Message);
            throw;
        }
    }
}

public sealed class CudaStepTests : DeviceStepTests<CudaStepDevice>;
#endif
