// The table of contents of a zip, as far as torch.save uses zip: stored entries, ZIP64. Deliberately not: inflating, encryption, several disks.
using System.Buffers.Binary;
using System.Text;

namespace IptNative.Model.Checkpoints;

/// <summary>A stored entry: where its bytes lie in the file.</summary>
internal readonly record struct ZipEntry(string Name, long Offset, long Length, uint Crc);

/// <summary>Reads a zip's central directory over a mapped file and checks every entry's range.</summary>
/// <remarks>A compressed entry is refused, not inflated: torch never writes one, and nothing then grows beyond the file. Source: PKWARE APPNOTE 6.3.10.</remarks>
internal static class ZipDirectory
{
    private const int EndSize = 22;
    private const int Zip64LocatorSize = 20;
    private const int Zip64EndSize = 56;
    private const int CentralSize = 46;
    private const int LocalSize = 30;
    // A T5-XXL state dict has 560 entries; the bound keeps the table small on a hostile file.
    private const int MaxEntries = 1 << 20;

    /// <summary>True where the file ends in a zip directory.</summary>
    public static bool IsZip(MappedFile map) => FindEnd(map) >= 0;

    /// <summary>All entries by name.</summary>
    /// <exception cref="InvalidDataException">The directory is damaged, or holds what torch.save does not write.</exception>
    public static Dictionary<string, ZipEntry> Read(MappedFile map)
    {
        long end = FindEnd(map);
        if (end < 0)
            throw ForeignFormat.NotAZip(map);
        ReadOnlySpan<byte> e = map.Span(end, EndSize, "the zip end record");
        long count = U16(e, 10), size = U32(e, 12), start = U32(e, 16);
        long directoryLimit = end;
        long locator = end - Zip64LocatorSize;
        if (locator >= 0 && U32(map.Span(locator, 4, "the ZIP64 locator"), 0) == 0x07064b50)
        {
            long at = I64(map, map.Span(locator, Zip64LocatorSize, "the ZIP64 locator"), 8, "ZIP64 end offset");
            ReadOnlySpan<byte> z = map.Span(at, Zip64EndSize, "the ZIP64 end record");
            if (U32(z, 0) != 0x06064b50)
                throw Bad(map, $"byte {at} holds no ZIP64 end record");
            count = I64(map, z, 32, "number of entries");
            size = I64(map, z, 40, "directory size");
            start = I64(map, z, 48, "directory offset");
            directoryLimit = at;
        }
        if (start > directoryLimit || size > directoryLimit - start)
            throw Bad(map, $"the directory claims bytes {start} to {start}+{size}, expected it to end before byte {directoryLimit}");
        if (count > MaxEntries || count > size / CentralSize)
            throw Bad(map, $"the directory claims {count} entries in {size} bytes");

        var entries = new Dictionary<string, ZipEntry>(StringComparer.Ordinal);
        long position = start;
        for (long i = 0; i < count; i++)
        {
            (ZipEntry entry, int recordLength) = ReadEntry(map, position, start + size, start);
            position += recordLength;
            if (!entries.TryAdd(entry.Name, entry))
                throw Bad(map, $"entry '{entry.Name}' stands there twice");
        }
        if (position != start + size)
            throw Bad(map, $"the directory's {count} entries take {position - start} bytes, expected {size}");
        RequireDisjoint(map, entries.Values);
        return entries;
    }

    private static (ZipEntry Entry, int RecordLength) ReadEntry(MappedFile map, long position, long directoryEnd, long dataLimit)
    {
        if (position > directoryEnd - CentralSize)
            throw Bad(map, $"the entry at byte {position} leaves the directory");
        ReadOnlySpan<byte> c = map.Span(position, CentralSize, "a directory entry");
        if (U32(c, 0) != 0x02014b50)
            throw Bad(map, $"byte {position} holds no directory entry");
        int flags = U16(c, 8), method = U16(c, 10), nameLength = U16(c, 28), extraLength = U16(c, 30);
        int recordLength = CentralSize + nameLength + extraLength + U16(c, 32);
        if (position + recordLength > directoryEnd)
            throw Bad(map, $"the entry at byte {position} leaves the directory");
        ReadOnlySpan<byte> nameBytes = map.Span(position + CentralSize, nameLength, "an entry's name");
        string name = Encoding.UTF8.GetString(nameBytes);
        if ((flags & 1) != 0)
            throw Bad(map, $"entry '{name}' is encrypted");
        if (method != 0)
        {
            throw new InvalidDataException($"{map.Path}: reading the zip directory; entry '{name}' is compressed (method {method}), expected stored entries as torch.save writes them. "
                + "Unpack it and zip it again with 'zip -0 -r', or save it again with torch.save.");
        }

        long stored = U32(c, 20), length = U32(c, 24), local = U32(c, 42);
        if (stored == uint.MaxValue || length == uint.MaxValue || local == uint.MaxValue)
            (length, stored, local) = ReadZip64(map, map.Span(position + CentralSize + nameLength, extraLength, "an entry's extra field"), name, length, stored, local);
        if (stored != length)
            throw Bad(map, $"entry '{name}' is stored in {stored} bytes but claims {length}");

        ReadOnlySpan<byte> l = map.Span(local, LocalSize, $"the local header of '{name}'");
        if (U32(l, 0) != 0x04034b50)
            throw Bad(map, $"entry '{name}' has no local header at byte {local}");
        int localName = U16(l, 26);
        if (!map.Span(local + LocalSize, localName, $"the local header of '{name}'").SequenceEqual(nameBytes))
            throw Bad(map, $"entry '{name}' has another name in its local header");
        long offset = local + LocalSize + localName + U16(l, 28);
        if (offset > dataLimit || length > dataLimit - offset)
            throw Bad(map, $"entry '{name}' claims {length} bytes from byte {offset}, expected it to end before byte {dataLimit}");
        return (new ZipEntry(name, offset, length, U32(c, 16)), recordLength);
    }

    // The ZIP64 extra field holds, in this order, only the fields that are 0xFFFFFFFF in the record.
    private static (long Length, long Stored, long Local) ReadZip64(MappedFile map, ReadOnlySpan<byte> extra, string name, long length, long stored, long local)
    {
        while (extra.Length >= 4)
        {
            int id = U16(extra, 0), size = U16(extra, 2);
            extra = extra[4..];
            if (size > extra.Length)
                break;
            if (id != 1)
            {
                extra = extra[size..];
                continue;
            }
            ReadOnlySpan<byte> field = extra[..size];
            long Next(ref ReadOnlySpan<byte> rest)
            {
                if (rest.Length < 8)
                    throw Bad(map, $"entry '{name}' has a ZIP64 field of {size} bytes, which is too short");
                long value = I64(map, rest, 0, "ZIP64 size");
                rest = rest[8..];
                return value;
            }
            if (length == uint.MaxValue)
                length = Next(ref field);
            if (stored == uint.MaxValue)
                stored = Next(ref field);
            if (local == uint.MaxValue)
                local = Next(ref field);
            return (length, stored, local);
        }
        throw Bad(map, $"entry '{name}' needs a ZIP64 field and has none");
    }

    private static void RequireDisjoint(MappedFile map, IEnumerable<ZipEntry> entries)
    {
        long reached = 0;
        string before = "";
        foreach (ZipEntry e in entries.OrderBy(e => e.Offset).ThenBy(e => e.Length))
        {
            if (e.Offset < reached)
                throw Bad(map, $"entries '{before}' and '{e.Name}' overlap");
            (reached, before) = (e.Offset + e.Length, e.Name);
        }
    }

    // The end record is the last 22 bytes, or earlier by the length of a comment of up to 65535 bytes.
    private static long FindEnd(MappedFile map)
    {
        int tail = (int)Math.Min(map.Length, EndSize + ushort.MaxValue);
        ReadOnlySpan<byte> bytes = map.Span(map.Length - tail, tail, "the end of the file");
        for (int i = tail - EndSize; i >= 0; i--)
        {
            if (U32(bytes, i) == 0x06054b50 && U16(bytes, i + 20) == tail - i - EndSize)
                return map.Length - tail + i;
        }
        return -1;
    }

    private static int U16(ReadOnlySpan<byte> s, int at) => BinaryPrimitives.ReadUInt16LittleEndian(s[at..]);

    private static uint U32(ReadOnlySpan<byte> s, int at) => BinaryPrimitives.ReadUInt32LittleEndian(s[at..]);

    private static long I64(MappedFile map, ReadOnlySpan<byte> s, int at, string what)
    {
        long value = BinaryPrimitives.ReadInt64LittleEndian(s[at..]);
        return value >= 0 && value <= map.Length ? value : throw Bad(map, $"the {what} is {(ulong)value}, the file has {map.Length} bytes");
    }

    private static InvalidDataException Bad(MappedFile map, string found) =>
        new($"{map.Path}: reading the zip directory; {found}. The file is truncated or damaged: copy or download it again.");
}
