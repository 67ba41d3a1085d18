// The suites' name for the device of HostAcceleratorDevice.cs.
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Tests.Gpu;

public sealed class IlgpuTestDevice : ITestDevice
{
    public static ComputeDevice Create(int threads) => HostAcceleratorDevice.Create();
}
