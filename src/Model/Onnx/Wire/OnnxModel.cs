// What this program reads of a ModelProto: graph, nodes, initialisers, inputs and outputs, operator sets, metadata.
// Deliberately not: shape inference, execution, validation of operators.
using IptNative.Model.Protobuf;

namespace IptNative.Model.Onnx.Wire;

/// <summary>A graph input or output.</summary>
/// <param name="Name">Its name.</param>
/// <param name="ElementType">TensorProto.DataType; 0 where the file does not say.</param>
internal readonly record struct OnnxValue(string Name, int ElementType);

/// <summary>A node.</summary>
/// <param name="Name">Its name: torch's module scope.</param>
/// <param name="OpType">The operator.</param>
/// <param name="Domain">The operator's domain; empty for ONNX's own.</param>
/// <param name="Inputs">Value names; empty where an optional input is left out.</param>
/// <param name="Outputs">Value names.</param>
/// <param name="Integers">Integer attributes, single ones as a list of one.</param>
internal sealed record OnnxNode(string Name, string OpType, string Domain, IReadOnlyList<string> Inputs, IReadOnlyList<string> Outputs, IReadOnlyDictionary<string, long[]> Integers);

/// <summary>A graph or an If's branch. Names are looked up here first, then in <see cref="Outer"/>.</summary>
/// <param name="outer">The enclosing graph.</param>
internal sealed class OnnxGraph(OnnxGraph? outer)
{
    /// <summary>The enclosing graph.</summary>
    public OnnxGraph? Outer { get; } = outer;

    /// <summary>Nodes in file order.</summary>
    public List<OnnxNode> Nodes { get; } = [];

    /// <summary>Initialisers and Constant nodes' values, by name.</summary>
    public Dictionary<string, OnnxTensor> Tensors { get; } = new(StringComparer.Ordinal);

    /// <summary>Which node makes a value.</summary>
    public Dictionary<string, OnnxNode> Producers { get; } = new(StringComparer.Ordinal);

    /// <summary>Inputs, without the initialisers that old files repeat there.</summary>
    public List<OnnxValue> Inputs { get; } = [];

    /// <summary>Outputs.</summary>
    public List<OnnxValue> Outputs { get; } = [];

    /// <summary>Branches of If and bodies of Loop.</summary>
    public List<OnnxGraph> Subgraphs { get; } = [];

    /// <summary>This graph and all within it.</summary>
    public IEnumerable<OnnxGraph> All => [this, .. Subgraphs.SelectMany(g => g.All)];
}

/// <summary>An opened .onnx file. Owns its mappings: tensors' addresses end with it.</summary>
internal sealed class OnnxModel : IDisposable
{
    // A T5-11B export has some 10,000 nodes. The bounds keep a hostile file from being turned into many times its size in objects.
    private const int MaxObjects = 1 << 20;
    private const int MaxDepth = 8;

    private readonly OnnxFile _file;
    private int _objects;

    private OnnxModel(OnnxFile file)
    {
        _file = file;
    }

    /// <summary>The .onnx file.</summary>
    public string Path => _file.Path;

    /// <summary>The model file and its external data.</summary>
    public IEnumerable<string> Files => _file.Files;

    /// <summary>Refuses to go on with external data that has changed.</summary>
    /// <exception cref="IOException">It has.</exception>
    public void RequireUnchanged() => _file.RequireUnchanged();

    /// <summary>The main graph.</summary>
    public OnnxGraph Graph { get; } = new(null);

    /// <summary>Operator set versions by domain; ONNX's own domain is the empty name.</summary>
    public Dictionary<string, long> Opsets { get; } = new(StringComparer.Ordinal);

    /// <summary>metadata_props.</summary>
    public Dictionary<string, string> Metadata { get; } = new(StringComparer.Ordinal);

    /// <summary>Maps and reads a model.</summary>
    /// <param name="path">The .onnx file.</param>
    /// <returns>The model.</returns>
    /// <exception cref="InvalidDataException">The file is damaged, lies about its sizes, or is no ONNX model.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static OnnxModel Open(string path)
    {
        OnnxModel model = new(new OnnxFile(path));
        try
        {
            model.Read();
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private void Read()
    {
        bool found = false;
        ProtoReader reader = _file.Reader(_file.Whole);
        while (reader.Next(out int field, out _))
        {
            switch (field)
            {
                case 7:
                    ReadGraph(reader.Bytes(), Graph, 0);
                    found = true;
                    break;
                case 8:
                    ReadOpset(reader.Bytes());
                    break;
                case 14:
                    Count(ref reader);
                    (string key, string value) = _file.Entry(reader.Bytes());
                    Metadata[key] = value;
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }
        if (!found)
            throw reader.Bad("found no graph");
    }

    private void ReadOpset(ProtoSlice message)
    {
        string domain = "";
        long version = 0;
        ProtoReader reader = _file.Reader(message);
        Count(ref reader);
        while (reader.Next(out int field, out _))
        {
            if (field == 1)
                domain = reader.Text();
            else if (field == 2)
                version = reader.Int64();
            else
                reader.Skip();
        }
        Opsets[domain == "ai.onnx" ? "" : domain] = version;
    }

    private void ReadGraph(ProtoSlice message, OnnxGraph graph, int depth)
    {
        ProtoReader reader = _file.Reader(message);
        if (depth > MaxDepth)
            throw reader.Bad($"found graphs nested more than {MaxDepth} deep");
        while (reader.Next(out int field, out _))
        {
            switch (field)
            {
                case 1:
                    Count(ref reader);
                    ReadNode(reader.Bytes(), graph, depth);
                    break;
                case 5:
                    Count(ref reader);
                    OnnxTensor tensor = OnnxTensor.Read(_file, reader.Bytes());
                    if (!graph.Tensors.TryAdd(tensor.Name, tensor))
                        throw reader.Bad($"found the initialiser '{tensor.Name}' twice");
                    break;
                case 11:
                    Count(ref reader);
                    graph.Inputs.Add(ReadValue(reader.Bytes()));
                    break;
                case 12:
                    Count(ref reader);
                    graph.Outputs.Add(ReadValue(reader.Bytes()));
                    break;
                case 15:
                    throw reader.Bad("found a sparse initialiser, which no T5 exporter writes");
                default:
                    reader.Skip();
                    break;
            }
        }
        graph.Inputs.RemoveAll(i => graph.Tensors.ContainsKey(i.Name));
    }

    private void ReadNode(ProtoSlice message, OnnxGraph graph, int depth)
    {
        string name = "";
        string op = "";
        string domain = "";
        var inputs = new List<string>();
        var outputs = new List<string>();
        Dictionary<string, long[]>? integers = null;
        OnnxTensor? constant = null;
        ProtoReader reader = _file.Reader(message);
        while (reader.Next(out int field, out _))
        {
            switch (field)
            {
                case 1:
                    Count(ref reader);
                    inputs.Add(reader.Text());
                    break;
                case 2:
                    Count(ref reader);
                    outputs.Add(reader.Text());
                    break;
                case 3:
                    name = reader.Text();
                    break;
                case 4:
                    op = reader.Text();
                    break;
                case 5:
                    Count(ref reader);
                    ReadAttribute(reader.Bytes(), graph, depth, ref integers, ref constant);
                    break;
                case 7:
                    domain = reader.Text();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        OnnxNode node = new(name, op, domain == "ai.onnx" ? "" : domain, inputs, outputs, integers ?? NoIntegers);
        graph.Nodes.Add(node);
        foreach (string output in outputs)
        {
            if (output.Length > 0)
                graph.Producers.TryAdd(output, node);
        }
        if (op == "Constant" && constant is not null && outputs.Count == 1)
            graph.Tensors.TryAdd(outputs[0], constant);
    }

    private static readonly Dictionary<string, long[]> NoIntegers = [];

    private void ReadAttribute(ProtoSlice message, OnnxGraph graph, int depth, ref Dictionary<string, long[]>? integers, ref OnnxTensor? constant)
    {
        string name = "";
        List<long>? numbers = null;
        ProtoReader reader = _file.Reader(message);
        while (reader.Next(out int field, out ProtoWire wire))
        {
            switch (field)
            {
                case 1:
                    name = reader.Text();
                    break;
                case 3 or 8 when wire == ProtoWire.Varint:
                    Count(ref reader);
                    (numbers ??= []).Add(reader.Int64());
                    break;
                case 8:
                    ProtoReader packed = _file.Reader(reader.Bytes());
                    while (packed.Remaining > 0)
                    {
                        Count(ref packed);
                        (numbers ??= []).Add((long)packed.RawVarint());
                    }
                    break;
                case 5:
                    constant = OnnxTensor.Read(_file, reader.Bytes());
                    break;
                case 6 or 11:
                    OnnxGraph inner = new(graph);
                    graph.Subgraphs.Add(inner);
                    ReadGraph(reader.Bytes(), inner, depth + 1);
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }
        if (numbers is not null)
            (integers ??= new(StringComparer.Ordinal))[name] = [.. numbers];
    }

    private OnnxValue ReadValue(ProtoSlice message)
    {
        string name = "";
        long type = 0;
        ProtoReader reader = _file.Reader(message);
        while (reader.Next(out int field, out _))
        {
            if (field == 1)
                name = reader.Text();
            else if (field == 2)
                type = ElementType(reader.Bytes());
            else
                reader.Skip();
        }
        return new(name, (int)Math.Clamp(type, 0, int.MaxValue));
    }

    // TypeProto.tensor_type.elem_type: field 1 of field 1.
    private long ElementType(ProtoSlice typeProto)
    {
        long type = 0;
        ProtoReader reader = _file.Reader(typeProto);
        while (reader.Next(out int field, out _))
        {
            if (field != 1)
            {
                reader.Skip();
                continue;
            }
            ProtoReader tensor = _file.Reader(reader.Bytes());
            while (tensor.Next(out int inner, out _))
            {
                if (inner == 1)
                    type = tensor.Int64();
                else
                    tensor.Skip();
            }
        }
        return type;
    }

    private void Count(ref ProtoReader reader)
    {
        if (++_objects > MaxObjects)
            throw reader.Bad($"found more than {MaxObjects} nodes, names and tensors, far more than any T5 has");
    }
}
