using Xunit;

namespace IptNative.Kernels.Tests.Gpu;

public sealed class KernelTypesTests
{
    [Fact]
    public void EveryKernelIsFound()
    {
        Assert.Contains("RmsNorm.ForwardKernel", KernelTypes.ByName.Keys);
        Assert.Contains("ElementKernel<GateBackwardElement<GeluTanh>>", KernelTypes.ByName.Keys);
        Assert.True(KernelTypes.ByName.Count >= 30, $"only {KernelTypes.ByName.Count} kernels were found");
    }
}
