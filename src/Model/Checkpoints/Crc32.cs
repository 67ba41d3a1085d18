// The check sum of zip (polynomial 0xEDB88320), eight bytes at a step. Deliberately not: CRC-32C, which TensorBoard uses.
using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace IptNative.Model.Checkpoints;

/// <summary>CRC-32 as zip files carry it.</summary>
internal static class Crc32
{
    private static readonly uint[] Table = MakeTable();

    /// <summary>Continues a sum over more bytes; start with 0.</summary>
    // One call may cover hundreds of megabytes: it must not start in the slow tier.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static unsafe uint Append(uint crc, ReadOnlySpan<byte> data)
    {
        crc = ~crc;
        fixed (uint* t = Table)
        fixed (byte* start = data)
        {
            byte* p = start;
            byte* end = start + data.Length;
            for (; end - p >= 8; p += 8)
            {
                uint a = BinaryPrimitives.ReadUInt32LittleEndian(new ReadOnlySpan<byte>(p, 4)) ^ crc;
                uint b = BinaryPrimitives.ReadUInt32LittleEndian(new ReadOnlySpan<byte>(p + 4, 4));
                crc = t[1792 + (byte)a] ^ t[1536 + (byte)(a >> 8)] ^ t[1280 + (byte)(a >> 16)] ^ t[1024 + (a >> 24)]
                    ^ t[768 + (byte)b] ^ t[512 + (byte)(b >> 8)] ^ t[256 + (byte)(b >> 16)] ^ t[b >> 24];
            }
            for (; p < end; p++)
                crc = (crc >> 8) ^ t[(byte)(crc ^ *p)];
        }
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
