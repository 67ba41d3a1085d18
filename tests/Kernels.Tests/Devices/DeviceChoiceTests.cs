// What --device understands, and what it says where there is no GPU to be had.
using IptNative.Kernels.Devices;
using Xunit;

namespace IptNative.Kernels.Tests.Devices;

public sealed class DeviceChoiceTests
{
    private static readonly CudaGpu Gpu = new(0, "NVIDIA H100 80GB HBM3", 9, 0, 85L << 30, 132);

    [Theory]
    [InlineData("auto", DeviceKind.Auto, 0)]
    [InlineData("cpu", DeviceKind.Cpu, 0)]
    [InlineData("cuda", DeviceKind.Cuda, 0)]
    [InlineData("cuda:0", DeviceKind.Cuda, 0)]
    [InlineData("cuda:12", DeviceKind.Cuda, 12)]
    public void KnownSpellingsAreRead(string text, DeviceKind kind, int ordinal)
    {
        DeviceChoice choice = DeviceChoice.Parse(text);
        Assert.Equal(new DeviceChoice(kind, ordinal), choice);
        Assert.Equal(choice, DeviceChoice.Parse(choice.ToString()));
    }

    [Theory]
    [InlineData("gpu")]
    [InlineData("CPU")]
    [InlineData("cuda:")]
    [InlineData("cuda:-1")]
    [InlineData("cuda: 1")]
    [InlineData("cuda:1.5")]
    [InlineData("cuda:99999999999")]
    [InlineData("")]
    public void OthersAreNamed(string text) =>
        Assert.Equal($"--device: found '{text}', expected auto|cpu|cuda[:n], for example cuda:0.", Assert.Throws<ArgumentException>(() => DeviceChoice.Parse(text)).Message);

    [Fact]
    public void TheCpuIsAlwaysThere()
    {
        using ComputeDevice device = DeviceChoice.Parse("cpu").Open(1, ComputeType.F32, out string note);
        Assert.Equal("cpu", device.Name);
        Assert.Empty(note);
    }

    [Fact]
    public void AMissingDriverIsSaid()
    {
        var driver = CudaDriver.Query(["libcuda-that-is-not-there.so"]);
        Assert.Equal(0, driver.Version);
        Assert.Empty(driver.Gpus);
        Assert.StartsWith("NVIDIA's driver is not installed (libcuda-that-is-not-there.so was not found).", driver.Problem);
    }

    [Fact]
    public void ALibraryThatIsNoDriverIsSaid()
    {
        string other = OperatingSystem.IsWindows() ? "kernel32.dll" : OperatingSystem.IsMacOS() ? "libSystem.dylib" : "libc.so.6";
        Assert.Contains("NVIDIA's driver is too old or broken", CudaDriver.Query([other]).Problem);
    }

    [Fact]
    public void WithoutAGpuOnlyAutoFallsBackAndSaysSo()
    {
        var driver = CudaDriver.Query();
        if (DeviceChoice.BuildHasCuda && driver.Problem.Length == 0)
        {
            // A machine with a GPU: the one after the last is not there.
            int missing = driver.Gpus.Count;
            Assert.Contains($"there is no GPU {missing}; the driver shows {missing}:", Assert.Throws<NotSupportedException>(() => new DeviceChoice(DeviceKind.Cuda, missing).Open(1, ComputeType.F32, out _)).Message);
            return;
        }
        var e = Assert.Throws<NotSupportedException>(() => DeviceChoice.Parse("cuda:1").Open(1, ComputeType.F32, out _));
        Assert.StartsWith("--device cuda:1: ", e.Message);
        Assert.EndsWith("Or use --device cpu.", e.Message);
        Assert.Contains(DeviceChoice.BuildHasCuda ? "driver" : "this build has no CUDA kernels", e.Message);
        using ComputeDevice device = DeviceChoice.Parse("auto").Open(1, ComputeType.F32, out string note);
        Assert.Equal("cpu", device.Name);
        Assert.StartsWith("--device auto: using the CPU. ", note);
    }

    [Fact]
    public void AGpuThatIsNotThereIsNamedWithThoseThatAre()
    {
        var driver = new CudaDriver(12080, [Gpu], "");
        string problem = new DeviceChoice(DeviceKind.Cuda, 1).Problem(driver);
        Assert.Equal(DeviceChoice.BuildHasCuda
            ? "there is no GPU 1; the driver shows 1: cuda:0 NVIDIA H100 80GB HBM3, compute capability 9.0, 85.0 GiB, 132 multiprocessors."
            : "this build has no CUDA kernels, because ILGPU 1.5.3 was not on the package sources when it was built. Add a source that has it, delete eng/resolved.props and build again.", problem);
        Assert.Equal("12.8", driver.VersionText);
    }
}
