// Writes safetensors as the reference implementation does: header padded to 8 bytes, widest types first, then by name. Deliberately not: sharding.
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using IptNative.Kernels;

namespace IptNative.Model.Checkpoints;

/// <summary>Collects tensors and writes them as one safetensors file, whole or not at all.</summary>
public sealed class SafetensorsWriter
{
    private readonly SortedDictionary<string, string> _metadata = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);

    /// <summary>Starts an empty file with the metadata that PyTorch's and PEFT's loaders ask for: <c>format: pt</c>.</summary>
    public SafetensorsWriter() => _metadata["format"] = "pt";

    /// <summary>Adds or replaces a text entry of <c>__metadata__</c>.</summary>
    /// <param name="key">Its name.</param>
    /// <param name="value">Its text.</param>
    /// <returns>This writer.</returns>
    public SafetensorsWriter WithMetadata(string key, string value)
    {
        _metadata[key] = value;
        return this;
    }

    /// <summary>Adds an f32 tensor.</summary>
    /// <param name="name">Unique, not <c>__metadata__</c>.</param>
    /// <param name="shape">Dimensions.</param>
    /// <param name="values">Row-major values; read when <see cref="Save"/> runs.</param>
    /// <returns>This writer.</returns>
    /// <exception cref="ArgumentException">The name is taken, or the number of values is not the shape's.</exception>
    public SafetensorsWriter Add(string name, TensorShape shape, ReadOnlyMemory<float> values)
    {
        if (values.Length != shape.Elements)
            throw new ArgumentException($"tensor '{name}': found {values.Length} values, shape {shape} expects {shape.Elements}.", nameof(values));
        return Add(name, new Entry(DType.F32, shape, 4L * values.Length, stream => stream.Write(MemoryMarshal.AsBytes(values.Span))));
    }

    /// <summary>Adds a tensor that lies in memory or in another mapped file.</summary>
    /// <param name="weight">Its bytes stay valid until <see cref="Save"/> has run.</param>
    /// <returns>This writer.</returns>
    /// <exception cref="ArgumentException">The name is taken, or the type has no safetensors name (i4).</exception>
    public SafetensorsWriter Add(Weight weight)
    {
        if (weight.ByteLength != weight.DType.ByteLength(weight.Shape.Elements))
            throw new ArgumentException($"tensor '{weight.Name}': found {weight.ByteLength} bytes, {weight.DType.Name()} {weight.Shape} expects {weight.DType.ByteLength(weight.Shape.Elements)}.", nameof(weight));
        return Add(weight.Name, new Entry(weight.DType, weight.Shape, weight.ByteLength, stream => WriteMemory(stream, weight.Address, weight.ByteLength)));
    }

    /// <summary>Adds a tensor whose bytes are made while the file is written.</summary>
    /// <param name="name">Unique, not <c>__metadata__</c>.</param>
    /// <param name="type">Element type.</param>
    /// <param name="shape">Dimensions.</param>
    /// <param name="write">Writes exactly the shape's bytes.</param>
    /// <returns>This writer.</returns>
    /// <exception cref="ArgumentException">The name is taken, or the type has no safetensors name (i4).</exception>
    public SafetensorsWriter Add(string name, DType type, TensorShape shape, Action<Stream> write) => Add(name, new Entry(type, shape, type.ByteLength(shape.Elements), write));

    /// <summary>Writes the file under a temporary name and renames it.</summary>
    /// <param name="path">The file to make or replace.</param>
    /// <exception cref="IOException">The folder is missing or cannot be written.</exception>
    public void Save(string path) => AtomicFile.Write(path, WriteTo);

    /// <summary>Writes the file's bytes.</summary>
    /// <param name="stream">Written from where it stands.</param>
    /// <exception cref="IOException">The stream cannot be written.</exception>
    public void WriteTo(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        KeyValuePair<string, Entry>[] order = [.. _entries.OrderByDescending(e => e.Value.DType.Bits()).ThenBy(e => e.Key, StringComparer.Ordinal)];
        using var header = new MemoryStream();
        using (var json = new Utf8JsonWriter(header))
        {
            json.WriteStartObject();
            json.WriteStartObject("__metadata__");
            foreach ((string key, string value) in _metadata)
                json.WriteString(key, value);
            json.WriteEndObject();
            long offset = 0;
            foreach ((string name, Entry e) in order)
            {
                json.WriteStartObject(name);
                json.WriteString("dtype", TypeName(e.DType));
                json.WriteStartArray("shape");
                foreach (long d in e.Shape.Dims)
                    json.WriteNumberValue(d);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(offset);
                json.WriteNumberValue(offset += e.Bytes);
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }
        while (header.Length % 8 != 0)
            header.WriteByte((byte)' ');

        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        stream.Write(length);
        header.WriteTo(stream);
        foreach ((_, Entry e) in order)
            e.Write(stream);
    }

    private static string TypeName(DType type) => type == DType.Bool ? "BOOL" : type.Name().ToUpperInvariant();

    private static unsafe void WriteMemory(Stream stream, nint address, long bytes)
    {
        const int Chunk = 1 << 26;
        for (long at = 0; at < bytes; at += Chunk)
            stream.Write(new ReadOnlySpan<byte>((byte*)address + at, (int)Math.Min(Chunk, bytes - at)));
    }

    private SafetensorsWriter Add(string name, Entry entry)
    {
        if (entry.DType == DType.I4)
            throw new ArgumentException($"tensor '{name}': safetensors has no i4; widen it first.", nameof(entry));
        if (name == "__metadata__" || !_entries.TryAdd(name, entry))
            throw new ArgumentException($"tensor '{name}': the name is taken.", nameof(name));
        return this;
    }

    private sealed record Entry(DType DType, TensorShape Shape, long Bytes, Action<Stream> Write);
}
