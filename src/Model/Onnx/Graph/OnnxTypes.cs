// The small vocabulary of OnnxGraphBuilder: element types, dimensions, attributes. Numbers are those of onnx.proto.
namespace IptNative.Model.Onnx.Graph;

/// <summary>TensorProto.DataType.</summary>
internal enum OnnxType
{
    Float = 1,
    Int8 = 3,
    Int32 = 6,
    Int64 = 7,
    Bool = 9,
    Float16 = 10,
    BFloat16 = 16,
    UInt4 = 21,
}

/// <summary>One dimension: a number, or a name where it is known only at run time.</summary>
internal readonly record struct OnnxDim(string? Name, long Value)
{
    public static implicit operator OnnxDim(string name) => new(name, 0);

    public static implicit operator OnnxDim(long value) => new(null, value);
}

/// <summary>A node's attribute.</summary>
internal readonly record struct OnnxAttribute
{
    private const int TypeFloat = 1;
    private const int TypeInt = 2;
    private const int TypeInts = 7;

    private readonly string _name;
    private readonly int _type;
    private readonly float _float;
    private readonly long[] _ints;

    private OnnxAttribute(string name, int type, float single, params long[] ints)
    {
        _name = name;
        _type = type;
        _float = single;
        _ints = ints;
    }

    public static OnnxAttribute Of(string name, float value) => new(name, TypeFloat, value);

    public static OnnxAttribute Of(string name, long value) => new(name, TypeInt, 0, value);

    public static OnnxAttribute Of(string name, params long[] values) => new(name, TypeInts, 0, values);

    public void WriteTo(ProtobufWriter message)
    {
        message.Text(1, _name);
        if (_type == TypeFloat)
            message.Float(2, _float);
        else if (_type == TypeInt)
            message.Integer(3, _ints[0]);
        else
        {
            foreach (long value in _ints)
                message.Integer(8, value);
        }
        message.Integer(20, _type);
    }
}
