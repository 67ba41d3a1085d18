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
