// The devices that whole steps are tested on: host threads, with memory that the host cannot touch, and an NVIDIA GPU where ILGPU's package is.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests.Gpu;
#if !ILGPU_EMULATION
using Xunit;
#endif

namespace IptNative.Device.Tests;

/// <summary>Makes a device.</summary>
public interface IStepDevice
{
    static abstract ComputeDevice Create();
}

public sealed class HostStepDevice : IStepDevice
{
    public static ComputeDevice Create() => HostAcceleratorDevice.Create();
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
}

public sealed class CudaStepTests : DeviceStepTests<CudaStepDevice>;
#endif
