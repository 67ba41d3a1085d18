// The check sum of zip (polynomial 0xEDB88320), eight bytes at a step. Deliberately not: CRC-32C, which TensorBoard uses.
using System.Buffers.Binary;

namespace IptNative.Model.Checkpoints;

/// <summary>CRC-32 as zip files carry it.</summary>
internal static class Crc32
{
    private static readonly uint[] Table = MakeTable();

    /// <summary>Continues a sum over more bytes; start with 0.</summary>
    public static uint Append(uint crc, ReadOnlySpan<byte> data)
    {
        ReadOnlySpan<uint> t = Table;
        crc = ~crc;
        while (data.Length >= 8)
        {
            uint a = BinaryPrimitives.ReadUInt32LittleEndian(data) ^ crc;
            uint b = BinaryPrimitives.ReadUInt32LittleEndian(data[4..]);
            crc = t[1792 + (int)(a & 255)] ^ t[1536 + (int)((a >> 8) & 255)] ^ t[1280 + (int)((a >> 16) & 255)] ^ t[1024 + (int)(a >> 24)]
                ^ t[768 + (int)(b & 255)] ^ t[512 + (int)((b >> 8) & 255)] ^ t[256 + (int)((b >> 16) & 255)] ^ t[(int)(b >> 24)];
            data = data[8..];
        }
        foreach (byte x in data)
            crc = (crc >> 8) ^ t[(int)((crc ^ x) & 255)];
        return ~crc;
    }

    // Eight tables of 256: the n-th advances a byte by n more zero bytes.
    private static uint[] MakeTable()
    {
        var table = new uint[8 * 256];
        for (uint i = 0; i < 256; i++)
        {
            uint c = i;
            for (int k = 0; k < 8; k++)
                c = (c & 1) != 0 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
            table[i] = c;
        }
        for (int i = 256; i < table.Length; i++)
            table[i] = (table[i - 256] >> 8) ^ table[table[i - 256] & 255];
        return table;
    }
}
