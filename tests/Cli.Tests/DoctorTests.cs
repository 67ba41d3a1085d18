// What `doctor` says of GPUs, without one: the findings are made from what the driver said.
using IptNative.Cli.Commands;
using IptNative.Kernels.Devices;
using IptNative.Model.Forward;
using Xunit;

namespace IptNative.Cli.Tests;

public sealed class DoctorTests
{
    [Fact]
    public void WithoutADriverItSaysWhatToInstall()
    {
        DoctorCommand.Finding[] findings = [.. DoctorCommand.Gpus(new CudaDriver(0, [], "NVIDIA's driver is not installed."), null, null, true)];
        Assert.Equal(new("CUDA driver", "not found", "NVIDIA's driver is not installed."), findings[0]);
        Assert.Equal(new("cuBLAS", "not found", "For the vendor's matrix products on a GPU install cuBLAS 11, 12 or 13, the one that the driver serves (libcublas.so.12 on the loader's path)."), findings[1]);
        Assert.Equal(new("CUDA provider", "not found", $"For --forward ort on a GPU: {CudaProviderLibrary.Advice}"), findings[2]);
        Assert.Equal(new("CUDA context", "none: nothing to share with ONNX Runtime", ""), findings[3]);
        Assert.Equal(4, findings.Length);
    }

    [Fact]
    public void EachGpuIsDescribedAndAMissingCuBlasIsSaid()
    {
        var driver = new CudaDriver(12080, [new CudaGpu(0, "NVIDIA H100", 9, 0, 80L << 30, 132), new CudaGpu(1, "Tesla V100", 7, 0, 16L << 30, 80)], "");
        DoctorCommand.Finding[] findings = [.. DoctorCommand.Gpus(driver, null, null, true)];
        Assert.Equal(["CUDA driver", "cuda:0", "cuda:1", "cuBLAS", "CUDA provider", "CUDA context"], findings.Select(finding => finding.Item));
        Assert.Equal("serves CUDA 12.8", findings[0].Found);
        Assert.Equal("NVIDIA H100, compute capability 9.0, 80.0 GiB, 132 multiprocessors", findings[1].Found);
        Assert.Empty(findings[1].Missing);
        Assert.StartsWith("No bf16 and tf32 tensor cores", findings[2].Missing);
        Assert.StartsWith("Matrix products run on our own kernels.", findings[3].Missing);
        Assert.StartsWith("ONNX Runtime computes on the CPU.", findings[4].Missing);
        Assert.Equal("12.8.4 (libcublas.so.12)", DoctorCommand.Gpus(driver, new CuBlasLibrary(0, "libcublas.so.12", "12.8.4"), null, true).ElementAt(3).Found);
    }

    [Fact]
    public void AProviderOfAnotherCudaIsSaid()
    {
        var driver = new CudaDriver(12080, [new CudaGpu(0, "NVIDIA H100", 9, 0, 80L << 30, 132)], "");
        DoctorCommand.Finding other = DoctorCommand.Gpus(driver, null, new CudaProviderLibrary("here.so", 13), true).Single(f => f.Item == "CUDA provider");
        Assert.Equal("here.so, for CUDA 13", other.Found);
        Assert.Equal("here.so needs CUDA 13, the driver serves 12.8. Install a driver that serves CUDA 13.0 or newer, or a provider library for CUDA 12.", other.Missing);
        Assert.Empty(DoctorCommand.Gpus(driver, null, new CudaProviderLibrary("here.so", 12), true).Single(f => f.Item == "CUDA provider").Missing);
    }

    [Fact]
    public void TheStateOfSharingIsNamed()
    {
        var driver = new CudaDriver(13000, [new CudaGpu(0, "NVIDIA H100", 9, 0, 80L << 30, 132)], "");
        Assert.Equal(new("CUDA context", "the driver's primary one, shared with ONNX Runtime: one copy of the weights, bound as they lie", "Proven by: iptnative doctor --sharing --device cuda:0"), Context(new CudaProviderLibrary("here.so", 13), true));
        Assert.Equal(new("CUDA context", "the driver's primary one, which ONNX Runtime would share if it had a CUDA provider", ""), Context(null, true));
        Assert.Equal(new("CUDA context", "none: this build has no CUDA kernels", ""), Context(new CudaProviderLibrary("here.so", 13), false));
        Assert.Equal("IPTNATIVE_CUDA_PROVIDER: found no file", DoctorCommand.Gpus(driver, null, null, true, "IPTNATIVE_CUDA_PROVIDER: found no file").Single(f => f.Item == "CUDA provider").Missing);

        DoctorCommand.Finding Context(CudaProviderLibrary? provider, bool buildHasCuda) => DoctorCommand.Gpus(driver, null, provider, buildHasCuda).Last();
    }

    [Fact]
    public void SharingIsProvenOnTheCpuToo()
    {
        CliRun run = CliProgram.Run("doctor", "--sharing").Returned(0);
        Assert.Contains("64 of each in turn over 65536 numbers", run.Output, StringComparison.Ordinal);
        Assert.Contains("yes: every number is what it must be, bit for bit", run.Output, StringComparison.Ordinal);
        Assert.True(System.Text.Json.JsonDocument.Parse(CliProgram.Run("doctor", "--sharing", "--json").Returned(0).Output).RootElement.GetProperty("shared").GetBoolean());
        CliProgram.Run("doctor", "--device", "cpu").Returned(2).Says("expected both or neither");
    }

    [Theory]
    [InlineData("doctor", "--sharing")]
    [InlineData("plan", "--shape", "small")]
    [InlineData("train", "examples/quickstart.json")]
    [InlineData("ipt", "examples/ipt-smoke.json")]
    [InlineData("evaluate", "--model", "models/t5-gym-tiny", "--task", "clinc150-domain", "--data", "examples/gym")]
    [InlineData("generate", "--model", "models/t5-gym-tiny", "--input", "hello")]
    [InlineData("serve", "--model", "models/t5-gym-tiny", "--port", "0")]
    [InlineData("parity", "tests/Goldens/t5v11")]
    [InlineData("bench", "step", "--shape", "small")]
    [InlineData("profile", "--model", "models/t5-gym-tiny")]
    public void AGpuThatCannotBeUsedIsAnErrorEverywhere(params string[] command)
    {
        // The one that no machine has.
        CliRun run = CliProgram.Run([.. command, "--device", "cuda:4095"]).Returned(1).Says("--device cuda:4095: ").Says("Or use --device cpu.");
        Assert.Empty(run.Output);
        CliProgram.Run([.. command, "--device", "gpu"]).Returned(2).Says("expected auto|cpu|cuda[:n]");
    }

    [Fact]
    public void AutoSaysWhatItTook()
    {
        CliProgram.Run("generate", "--model", CliProgram.Model, "--input", "hello", "--max-length", "2", "--device", "auto").Returned(0).Says("--device auto: using the CPU. ");
    }
}
