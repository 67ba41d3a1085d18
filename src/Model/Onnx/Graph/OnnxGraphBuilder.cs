// Writes an ONNX model node by node. Deliberately not: shape inference or checking (ONNX Runtime does both when it loads the model).
using System.Runtime.InteropServices;

namespace IptNative.Model.Onnx.Graph;

/// <summary>Builds a ModelProto. Values are addressed by the names that its methods return.</summary>
/// <remarks>Nodes must be added in the order in which they can run. Source: onnx/onnx.proto, whose field numbers stand in the code.</remarks>
internal sealed class OnnxGraphBuilder
{
    /// <summary>ONNX Runtime's contrib ops: FusedMatMul, MultiHeadAttention, ...</summary>
    public const string Microsoft = "com.microsoft";

    private readonly record struct Node(string Op, string Domain, string[] Inputs, string[] Outputs, OnnxAttribute[] Attributes);

    private readonly string _name;
    private readonly int _opset;
    private readonly int _irVersion;
    private readonly List<Node> _nodes = [];
    private int _first;
    private readonly List<ProtobufWriter> _inputs = [];
    private readonly List<ProtobufWriter> _outputs = [];
    private readonly List<ProtobufWriter> _initializers = [];
    private readonly HashSet<string> _givenNames = [];
    private readonly Dictionary<string, string> _constants = [];
    private readonly Dictionary<string, string> _renamed = [];
    private readonly Dictionary<string, int> _domains = [];
    private int _next;

    /// <summary>Starts a graph.</summary>
    /// <param name="name">The graph's name.</param>
    /// <param name="opset">Version of the default operator set.</param>
    /// <param name="irVersion">Oldest IR version that has this opset.</param>
    public OnnxGraphBuilder(string name, int opset, int irVersion)
    {
        _name = name;
        _opset = opset;
        _irVersion = irVersion;
    }

    /// <summary>Declares a graph input.</summary>
    /// <returns>Its name.</returns>
    public string Input(string name, OnnxType type, params ReadOnlySpan<OnnxDim> dims)
    {
        Given(name);
        _inputs.Add(ValueInfo(name, type, dims));
        return name;
    }

    /// <summary>Makes a value a graph output of that name.</summary>
    public void Output(string name, string value, OnnxType type, params ReadOnlySpan<OnnxDim> dims)
    {
        // A value is renamed rather than copied, but an input or a value that is an output already has its name.
        if (_givenNames.Contains(value) || !_renamed.TryAdd(value, name))
            _renamed[Op("Identity", [value])] = name;
        Given(name);
        _outputs.Add(ValueInfo(name, type, dims));
    }

    /// <summary>Adds a node of the default operator set with one output.</summary>
    /// <param name="op">Operator.</param>
    /// <param name="inputs">Values; an empty name leaves an optional input out.</param>
    /// <param name="attributes">Attributes.</param>
    /// <returns>The output's name.</returns>
    public string Op(string op, ReadOnlySpan<string> inputs, params ReadOnlySpan<OnnxAttribute> attributes) => Add(op, "", inputs, 1, attributes)[0];

    /// <summary>Adds a node of graph inputs alone in front of all others.</summary>
    /// <remarks>ONNX Runtime walks back from the outputs and takes the inputs that stand first last: such a node is run right before the one that reads it, not with all of its kind at the beginning.</remarks>
    /// <param name="op">Operator.</param>
    /// <param name="inputs">Graph inputs.</param>
    /// <param name="attributes">Attributes.</param>
    /// <returns>The output's name.</returns>
    public string First(string op, ReadOnlySpan<string> inputs, params ReadOnlySpan<OnnxAttribute> attributes)
    {
        string name = Add(op, "", inputs, 1, attributes)[0];
        Node node = _nodes[^1];
        _nodes.RemoveAt(_nodes.Count - 1);
        _nodes.Insert(_first++, node);
        return name;
    }

    /// <summary>Adds a node of com.microsoft.</summary>
    /// <param name="op">Operator.</param>
    /// <param name="inputs">Values; an empty name leaves an optional input out.</param>
    /// <param name="outputs">Number of outputs.</param>
    /// <param name="attributes">Attributes.</param>
    /// <returns>The outputs' names.</returns>
    public string[] Contrib(string op, ReadOnlySpan<string> inputs, int outputs, params ReadOnlySpan<OnnxAttribute> attributes)
    {
        _domains[Microsoft] = 1;
        return Add(op, Microsoft, inputs, outputs, attributes);
    }

    /// <summary>A float scalar.</summary>
    public string Constant(float value) => Constant($"f{BitConverter.SingleToInt32Bits(value):x8}", OnnxType.Float, [], MemoryMarshal.AsBytes(new ReadOnlySpan<float>(in value)));

    /// <summary>An int64 scalar.</summary>
    public string Constant(long value) => Constant($"i{value}", OnnxType.Int64, [], MemoryMarshal.AsBytes(new ReadOnlySpan<long>(in value)));

    /// <summary>An int64 vector: axes, a shape, ...</summary>
    public string Vector(params ReadOnlySpan<long> values) => Constant($"v{string.Join('_', values.ToArray())}", OnnxType.Int64, [values.Length], MemoryMarshal.AsBytes(values));

    /// <summary>An initialiser whose bytes lie in a file beside the model.</summary>
    public string External(string name, OnnxType type, ReadOnlySpan<long> dims, string location, long offset, long length)
    {
        Given(name);
        ProtobufWriter tensor = Tensor(name, type, dims);
        foreach ((string key, string value) in ((string, string)[])[("location", location), ("offset", $"{offset}"), ("length", $"{length}")])
        {
            var entry = new ProtobufWriter();
            entry.Text(1, key);
            entry.Text(2, value);
            tensor.Message(13, entry);
        }
        tensor.Integer(14, 1);
        _initializers.Add(tensor);
        return name;
    }

    /// <summary>Finishes the model.</summary>
    /// <returns>A serialised ModelProto.</returns>
    public byte[] Build()
    {
        var graph = new ProtobufWriter();
        var read = new HashSet<string>(_renamed.Keys);
        foreach (Node node in _nodes)
            read.UnionWith(node.Inputs);
        foreach (Node node in _nodes)
            graph.Message(1, Message(node, read));
        graph.Text(2, _name);
        foreach (ProtobufWriter initializer in _initializers)
            graph.Message(5, initializer);
        foreach (ProtobufWriter input in _inputs)
            graph.Message(11, input);
        foreach (ProtobufWriter output in _outputs)
            graph.Message(12, output);

        var model = new ProtobufWriter();
        model.Integer(1, _irVersion);
        model.Text(2, "IptNative");
        model.Text(3, typeof(OnnxGraphBuilder).Assembly.GetName().Version?.ToString(3) ?? "");
        model.Message(7, graph);
        Import(model, "", _opset);
        foreach ((string domain, int version) in _domains)
            Import(model, domain, version);
        return model.Written.ToArray();
    }

    private string[] Add(string op, string domain, ReadOnlySpan<string> inputs, int outputs, ReadOnlySpan<OnnxAttribute> attributes)
    {
        string[] names = new string[outputs];
        for (int i = 0; i < outputs; i++)
            names[i] = $"{op}_{_next++}";
        _nodes.Add(new Node(op, domain, inputs.ToArray(), names, attributes.ToArray()));
        return names;
    }

    private string Constant(string key, OnnxType type, ReadOnlySpan<long> dims, ReadOnlySpan<byte> bytes)
    {
        if (_constants.TryGetValue(key, out string? name))
            return name;
        name = $"constant_{key}";
        ProtobufWriter tensor = Tensor(name, type, dims);
        tensor.Bytes(9, bytes);
        _initializers.Add(tensor);
        _constants.Add(key, name);
        return name;
    }

    private void Given(string name)
    {
        if (!_givenNames.Add(name))
            throw new ArgumentException($"ONNX graph '{_name}': the name '{name}' is given twice, expected once.", nameof(name));
    }

    private ProtobufWriter Message(in Node node, HashSet<string> read)
    {
        var message = new ProtobufWriter();
        foreach (string input in node.Inputs)
            message.Text(1, Final(input));
        // An optional output that nobody reads is left out, so that the kernel need not compute it.
        int outputs = Array.FindLastIndex(node.Outputs, read.Contains) + 1;
        foreach (string output in node.Outputs.AsSpan(0, outputs))
            message.Text(2, read.Contains(output) ? Final(output) : "");
        // The first output's own name is unique and stays the same whatever outputs are asked for.
        message.Text(3, node.Outputs[0]);
        message.Text(4, node.Op);
        foreach (OnnxAttribute attribute in node.Attributes)
        {
            var inner = new ProtobufWriter();
            attribute.WriteTo(inner);
            message.Message(5, inner);
        }
        if (node.Domain.Length > 0)
            message.Text(7, node.Domain);
        return message;
    }

    private string Final(string value) => _renamed.GetValueOrDefault(value, value);

    private static ProtobufWriter Tensor(string name, OnnxType type, ReadOnlySpan<long> dims)
    {
        var tensor = new ProtobufWriter();
        foreach (long dim in dims)
            tensor.Integer(1, dim);
        tensor.Integer(2, (int)type);
        tensor.Text(8, name);
        return tensor;
    }

    private static ProtobufWriter ValueInfo(string name, OnnxType type, ReadOnlySpan<OnnxDim> dims)
    {
        var shape = new ProtobufWriter();
        foreach (OnnxDim dim in dims)
        {
            var d = new ProtobufWriter();
            if (dim.Name is { } symbol)
                d.Text(2, symbol);
            else
                d.Integer(1, dim.Value);
            shape.Message(1, d);
        }
        var tensor = new ProtobufWriter();
        tensor.Integer(1, (int)type);
        tensor.Message(2, shape);
        var typeProto = new ProtobufWriter();
        typeProto.Message(1, tensor);
        var info = new ProtobufWriter();
        info.Text(1, name);
        info.Message(2, typeProto);
        return info;
    }

    private static void Import(ProtobufWriter model, string domain, int version)
    {
        var import = new ProtobufWriter();
        import.Text(1, domain);
        import.Integer(2, version);
        model.Message(8, import);
    }
}
