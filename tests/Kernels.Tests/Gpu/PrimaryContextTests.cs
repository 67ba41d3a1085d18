// What can be known of the shared context without a GPU: whom it refuses, and that the accelerator's handle can be changed at all in this ILGPU.
#if !ILGPU_EMULATION
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using IptNative.Kernels.Gpu;
using Xunit;

namespace IptNative.Kernels.Tests.Gpu;

public sealed class PrimaryContextTests
{
    [Fact]
    public void OnlyTheKnownIlgpuIsMoved()
    {
        Assert.Empty(PrimaryContext.Refusal(new Version(1, 5, 3, 0), null));
        Assert.Empty(PrimaryContext.Refusal(typeof(Context).Assembly.GetName().Version, "primary"));
        Assert.Equal("this is ILGPU 1.5.2, and only 1.5.3 is known to bear being put into another context: build with ILGPU 1.5.3", PrimaryContext.Refusal(new Version(1, 5, 2, 0), null));
        Assert.Equal("IPTNATIVE_CUDA_CONTEXT says own", PrimaryContext.Refusal(new Version(1, 5, 3, 0), "own"));
        Assert.Equal("IPTNATIVE_CUDA_CONTEXT is 'mine', expected primary or own", PrimaryContext.Refusal(new Version(1, 5, 3, 0), "mine"));
    }

    /// <summary>On ILGPU's own CPU accelerator, which has no handle: the setter is there, takes a value and is read back.</summary>
    [Fact]
    public void TheHandleCanBeChanged()
    {
        using Context context = Context.Create(builder => builder.CPU());
        using Accelerator accelerator = context.CreateCPUAccelerator(0);
        nint own = accelerator.NativePtr;
        PrimaryContext.SetHandle(accelerator, 0x1234);
        Assert.Equal(0x1234, accelerator.NativePtr);
        PrimaryContext.SetHandle(accelerator, own);
        Assert.Equal(own, accelerator.NativePtr);
    }
}
#endif
