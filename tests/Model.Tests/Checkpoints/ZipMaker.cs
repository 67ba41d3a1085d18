// Zips as torch.save writes them, and as an attacker might. Independent of the reader: written from the APPNOTE.
using System.Text;

namespace IptNative.Model.Tests.Checkpoints;

internal sealed class ZipMaker
{
    private readonly List<(string Name, byte[] Data, int Method, uint Crc, long ClaimedLength)> _entries = [];

    public bool Zip64 { get; init; }

    public string Comment { get; init; } = "";

    public ZipMaker Add(string name, byte[] data, int method = 0, uint? crc = null, long? claimedLength = null)
    {
        _entries.Add((name, data, method, crc ?? Crc(data), claimedLength ?? data.Length));
        return this;
    }

    public byte[] Build()
    {
        using var stream = new MemoryStream();
        using var w = new BinaryWriter(stream);
        var offsets = new List<long>();
        foreach ((string name, byte[] data, int method, uint crc, long length) in _entries)
        {
            offsets.Add(stream.Position);
            w.Write(0x04034b50u);
            w.Write((ushort)45);
            w.Write((ushort)0);
            w.Write((ushort)method);
            w.Write(0u);
            w.Write(crc);
            w.Write((uint)length);
            w.Write((uint)length);
            w.Write((ushort)name.Length);
            // torch pads with an extra field so that data start at a multiple of 64.
            int padding = (int)((64 - (stream.Position + 2 + name.Length + 4) % 64) % 64);
            w.Write((ushort)(4 + padding));
            w.Write(Encoding.UTF8.GetBytes(name));
            w.Write("FB"u8);
            w.Write((ushort)padding);
            w.Write(new byte[padding]);
            w.Write(data);
        }
        long start = stream.Position;
        for (int i = 0; i < _entries.Count; i++)
        {
            (string name, byte[] _, int method, uint crc, long length) = _entries[i];
            w.Write(0x02014b50u);
            w.Write((ushort)45);
            w.Write((ushort)45);
            w.Write((ushort)0);
            w.Write((ushort)method);
            w.Write(0u);
            w.Write(crc);
            w.Write(Zip64 ? uint.MaxValue : (uint)length);
            w.Write(Zip64 ? uint.MaxValue : (uint)length);
            w.Write((ushort)name.Length);
            w.Write((ushort)(Zip64 ? 28 : 0));
            w.Write((ushort)0);
            w.Write((ushort)0);
            w.Write((ushort)0);
            w.Write(0u);
            w.Write(Zip64 ? uint.MaxValue : (uint)offsets[i]);
            w.Write(Encoding.UTF8.GetBytes(name));
            if (Zip64)
            {
                w.Write((ushort)1);
                w.Write((ushort)24);
                w.Write(length);
                w.Write(length);
                w.Write(offsets[i]);
            }
        }
        long end = stream.Position;
        if (Zip64)
        {
            w.Write(0x06064b50u);
            w.Write(44L);
            w.Write((ushort)45);
            w.Write((ushort)45);
            w.Write(0u);
            w.Write(0u);
            w.Write((long)_entries.Count);
            w.Write((long)_entries.Count);
            w.Write(end - start);
            w.Write(start);
            w.Write(0x07064b50u);
            w.Write(0u);
            w.Write(end);
            w.Write(1u);
        }
        w.Write(0x06054b50u);
        w.Write(0u);
        w.Write(Zip64 ? ushort.MaxValue : (ushort)_entries.Count);
        w.Write(Zip64 ? ushort.MaxValue : (ushort)_entries.Count);
        w.Write(Zip64 ? uint.MaxValue : (uint)(end - start));
        w.Write(Zip64 ? uint.MaxValue : (uint)start);
        w.Write((ushort)Comment.Length);
        w.Write(Encoding.ASCII.GetBytes(Comment));
        w.Flush();
        return stream.ToArray();
    }

    // Bit by bit from the polynomial, so that the product's tables are checked against something else.
    public static uint Crc(ReadOnlySpan<byte> data)
    {
        uint crc = uint.MaxValue;
        foreach (byte b in data)
        {
            crc ^= b;
            for (int k = 0; k < 8; k++)
                crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xEDB88320u : crc >> 1;
        }
        return ~crc;
    }
}
