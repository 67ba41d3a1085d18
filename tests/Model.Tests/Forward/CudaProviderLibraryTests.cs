using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Forward;
using Xunit;

namespace IptNative.Model.Tests.Forward;

public sealed class CudaProviderLibraryTests
{
    [Fact]
    public void TheMajorVersionIsReadFromDependencies()
    {
        Assert.Equal(13, CudaProviderLibrary.Major(["libc.so.6", "libcublasLt.so.13", "libcudart.so.13"]));
        Assert.Equal(12, CudaProviderLibrary.Major(["libcudart.so.12.8.1"]));
        Assert.Equal(0, CudaProviderLibrary.Major(["libc.so.6", "libcublas.so.", "libcurand.so.10"]));
    }

    [Fact]
    public void DependenciesOfALibraryAreThoseThatItsHeaderNames()
    {
        if (!OperatingSystem.IsLinux())
            return;
        List<string> needed = CudaProviderLibrary.Dependencies(Directory.EnumerateFiles(AppContext.BaseDirectory, "libonnxruntime.so", SearchOption.AllDirectories).First());
        Assert.Contains("libc.so.6", needed);
        Assert.Equal(0, CudaProviderLibrary.Major(needed));
    }

    /// <summary>Neither a text nor another library of ONNX Runtime's is a provider; both are refused by ONNX Runtime itself, and the message is ours.</summary>
    [Fact]
    public void WhatIsNoProviderIsRefusedByName()
    {
        string path = Path.Combine(Directory.CreateTempSubdirectory("iptnative-").FullName, CudaProviderLibrary.FileName);
        File.WriteAllText(path, "not a library");
        Refused(path);
        if (OperatingSystem.IsLinux())
            Refused(Directory.EnumerateFiles(AppContext.BaseDirectory, "libonnxruntime_providers_shared.so", SearchOption.AllDirectories).First());
        Directory.Delete(Path.GetDirectoryName(path)!, recursive: true);

        static void Refused(string file)
        {
            // Twice: a failure is not remembered as a success.
            for (int i = 0; i < 2; i++)
            {
                string message = Assert.Throws<NotSupportedException>(() => new CudaProviderLibrary(file, 13).Register()).Message;
                Assert.StartsWith($"registering {file} with ONNX Runtime 1.", message, StringComparison.Ordinal);
                Assert.Contains("expected the CUDA provider of this ONNX Runtime", message, StringComparison.Ordinal);
                Assert.Contains("Install CUDA 13's libraries and cuDNN 9, or take another provider.", message, StringComparison.Ordinal);
                Assert.EndsWith("Or use --forward native.", message, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void AMissingProviderAndOneOfAnotherCudaAreRefusedBeforeAnythingIsLoaded()
    {
        var driver = new CudaDriver(12080, [new CudaGpu(0, "NVIDIA H100", 9, 0, 80L << 30, 132)], "");
        string missing = Assert.Throws<NotSupportedException>(() => CudaPlace.Choose("cuda:0", ["CPUExecutionProvider"], null, driver)).Message;
        Assert.StartsWith($"a forward pass by ONNX Runtime on cuda:0: this ONNX Runtime has CPUExecutionProvider, and {CudaProviderLibrary.FileName} is not beside the program (", missing, StringComparison.Ordinal);
        Assert.Contains(CudaProviderLibrary.Advice, missing, StringComparison.Ordinal);
        string other = Assert.Throws<NotSupportedException>(() => CudaPlace.Choose("cuda:0", ["CPUExecutionProvider"], new CudaProviderLibrary("here.so", 13), driver)).Message;
        Assert.Equal("a forward pass by ONNX Runtime on cuda:0: here.so needs CUDA 13, the driver serves 12.8. Install a driver that serves CUDA 13.0 or newer, or a provider library for CUDA 12. Or use --forward native.", other);
        Assert.Equal("here.so", CudaPlace.Choose("cuda:0", ["CPUExecutionProvider"], new CudaProviderLibrary("here.so", 12), driver).Path);
    }

    /// <summary>A device in a context of its own has memory that ONNX Runtime cannot read.</summary>
    [Fact]
    public void ADeviceInAContextOfItsOwnIsRefused()
    {
        using var device = new StubCudaDevice(new CudaPlacement(1, 0x40, "IPTNATIVE_CUDA_CONTEXT says own"));
        Assert.Equal("a forward pass by ONNX Runtime on cuda:1: the device is in a CUDA context of its own (IPTNATIVE_CUDA_CONTEXT says own), expected the driver's primary context, the only one whose memory ONNX Runtime can read. Use --forward native.",
            Assert.Throws<NotSupportedException>(() => RuntimePlace.Of(device)).Message);
    }

    /// <summary>This build of ONNX Runtime knows the memory's name without the provider; nothing is bound to it here.</summary>
    [Fact]
    public void TheProvidersOptionsAreThoseOfTheDevice()
    {
        Dictionary<string, string> builtIn = CudaPlace.Options(new CudaPlacement(2, unchecked((nint)0x7f00_0000_1000L), ""), 12_345_678_901, ComputeType.F32, isPlugin: false);
        Assert.Equal(["arena_extend_strategy=kSameAsRequested", "device_id=2", "gpu_mem_limit=12345678901", "use_tf32=0", "user_compute_stream=139637976731648"], builtIn.Select(o => $"{o.Key}={o.Value}").Order(StringComparer.Ordinal));
        Dictionary<string, string> plugin = CudaPlace.Options(new CudaPlacement(2, 0x1000, ""), null, ComputeType.BF16, isPlugin: true);
        Assert.Equal(["arena_extend_strategy=kSameAsRequested", "use_tf32=1"], plugin.Select(o => $"{o.Key}={o.Value}").Order(StringComparer.Ordinal));
    }

    [Fact]
    public void RoomThatEndsIsKnownByOnnxRuntimesWords()
    {
        Assert.True(GraphBinding.IsNoRoom("Available memory of 1048576 is smaller than requested bytes of 4194304"));
        Assert.True(GraphBinding.IsNoRoom("Failed to allocate memory for requested buffer of size 4194304"));
        Assert.True(GraphBinding.IsNoRoom("CUDA failure 2: out of memory"));
        Assert.False(GraphBinding.IsNoRoom("Got invalid dimensions for input: x"));
    }

    [Fact]
    public void OtherAndBrokenFilesHaveNone()
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, "not a library");
            Assert.Empty(CudaProviderLibrary.Dependencies(path));
            // A header that points outside of the file.
            byte[] broken = new byte[64];
            ((ReadOnlySpan<byte>)[0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1]).CopyTo(broken);
            broken.AsSpan(40, 8).Fill(0x7f);
            broken[58] = 64;
            broken[60] = 200;
            File.WriteAllBytes(path, broken);
            Assert.Empty(CudaProviderLibrary.Dependencies(path));
        }
        finally
        {
            File.Delete(path);
        }
    }
}

/// <summary>A CUDA device in nothing but name.</summary>
internal sealed class StubCudaDevice(CudaPlacement placement) : ComputeDevice
{
    public override string Name => $"cuda:{placement.Ordinal}";

    public override CudaPlacement Cuda => placement;

    public override DeviceBuffer Allocate(DType type, long elements, string purpose) => throw new InsufficientMemoryException(purpose);

    public override void CopyFromHost(ReadOnlySpan<byte> source, Tensor target) => throw new InvalidOperationException(Name);

    public override void CopyToHost(Tensor source, Span<byte> target) => throw new InvalidOperationException(Name);

    protected override void Dispose(bool disposing)
    {
    }
}
