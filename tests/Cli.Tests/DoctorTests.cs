// What `doctor` says of GPUs, without one: the findings are made from what the driver said.
using IptNative.Cli.Commands;
using IptNative.Kernels.Devices;
using Xunit;

namespace IptNative.Cli.Tests;

public sealed class DoctorTests
{
    [Fact]
    public void WithoutADriverItSaysWhatToInstall()
    {
        DoctorCommand.Finding[] findings = [.. DoctorCommand.Gpus(new CudaDriver(0, [], "NVIDIA's driver is not installed."), null)];
        Assert.Equal(new("CUDA driver", "not found", "NVIDIA's driver is not installed."), findings[0]);
        Assert.Equal(new("cuBLAS", "not found", ""), findings[1]);
        Assert.Equal(2, findings.Length);
    }

    [Fact]
    public void EachGpuIsDescribedAndAMissingCuBlasIsSaid()
    {
        var driver = new CudaDriver(12080, [new CudaGpu(0, "NVIDIA H100", 9, 0, 80L << 30, 132), new CudaGpu(1, "Tesla V100", 7, 0, 16L << 30, 80)], "");
        DoctorCommand.Finding[] findings = [.. DoctorCommand.Gpus(driver, null)];
        Assert.Equal(["CUDA driver", "cuda:0", "cuda:1", "cuBLAS", "CUDA context"], findings.Select(finding => finding.Item));
        Assert.Equal("serves CUDA 12.8", findings[0].Found);
        Assert.Equal("NVIDIA H100, compute capability 9.0, 80.0 GiB, 132 multiprocessors", findings[1].Found);
        Assert.Empty(findings[1].Missing);
        Assert.StartsWith("No bf16 and tf32 tensor cores", findings[2].Missing);
        Assert.StartsWith("Matrix products run on our own kernels.", findings[3].Missing);
        Assert.Equal("12.8.4 (libcublas.so.12)", DoctorCommand.Gpus(driver, new CuBlasLibrary(0, "libcublas.so.12", "12.8.4")).ElementAt(3).Found);
    }
}
