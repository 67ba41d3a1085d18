// Reads safetensors: u64 header length, JSON header, raw little-endian tensors. Deliberately not: sharding (ShardIndex), writing (SafetensorsWriter).
using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using IptNative.Kernels;

namespace IptNative.Model.Checkpoints;

/// <summary>A safetensors file, checked completely before the first tensor is handed out.</summary>
/// <remarks>
/// As the reference implementation: the header is bounded, names are unique, every range has the size that its type and shape imply,
/// and the ranges cover the data without holes or overlap. Source: huggingface/safetensors, README "Format".
/// </remarks>
public sealed class SafetensorsFile : TensorFile
{
    // The reference implementation's own limit.
    private const long MaxHeaderBytes = 100_000_000;
    private const int MaxRank = 64;

    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);

    private SafetensorsFile(MappedFile map)
        : base(map) => Parse();

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> Metadata => _metadata;

    /// <summary>Opens and checks a file.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The file; dispose it.</returns>
    /// <exception cref="InvalidDataException">The file is truncated, damaged or lies about its contents.</exception>
    /// <exception cref="IOException">The file cannot be opened.</exception>
    public static new SafetensorsFile Open(string path)
    {
        var map = new MappedFile(path);
        try
        {
            return new SafetensorsFile(map);
        }
        catch
        {
            map.Dispose();
            throw;
        }
    }

    private void Parse()
    {
        ForeignFormat.RefusePointer(Map);
        if (Map.Length < 8)
            throw Bad($"the file has {Map.Length} bytes, expected a header length of 8 bytes and a header");
        ulong declared = BinaryPrimitives.ReadUInt64LittleEndian(Map.Span(0, 8, "the header length"));
        if (declared > (ulong)(Map.Length - 8) || declared > MaxHeaderBytes)
            throw Bad($"the header claims {declared} bytes, expected at most {Math.Min(Map.Length - 8, MaxHeaderBytes)}");
        ReadOnlySpan<byte> header = Map.Span(8, (int)declared, "the header");
        if (header.Length < 2 || header[0] != (byte)'{')
            throw Bad("the header does not start with '{'");

        long dataStart = 8 + (long)declared;
        var ranges = new List<(long Begin, long End, string Name)>();
        try
        {
            var json = new Utf8JsonReader(header, new JsonReaderOptions { MaxDepth = 8 });
            json.Read();
            while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
            {
                string name = json.GetString() ?? "";
                json.Read();
                if (name == "__metadata__")
                    ReadMetadata(ref json);
                else
                    ranges.Add(ReadTensor(ref json, name, dataStart));
            }
            // Anything but trailing spaces after the object is an error of the JSON reader.
            json.Read();
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or DecoderFallbackException)
        {
            throw new InvalidDataException($"{Path}: reading the safetensors header; found broken JSON ({e.Message}). Copy or download the file again.", e);
        }

        // Tuples compare by Begin, then End: empty tensors come before the tensor that starts at the same byte.
        ranges.Sort();
        long expected = 0;
        foreach ((long begin, long end, string name) in ranges)
        {
            if (begin != expected)
                throw Bad($"tensor '{name}' starts at byte {begin} of the data, expected {expected}: tensors {(begin < expected ? "overlap" : "leave a hole")}");
            expected = end;
        }
        if (expected != Map.Length - dataStart)
            throw Bad($"the tensors take {expected} bytes of data, the file has {Map.Length - dataStart}");
    }

    private void ReadMetadata(ref Utf8JsonReader json)
    {
        if (json.TokenType != JsonTokenType.StartObject)
            throw Bad("__metadata__ is no object of texts");
        if (_metadata.Count > 0)
            throw Bad("__metadata__ stands there twice");
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            string key = json.GetString() ?? "";
            json.Read();
            if (json.TokenType != JsonTokenType.String)
                throw Bad($"__metadata__ entry '{key}' is {json.TokenType}, expected text");
            if (!_metadata.TryAdd(key, json.GetString() ?? ""))
                throw Bad($"__metadata__ entry '{key}' stands there twice");
        }
    }

    private (long Begin, long End, string Name) ReadTensor(ref Utf8JsonReader json, string name, long dataStart)
    {
        if (json.TokenType != JsonTokenType.StartObject)
            throw Bad($"tensor '{name}' is described by {json.TokenType}, expected an object");
        string? type = null;
        List<long>? shape = null;
        List<long>? offsets = null;
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            string key = json.GetString() ?? "";
            json.Read();
            bool twice = false;
            switch (key)
            {
                case "dtype":
                    twice = type is not null;
                    type = json.TokenType == JsonTokenType.String ? json.GetString() : throw Bad($"tensor '{name}': dtype is {json.TokenType}, expected text");
                    break;
                case "shape":
                    twice = shape is not null;
                    shape = ReadNumbers(ref json, name, key, MaxRank);
                    break;
                case "data_offsets":
                    twice = offsets is not null;
                    offsets = ReadNumbers(ref json, name, key, 2);
                    break;
                default:
                    json.Skip();
                    break;
            }
            if (twice)
                throw Bad($"tensor '{name}': {key} stands there twice");
        }
        if (type is null || shape is null || offsets is not [long begin, long end])
            throw Bad($"tensor '{name}' lacks dtype, shape or two data_offsets");

        (DType? dtype, int bits) = ElementType(name, type);
        long bytes;
        TensorShape dims;
        try
        {
            dims = new TensorShape([.. shape]);
            bytes = checked(dims.Elements * bits) / 8;
        }
        catch (OverflowException e)
        {
            throw new InvalidDataException($"{Path}: tensor '{name}' has shape [{string.Join(", ", shape)}], which is more than 64 bits can count. The file is damaged.", e);
        }
        long dataLength = Map.Length - dataStart;
        if (begin > end || end > dataLength)
            throw Bad($"tensor '{name}' has data_offsets [{begin}, {end}], expected a range inside the {dataLength} bytes of data");
        if (end - begin != bytes)
            throw Bad($"tensor '{name}' has {end - begin} bytes, its dtype {type} and shape {dims} imply {bytes}");
        if (!TryAdd(new StoredTensor(name, type, dtype, dims, dataStart + begin, bytes, null)))
            throw Bad($"tensor '{name}' stands there twice");
        return (begin, end, name);
    }

    private List<long> ReadNumbers(ref Utf8JsonReader json, string name, string key, int max)
    {
        if (json.TokenType != JsonTokenType.StartArray)
            throw Bad($"tensor '{name}': {key} is {json.TokenType}, expected a list of whole numbers");
        var numbers = new List<long>();
        while (json.Read() && json.TokenType != JsonTokenType.EndArray)
        {
            if (json.TokenType != JsonTokenType.Number || !json.TryGetInt64(out long n) || n < 0)
                throw Bad($"tensor '{name}': {key} holds something else than whole numbers of 0 or more");
            if (numbers.Count == max)
                throw Bad($"tensor '{name}': {key} has more than {max} numbers");
            numbers.Add(n);
        }
        return numbers;
    }

    // Types without a DType are listed, so that their range is checked, but not read.
    private (DType? Type, int Bits) ElementType(string name, string type) => type switch
    {
        "F32" => (DType.F32, 32),
        "F16" => (DType.F16, 16),
        "BF16" => (DType.BF16, 16),
        "F64" => (DType.F64, 64),
        "I64" => (DType.I64, 64),
        "I32" => (DType.I32, 32),
        "I8" => (DType.I8, 8),
        "U8" => (DType.U8, 8),
        "BOOL" => (DType.Bool, 8),
        "I16" or "U16" => (null, 16),
        "U32" => (null, 32),
        "U64" or "C64" => (null, 64),
        "F8_E5M2" or "F8_E4M3" or "F8_E8M0" => (null, 8),
        _ => throw Bad($"tensor '{name}' has dtype '{type}', expected one of F32, F16, BF16, F64, I64, I32, I8, U8, BOOL"),
    };

    private InvalidDataException Bad(string found) =>
        new($"{Path}: reading the safetensors header; {found}. The file is truncated or damaged: copy or download it again.");
}
