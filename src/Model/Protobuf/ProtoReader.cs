// Protobuf's wire format over mapped memory: tags, varints and length-delimited slices, each checked against the bytes that are there.
// Deliberately not: a protobuf library (no schemas, no objects, no writing; see docs/decisions/own-protobuf-wire.md).
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Text;

namespace IptNative.Model.Protobuf;

/// <summary>A run of bytes inside a mapped file.</summary>
/// <param name="Address">First byte.</param>
/// <param name="Length">Bytes.</param>
internal readonly record struct ProtoSlice(nint Address, long Length);

/// <summary>How a field's value is laid out.</summary>
internal enum ProtoWire
{
    /// <summary>A variable-length integer.</summary>
    Varint = 0,

    /// <summary>Eight bytes.</summary>
    Fixed64 = 1,

    /// <summary>A length and that many bytes.</summary>
    Bytes = 2,

    /// <summary>Four bytes.</summary>
    Fixed32 = 5,
}

/// <summary>Walks the fields of one message. After <see cref="Next"/> the value must be taken once, by its kind, or skipped.</summary>
/// <param name="slice">The message.</param>
/// <param name="path">The file, for messages.</param>
/// <param name="fileStart">The file's first byte, for positions in messages.</param>
/// <param name="kind">What the file should be, for messages: "ONNX model".</param>
internal unsafe ref struct ProtoReader(ProtoSlice slice, string path, nint fileStart, string kind)
{
    // No name in a model comes near this; a longer one is damage, and would be allocated.
    private const int MaxTextBytes = 1 << 16;

    private readonly byte* _end = (byte*)slice.Address + slice.Length;
    private byte* _at = (byte*)slice.Address;
    private ProtoWire _wire;

    /// <summary>Bytes not yet read.</summary>
    public readonly long Remaining => _end - _at;

    /// <summary>Reads the next field's number and kind.</summary>
    /// <param name="field">Field number.</param>
    /// <param name="wire">The value's layout.</param>
    /// <returns>False at the end of the message.</returns>
    public bool Next(out int field, out ProtoWire wire)
    {
        field = 0;
        wire = default;
        if (_at == _end)
            return false;
        ulong key = RawVarint();
        field = (int)Math.Min(key >> 3, int.MaxValue);
        wire = _wire = (ProtoWire)(key & 7);
        if (field == 0 || field > 536_870_911 || wire is not (ProtoWire.Varint or ProtoWire.Fixed64 or ProtoWire.Bytes or ProtoWire.Fixed32))
            throw Bad($"found field {key >> 3} of kind {key & 7}, expected a protobuf field");
        return true;
    }

    /// <summary>The field's integer.</summary>
    /// <returns>The value; negative numbers are two's complement.</returns>
    public long Int64()
    {
        Expect(ProtoWire.Varint);
        return (long)RawVarint();
    }

    /// <summary>The field's bytes, in place.</summary>
    /// <returns>The slice, inside this message.</returns>
    public ProtoSlice Bytes()
    {
        Expect(ProtoWire.Bytes);
        ulong length = RawVarint();
        if (length > (ulong)Remaining)
            throw Bad($"found a value of {length} bytes, where {Remaining} are left");
        ProtoSlice value = new((nint)_at, (long)length);
        _at += length;
        return value;
    }

    /// <summary>The field's bytes, in place.</summary>
    /// <returns>A view of this message's memory.</returns>
    public ReadOnlySpan<byte> Span()
    {
        ProtoSlice bytes = Bytes();
        return bytes.Length <= int.MaxValue ? new((void*)bytes.Address, (int)bytes.Length)
            : throw Bad($"found a value of {bytes.Length} bytes, expected at most {int.MaxValue}");
    }

    /// <summary>The field's value, a message.</summary>
    /// <returns>A reader of it.</returns>
    public ProtoReader Message() => new(Bytes(), path, fileStart, kind);

    /// <summary>The field's text.</summary>
    /// <returns>A copy.</returns>
    public string Text()
    {
        ProtoSlice bytes = Bytes();
        return bytes.Length <= MaxTextBytes
            ? Encoding.UTF8.GetString((byte*)bytes.Address, (int)bytes.Length)
            : throw Bad($"found a name of {bytes.Length} bytes, expected at most {MaxTextBytes}");
    }

    /// <summary>The field's four bytes.</summary>
    /// <returns>Their bits.</returns>
    public uint Fixed32()
    {
        Expect(ProtoWire.Fixed32);
        return RawFixed32();
    }

    /// <summary>The field's float.</summary>
    /// <returns>The value.</returns>
    public float Single() => BitConverter.UInt32BitsToSingle(Fixed32());

    /// <summary>Passes over the field's value.</summary>
    public void Skip()
    {
        switch (_wire)
        {
            case ProtoWire.Varint:
                RawVarint();
                break;
            case ProtoWire.Fixed64:
                Take(8);
                break;
            case ProtoWire.Fixed32:
                Take(4);
                break;
            default:
                Bytes();
                break;
        }
    }

    /// <summary>A varint without a tag, as packed repeated fields hold them.</summary>
    /// <returns>The value.</returns>
    public ulong RawVarint()
    {
        ulong value = 0;
        for (int shift = 0; shift < 70; shift += 7)
        {
            byte b = *Take(1);
            if (shift == 63 && b > 1)
                break;
            value |= (ulong)(b & 0x7f) << shift;
            if (b < 0x80)
                return value;
        }
        throw Bad("found an integer of more than 64 bits");
    }

    /// <summary>Four bytes without a tag, as packed repeated fields hold them.</summary>
    /// <returns>Their bits.</returns>
    public uint RawFixed32() => Unsafe.ReadUnaligned<uint>(Take(4));

    /// <summary>An error that says where in the file it happened.</summary>
    /// <param name="what">What was found and expected, without a full stop.</param>
    /// <returns>The exception.</returns>
    public readonly InvalidDataException Bad(string what) =>
        new($"{path}: reading the {kind} at byte {(nint)_at - fileStart}: {what}. The file is truncated, damaged or no {kind}: copy it again from the checkpoint's source.");

    private byte* Take(int bytes)
    {
        if (Remaining < bytes)
            throw Bad($"the data ends where {bytes} more byte(s) were expected");
        byte* at = _at;
        _at += bytes;
        return at;
    }

    private readonly void Expect(ProtoWire wire)
    {
        if (_wire != wire)
            throw Bad($"found a value of kind {_wire}, expected {wire}");
    }

    /// <summary>Number of varints in a packed field: the bytes without a continuation bit.</summary>
    /// <param name="packed">The packed field.</param>
    /// <returns>The count.</returns>
    public static long CountVarints(ProtoSlice packed)
    {
        byte* at = (byte*)packed.Address;
        byte* end = at + packed.Length;
        long count = 0;
        for (; end - at >= 8; at += 8)
            count += 8 - BitOperations.PopCount(*(ulong*)at & 0x8080808080808080);
        for (; at < end; at++)
            count += *at < 0x80 ? 1 : 0;
        return count;
    }
}
