using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Onnx;

/// <summary>A temporary copy of the fixture's exported pair, to be bent.</summary>
internal sealed class ExportFolder : IDisposable
{
    public ExportFolder()
    {
        foreach (string name in (string[])["encoder_model.onnx", "decoder_model.onnx", "config.json"])
            File.Copy(System.IO.Path.Combine(Goldens.Folder, name), this[name]);
    }

    public string Path { get; } = Directory.CreateTempSubdirectory("iptnative-onnx-").FullName;

    public string this[string name] => System.IO.Path.Combine(Path, name);

    public void Edit(string name, Func<byte[], byte[]> edit) => File.WriteAllBytes(this[name], edit(File.ReadAllBytes(this[name])));

    public InvalidDataException Refused(string? file = null) => Assert.Throws<InvalidDataException>(() => OnnxCheckpoints.Open(file is null ? Path : this[file]).Dispose());

    public void EqualsSafetensors(string? file = null)
    {
        using Checkpoint found = OnnxCheckpoints.Open(file is null ? Path : this[file]);
        using MemoryCheckpoint expected = MemoryCheckpoint.Golden();
        Same(expected, found);
    }

    /// <summary>Every parameter, bit for bit.</summary>
    public static unsafe void Same(Checkpoint expected, Checkpoint found)
    {
        foreach (T5Parameter p in T5Parameters.Of(expected.Config))
        {
            Weight e = expected[p.Name];
            Weight f = found[p.Name];
            Assert.Equal((p.Name, e.DType, e.Shape, e.ByteLength), (f.Name, f.DType, f.Shape, f.ByteLength));
            Assert.True(f.Address % (f.DType.Bits() / 8) == 0, $"{p.Name} is not aligned");
            Assert.True(new ReadOnlySpan<byte>((void*)e.Address, (int)e.ByteLength).SequenceEqual(new ReadOnlySpan<byte>((void*)f.Address, (int)f.ByteLength)), $"{p.Name} differs");
        }
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
