// A package of the t5v11 fixture's shape with random weights in a stored format, in a folder that goes when the test does.
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Package;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Device.Tests;

internal sealed class FixturePackage : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public FixturePackage(DType format)
    {
        RandomPackage.Write(T5Config.Load(Path.Combine(Goldens.Folder, "config.json")), _folder, format, TestContext.Current.CancellationToken);
        Checkpoint = Checkpoint.Open(_folder);
    }

    public Checkpoint Checkpoint { get; }

    public void Dispose()
    {
        Checkpoint.Dispose();
        Directory.Delete(_folder, recursive: true);
    }
}
