using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Tests.Forward;

namespace IptNative.Model.Tests.Package;

/// <summary>The fixture's safetensors as a source of exports: tensors may be changed, and it is counted how many are held at once.</summary>
internal sealed class SourceCheckpoint : Checkpoint
{
    private readonly TensorFile _file = SafetensorsFile.Open(Path.Combine(Goldens.Folder, "model.safetensors"));
    private readonly Dictionary<string, (DType DType, byte[] Bytes)> _changed = [];
    private readonly HashSet<string> _held = [];

    public override string Location => Goldens.Folder;

    public override IReadOnlyList<string> Files { get; } = [Path.Combine(Goldens.Folder, "model.safetensors")];

    public override T5Config Config { get; } = T5Config.Load(Path.Combine(Goldens.Folder, "config.json"));

    public int MostHeld { get; private set; }

    public int Released { get; private set; }

    public override Weight this[string name]
    {
        get
        {
            _held.Add(name);
            MostHeld = Math.Max(MostHeld, _held.Count);
            Weight w = _file[name];
            return _changed.TryGetValue(name, out (DType DType, byte[] Bytes) c)
                ? w with { DType = c.DType, Address = Marshal.UnsafeAddrOfPinnedArrayElement(c.Bytes, 0), ByteLength = c.Bytes.Length }
                : w;
        }
    }

    public void Change(string name, Action<float[]> edit, DType dtype = DType.F32)
    {
        float[] values = _file.ReadFloats(name);
        edit(values);
        ReadOnlySpan<byte> bytes = dtype == DType.BF16
            ? MemoryMarshal.AsBytes<ushort>([.. values.Select(v => (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16))])
            : MemoryMarshal.AsBytes<float>(values);
        byte[] pinned = GC.AllocateArray<byte>(bytes.Length, pinned: true);
        bytes.CopyTo(pinned);
        _changed[name] = (dtype, pinned);
    }

    public override void Release(string name)
    {
        if (_held.Remove(name))
            Released++;
    }

    protected override void Dispose(bool disposing) => _file.Dispose();
}
