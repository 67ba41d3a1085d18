// A folder of one test, and the fixture's folder.
using IptNative.Model.Checkpoints;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Checkpoints;

internal sealed class TempFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public static string Golden(string name) => System.IO.Path.Combine(Goldens.Folder, name);

    public string File(string name) => System.IO.Path.Combine(Path, name);

    public string Write(string name, ReadOnlySpan<byte> bytes)
    {
        string path = File(name);
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        System.IO.File.WriteAllBytes(path, bytes);
        return path;
    }

    public string Copy(string golden, string? name = null) => Write(name ?? System.IO.Path.GetFileName(golden), System.IO.File.ReadAllBytes(Golden(golden)));

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

internal static class WeightExtensions
{
    public static unsafe byte[] Bytes(this Weight w) => new ReadOnlySpan<byte>((void*)w.Address, checked((int)w.ByteLength)).ToArray();

    public static float[] Floats(this Weight w) => WeightValues.ToFloats(w, "test");

    /// <summary>The message of the InvalidDataException that an action throws.</summary>
    public static string Message(Action action) => Assert.Throws<InvalidDataException>(action).Message;
}
