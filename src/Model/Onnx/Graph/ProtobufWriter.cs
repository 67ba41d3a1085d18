// The few wire types of Protocol Buffers that an ONNX model needs, written. Deliberately not: reading, or any schema.
using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace IptNative.Model.Onnx.Graph;

/// <summary>Appends protobuf fields to a message; a nested message is another writer.</summary>
internal sealed class ProtobufWriter
{
    private const int Varint = 0;
    private const int LengthDelimited = 2;
    private const int Fixed32 = 5;

    private readonly ArrayBufferWriter<byte> _buffer = new();

    public ReadOnlySpan<byte> Written => _buffer.WrittenSpan;

    public void Integer(int field, long value)
    {
        Tag(field, Varint);
        Raw((ulong)value);
    }

    public void Float(int field, float value)
    {
        Tag(field, Fixed32);
        BinaryPrimitives.WriteSingleLittleEndian(_buffer.GetSpan(4), value);
        _buffer.Advance(4);
    }

    public void Bytes(int field, ReadOnlySpan<byte> value)
    {
        Tag(field, LengthDelimited);
        Raw((ulong)value.Length);
        _buffer.Write(value);
    }

    public void Text(int field, string value) => Bytes(field, Encoding.UTF8.GetBytes(value));

    public void Message(int field, ProtobufWriter message) => Bytes(field, message.Written);

    private void Tag(int field, int wireType) => Raw((ulong)(field << 3 | wireType));

    private void Raw(ulong value)
    {
        Span<byte> span = _buffer.GetSpan(10);
        int n = 0;
        for (; value >= 0x80; value >>= 7)
            span[n++] = (byte)(value | 0x80);
        span[n++] = (byte)value;
        _buffer.Advance(n);
    }
}
