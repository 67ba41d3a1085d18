// Pickles byte by byte, after CPython's pickletools: what torch.save writes, and what it never would.
using System.Buffers.Binary;
using System.Text;
using IptNative.Model.Checkpoints;

namespace IptNative.Model.Tests.Checkpoints;

internal sealed class PickleMaker
{
    private readonly List<byte> _bytes = [];

    public PickleMaker(int protocol = 2) => Op(0x80, (byte)protocol);

    public static PickleMaker Raw()
    {
        var p = new PickleMaker();
        p._bytes.Clear();
        return p;
    }

    public PickleMaker Op(params ReadOnlySpan<byte> bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    public PickleMaker Op(string ascii) => Op(Encoding.ASCII.GetBytes(ascii));

    public PickleMaker Text(string text)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        Span<byte> length = stackalloc byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(length, utf8.Length);
        return Op((byte)'X').Op(length).Op(utf8);
    }

    public PickleMaker Int(long value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
        return Op(0x8a, 8).Op(bytes);
    }

    public PickleMaker Ints(params ReadOnlySpan<long> values)
    {
        Op("(");
        foreach (long v in values)
            Int(v);
        return Op("t");
    }

    public PickleMaker Global(string module, string name) => Op($"c{module}\n{name}\n");

    public PickleMaker Tensor(string type, string key, long numel, long offset, long[] size, long[] stride)
    {
        Global("torch._utils", "_rebuild_tensor_v2").Op("(");
        Op("(").Text("storage").Global("torch", type).Text(key).Text("cpu").Int(numel).Op("tQ");
        Int(offset).Ints(size).Ints(stride).Op(0x89);
        return Global("collections", "OrderedDict").Op(")RtR");
    }

    public byte[] Build() => [.. _bytes, (byte)'.'];

    /// <summary>A torch.save file of this pickle.</summary>
    public byte[] Zip(params (string Key, byte[] Data)[] storages)
    {
        var zip = new ZipMaker().Add("archive/data.pkl", Build());
        foreach ((string key, byte[] data) in storages)
            zip.Add($"archive/data/{key}", data);
        return zip.Add("archive/version", "3\n"u8.ToArray()).Build();
    }

    /// <summary>Reads this pickle alone, without storages.</summary>
    public object? Read() => Unpickler.Read(Build(), "evil.bin", new TorchRebuild("evil.bin", 1 << 20, new Dictionary<string, ZipEntry>(), "archive/"));
}
