// TensorBoard's event files: records with masked check sums around Event messages. Deliberately only scalars; written with our own protobuf writer.
using System.Buffers;
using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using IptNative.Model.Onnx.Graph;

namespace IptNative.Tuning.Runs;

/// <summary>A scalar's name, encoded once.</summary>
internal sealed class EventTag(string name)
{
    public byte[] Utf8 { get; } = Encoding.UTF8.GetBytes(name);
}

/// <summary>Appends scalars to an events.out.tfevents file.</summary>
/// <remarks>
/// Record   u64 length, u32 masked crc32c(length), data, u32 masked crc32c(data); mask(c) = ((c &gt;&gt; 15) | (c &lt;&lt; 17)) + 0xa282ead8.
/// Event    1 wall_time double, 2 step int64, 3 file_version string, 5 summary { 1 value { 1 tag string, 2 simple_value float } }.
/// Source: tensorflow/core/lib/io/record_writer.h, core/util/event.proto, core/framework/summary.proto.
/// </remarks>
internal sealed class TensorBoardFile : IDisposable
{
    private const string Version = "brain.Event:2";
    private const uint MaskDelta = 0xa282ead8;

    private readonly AppendedFile _file;
    private readonly TimeProvider _clock;
    private readonly ProtobufWriter _event = new();
    private readonly ProtobufWriter _summary = new();
    private readonly ProtobufWriter _value = new();
    private readonly ArrayBufferWriter<byte> _record = new();

    /// <summary>Opens a file; a new one gets its version record.</summary>
    /// <param name="path">events.out.tfevents.SECONDS.HOST, which TensorBoard knows its files by.</param>
    /// <param name="offset">Bytes to keep of an older one.</param>
    /// <param name="clock">Wall time of the events.</param>
    public TensorBoardFile(string path, long offset, TimeProvider clock)
    {
        _file = new AppendedFile(path, offset);
        _clock = clock;
        if (offset > 0)
            return;
        _event.Double(1, WallTime());
        _event.Text(3, Version);
        Append();
    }

    public long Offset => _file.Offset;

    /// <summary>Starts an event; scalars follow, then <see cref="End"/>.</summary>
    public void Begin(long step)
    {
        _summary.Clear();
        _event.Clear();
        _event.Double(1, WallTime());
        _event.Integer(2, step);
    }

    /// <summary>Adds a scalar; NaN is left out, because TensorBoard's curves break on it.</summary>
    public void Scalar(EventTag tag, double value)
    {
        if (double.IsNaN(value))
            return;
        _value.Clear();
        _value.Bytes(1, tag.Utf8);
        _value.Float(2, (float)value);
        _summary.Message(1, _value);
    }

    /// <summary>Writes the event.</summary>
    public void End()
    {
        _event.Message(5, _summary);
        Append();
    }

    public void Flush() => _file.Flush();

    public void Dispose() => _file.Dispose();

    /// <summary>CRC-32C (Castagnoli), as TensorFlow masks it so that check sums of check sums stay good ones.</summary>
    public static uint MaskedCrc(ReadOnlySpan<byte> bytes)
    {
        uint crc = Crc32C(bytes);
        return BitOperations.RotateRight(crc, 15) + MaskDelta;
    }

    /// <summary>CRC-32C.</summary>
    public static uint Crc32C(ReadOnlySpan<byte> bytes)
    {
        uint crc = uint.MaxValue;
        for (; bytes.Length >= 8; bytes = bytes[8..])
            crc = BitOperations.Crc32C(crc, BinaryPrimitives.ReadUInt64LittleEndian(bytes));
        foreach (byte b in bytes)
            crc = BitOperations.Crc32C(crc, b);
        return ~crc;
    }

    private void Append()
    {
        ReadOnlySpan<byte> data = _event.Written;
        _record.ResetWrittenCount();
        Span<byte> record = _record.GetSpan(data.Length + 16);
        BinaryPrimitives.WriteUInt64LittleEndian(record, (ulong)data.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(record[8..], MaskedCrc(record[..8]));
        data.CopyTo(record[12..]);
        BinaryPrimitives.WriteUInt32LittleEndian(record[(12 + data.Length)..], MaskedCrc(data));
        // One call for the record: a reader never sees a part of it for longer than the kernel needs.
        _file.Append(record[..(data.Length + 16)]);
    }

    private double WallTime() => (_clock.GetUtcNow() - DateTimeOffset.UnixEpoch).TotalSeconds;
}
