// The package in models/ is whole, and what an export of it would write today.
using IptNative.Model.Checkpoints;
using IptNative.Model.Onnx.Package;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Package;

public sealed class ShippedModelTests
{
    private static readonly string Folder = Path.GetFullPath(Path.Combine(Goldens.Folder, "..", "..", "..", "models", "t5-gym-tiny"));

    [Fact]
    public void ChecksumsHold() => Assert.Empty(PackageVerifier.Verify(Folder));

    [Fact]
    public void ExportingItAgainChangesNothing()
    {
        string dir = Directory.CreateTempSubdirectory("iptnative-shipped-").FullName;
        try
        {
            using Checkpoint shipped = Checkpoint.Open(Folder);
            PackageExporter.Export(shipped, Path.Combine(dir, "again"), new());
            foreach (string name in PackageManifest.Load(Folder).Files.Keys)
                Assert.True(File.ReadAllBytes(Path.Combine(Folder, name)).AsSpan().SequenceEqual(File.ReadAllBytes(Path.Combine(dir, "again", name))), $"{name} differs: export models/t5-gym-tiny again");
        }
        finally
        {
            Directory.Delete(dir, recursive: true);
        }
    }
}
