// One TensorProto: its name, type, dimensions and where its bytes lie, inside the model file or in external data.
// Deliberately not: what the tensor means (see OptimumNames, PackageCheckpoint).
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Model.Protobuf;

namespace IptNative.Model.Onnx.Wire;

/// <summary>An initialiser as it stands in the file. Its data has been checked against its dimensions.</summary>
internal sealed class OnnxTensor
{
    private const int MaxRank = 8;

    private readonly OnnxFile _file;
    private readonly ProtoSlice _message;
    private ProtoSlice? _raw;

    private OnnxTensor(OnnxFile file, ProtoSlice message, string name, int onnxType, TensorShape shape)
    {
        _file = file;
        _message = message;
        Name = name;
        OnnxType = onnxType;
        Shape = shape;
    }

    /// <summary>The initialiser's name.</summary>
    public string Name { get; }

    /// <summary>TensorProto.DataType.</summary>
    public int OnnxType { get; }

    /// <summary>The element type; null where it is none that a weight can have.</summary>
    public DType? DType => OnnxType switch
    {
        1 => Kernels.DType.F32,
        2 => Kernels.DType.U8,
        3 => Kernels.DType.I8,
        6 => Kernels.DType.I32,
        7 => Kernels.DType.I64,
        9 => Kernels.DType.Bool,
        10 => Kernels.DType.F16,
        11 => Kernels.DType.F64,
        16 => Kernels.DType.BF16,
        21 => Kernels.DType.U4,
        22 => Kernels.DType.I4,
        _ => null,
    };

    /// <summary>Dimensions as stored.</summary>
    public TensorShape Shape { get; }

    /// <summary>Bytes of the elements; 0 where the type is none of ours.</summary>
    public long ByteLength { get; private set; }

    /// <summary>The element type as messages name it.</summary>
    public string TypeName => DType?.Name() ?? $"ONNX type {OnnxType}";

    /// <summary>The packed, little-endian elements in the file, at any alignment; null where the file spreads them over fields (see <see cref="Unpack"/>).</summary>
    public nint? InPlace => _raw?.Address;

    /// <summary>Reads a TensorProto.</summary>
    /// <param name="file">The file that holds it.</param>
    /// <param name="message">Its bytes.</param>
    /// <returns>The tensor; its data is not touched.</returns>
    /// <exception cref="InvalidDataException">The message is damaged, or its data does not have the size that its dimensions say.</exception>
    public static OnnxTensor Read(OnnxFile file, ProtoSlice message)
    {
        string name = "";
        long type = 0;
        long location = 0;
        var dims = new List<long>();
        long typed = -1;
        ProtoSlice? raw = null;
        var external = new Dictionary<string, string>(StringComparer.Ordinal);

        ProtoReader reader = file.Reader(message);
        while (reader.Next(out int field, out ProtoWire wire))
        {
            switch (field)
            {
                case 1 when wire == ProtoWire.Varint:
                    AddDim(dims, reader.Int64(), ref reader);
                    break;
                case 1:
                    ProtoReader packed = file.Reader(reader.Bytes());
                    while (packed.Remaining > 0)
                        AddDim(dims, (long)packed.RawVarint(), ref packed);
                    break;
                case 2:
                    type = reader.Int64();
                    break;
                case 3:
                    throw reader.Bad("found a tensor stored in segments, which no exporter writes");
                case 4 when wire == ProtoWire.Bytes:
                    typed = Math.Max(typed, 0) + reader.Bytes().Length / sizeof(float);
                    break;
                case 5 when wire == ProtoWire.Bytes:
                    typed = Math.Max(typed, 0) + ProtoReader.CountVarints(reader.Bytes());
                    break;
                case 4 or 5:
                    typed = Math.Max(typed, 0) + 1;
                    reader.Skip();
                    break;
                case 8:
                    name = reader.Text();
                    break;
                case 9:
                    raw = reader.Bytes();
                    break;
                case 13:
                    (string key, string value) = file.Entry(reader.Bytes());
                    external[key] = value;
                    break;
                case 14:
                    location = reader.Int64();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        TensorShape shape = new(CollectionsMarshal.AsSpan(dims));
        OnnxTensor tensor = new(file, message, name, (int)Math.Clamp(type, 0, int.MaxValue), shape);
        if (tensor.DType is not { } dtype)
            return tensor;
        try
        {
            tensor.ByteLength = dtype.ByteLength(shape.Elements);
        }
        catch (OverflowException)
        {
            throw Lies(file, name, $"has shape {shape}, whose size does not fit 64 bits");
        }

        if (location == 1)
            tensor._raw = file.External(name, external, tensor.ByteLength);
        else if (raw is { } bytes)
            tensor._raw = bytes.Length == tensor.ByteLength ? bytes
                : throw Lies(file, name, $"holds {bytes.Length} bytes, its shape {shape} of {dtype.Name()} implies {tensor.ByteLength}");
        else if (dtype is Kernels.DType.F32 or Kernels.DType.F16 or Kernels.DType.BF16 && Math.Max(typed, 0) != shape.Elements)
            throw Lies(file, name, $"holds {Math.Max(typed, 0)} numbers, its shape {shape} implies {shape.Elements}");
        return tensor;
    }

    /// <summary>Gathers elements that the file has as numbers: float_data for f32, int32_data for f16 and bf16.</summary>
    /// <returns>The elements, packed and little-endian, in memory that does not move.</returns>
    public byte[] Unpack()
    {
        // Each element has been counted in the file, so the file is at least half this long.
        if (ByteLength > Array.MaxLength)
            throw Lies(_file, Name, $"holds {ByteLength} bytes as separate numbers, expected at most {Array.MaxLength}");
        byte[] data = GC.AllocateUninitializedArray<byte>((int)ByteLength, pinned: true);
        bool half = DType != Kernels.DType.F32;
        int size = half ? 2 : 4;
        int at = 0;
        ProtoReader reader = _file.Reader(_message);
        while (reader.Next(out int field, out ProtoWire wire))
        {
            if (field != (half ? 5 : 4))
            {
                reader.Skip();
            }
            else if (wire == ProtoWire.Bytes)
            {
                ProtoReader packed = _file.Reader(reader.Bytes());
                while (packed.Remaining >= (half ? 1 : 4))
                    Put(half ? (uint)packed.RawVarint() : packed.RawFixed32());
            }
            else
            {
                Put(half ? (uint)reader.Int64() : reader.Fixed32());
            }
        }
        return at == data.Length ? data : throw Lies(_file, Name, $"holds {at} bytes of {TypeName}, expected {ByteLength}");

        void Put(uint bits)
        {
            if (data.Length - at < size)
                throw Lies(_file, Name, $"holds more than {ByteLength} bytes of {TypeName}");
            if (half)
                BinaryPrimitives.WriteUInt16LittleEndian(data.AsSpan(at), (ushort)bits);
            else
                BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(at), bits);
            at += size;
        }
    }

    private static void AddDim(List<long> dims, long dim, ref ProtoReader reader)
    {
        if (dim < 0)
            throw reader.Bad($"found a tensor dimension of {dim}, expected 0 or more");
        if (dims.Count == MaxRank)
            throw reader.Bad($"found a tensor of more than {MaxRank} dimensions");
        dims.Add(dim);
    }

    private static InvalidDataException Lies(OnnxFile file, string name, string what) =>
        new($"{file.Path}: tensor '{name}' {what}. The file is damaged; copy or export it again.");
}
