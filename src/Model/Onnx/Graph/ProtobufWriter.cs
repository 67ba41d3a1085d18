// The few wire types of Protocol Buffers that ONNX models and TensorBoard events need, written. Deliberately not: reading, or any schema.
using System.Buffers;
using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace IptNative.Model.Onnx.Graph;

/// <summary>Appends protobuf fields to a message; a nested message is another writer.</summary>
[SuppressMessage("Naming", "CA1720", Justification = "The methods are named after protobuf's own types.")]
public sealed class ProtobufWriter
{
    private const int Varint = 0;
    private const int Fixed64 = 1;
    private const int LengthDelimited = 2;
    private const int Fixed32 = 5;

    private readonly ArrayBufferWriter<byte> _buffer = new();

    /// <summary>The message so far; valid until the next call.</summary>
    public ReadOnlySpan<byte> Written => _buffer.WrittenSpan;

    /// <summary>Starts a new message in the same memory.</summary>
    public void Clear() => _buffer.ResetWrittenCount();

    /// <summary>An int64, int32, bool or enum.</summary>
    /// <param name="field">Field number.</param>
    /// <param name="value">Its value.</param>
    public void Integer(int field, long value)
    {
        Tag(field, Varint);
        Raw((ulong)value);
    }

    /// <summary>A float.</summary>
    /// <param name="field">Field number.</param>
    /// <param name="value">Its value.</param>
    public void Float(int field, float value)
    {
        Tag(field, Fixed32);
        BinaryPrimitives.WriteSingleLittleEndian(_buffer.GetSpan(4), value);
        _buffer.Advance(4);
    }

    /// <summary>A double.</summary>
    /// <param name="field">Field number.</param>
    /// <param name="value">Its value.</param>
    public void Double(int field, double value)
    {
        Tag(field, Fixed64);
        BinaryPrimitives.WriteDoubleLittleEndian(_buffer.GetSpan(8), value);
        _buffer.Advance(8);
    }

    /// <summary>Bytes, or a text's UTF-8.</summary>
    /// <param name="field">Field number.</param>
    /// <param name="value">Copied.</param>
    public void Bytes(int field, ReadOnlySpan<byte> value)
    {
        Tag(field, LengthDelimited);
        Raw((ulong)value.Length);
        _buffer.Write(value);
    }

    /// <summary>A text.</summary>
    /// <param name="field">Field number.</param>
    /// <param name="value">Its value.</param>
    public void Text(int field, string value) => Bytes(field, Encoding.UTF8.GetBytes(value));

    /// <summary>A nested message.</summary>
    /// <param name="field">Field number.</param>
    /// <param name="message">Copied as it stands.</param>
    public void Message(int field, ProtobufWriter message)
    {
        ArgumentNullException.ThrowIfNull(message);
        Bytes(field, message.Written);
    }

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
