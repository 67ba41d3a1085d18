// Which initialiser of an exported stack is which T5 parameter: names first, then the module scope that torch leaves in node names.
// Deliberately not: files and pairs (OptimumCheckpoint).
//
// torch.onnx.export folds Linear's transpose into the weight and calls the result onnx::MatMul_123, stored [in, out]; the module's path survives
// only in the node's name, /block.0/layer.0/SelfAttention/q/MatMul. Embeddings and norms keep their names, unless equal tensors were merged.
using System.Text.RegularExpressions;
using IptNative.Kernels;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Wire;

namespace IptNative.Model.Onnx;

/// <summary>Finds a stack's parameters in its exported graph.</summary>
internal static partial class OptimumNames
{
    // Identity, Transpose and Cast between a weight and its user; a longer chain is no exporter's.
    private const int MaxChain = 8;

    /// <summary>Finds the parameters of one stack.</summary>
    /// <param name="model">The exported file.</param>
    /// <param name="stack">encoder or decoder: Optimum exports the encoder alone, so its names lack the prefix.</param>
    /// <param name="config">Shapes and names to look for.</param>
    /// <returns>Parameters by canonical name; the caller says what is missing.</returns>
    /// <exception cref="InvalidDataException">A parameter has another shape or type than the configuration implies, or two tensors claim one name.</exception>
    public static Dictionary<string, OnnxWeight> Find(OnnxModel model, string stack, T5Config config)
    {
        var wanted = T5Parameters.Of(config).ToDictionary(p => p.Name, p => p.Shape, StringComparer.Ordinal);
        var found = new Dictionary<string, OnnxWeight>(StringComparer.Ordinal);
        List<Use> uses = [.. model.Graph.All.SelectMany(g => g.Nodes.SelectMany(n => UsesOf(g, n, config)))];

        foreach (Use use in uses)
        {
            // The name nearest to the user wins: where equal tensors were merged, an Identity still carries the parameter's own.
            string? name = use.Names.Select(n => Canonical(n, stack, config)).FirstOrDefault(n => n is not null && wanted.ContainsKey(n));
            if (name is not null)
                Add(name, use.Weight);
        }
        foreach (Use use in uses)
        {
            string? name = Canonical(use.Scope, stack, config);
            if (name is not null && wanted.ContainsKey(name) && (!found.ContainsKey(name) || use.Kind == UseKind.Matrix))
                Add(name, use.Weight);
        }
        // Exports without folding keep every name, and may hand the weight to a function that we do not look into: torch's own layout then.
        foreach (OnnxTensor tensor in model.Graph.Tensors.Values)
        {
            string? name = Canonical(tensor.Name, stack, config);
            if (name is not null && !found.ContainsKey(name) && wanted.ContainsKey(name))
                Add(name, new OnnxWeight(tensor, false));
        }
        return found;

        void Add(string name, OnnxWeight weight)
        {
            TensorShape expected = wanted[name];
            OnnxTensor tensor = weight.Tensor;
            if (tensor.DType is not (DType.F32 or DType.F16 or DType.BF16))
                throw new InvalidDataException($"{model.Path}: '{name}' is stored as {tensor.TypeName}, expected f32, f16 or bf16. A quantised export has lost the weights; use the unquantised one.");
            if (weight.Shape != expected)
                throw new InvalidDataException($"{model.Path}: '{name}' (initialiser '{tensor.Name}') has shape {weight.Shape}, config.json implies {expected}. Is config.json from another model?");
            if (!found.TryGetValue(name, out OnnxWeight other))
                found.Add(name, weight);
            // A tied lm_head is the embedding once more, transposed; a merged decoder names each weight in both branches.
            else if (other.Tensor != tensor && !OnnxSample.Same(other, weight))
                throw new InvalidDataException($"{model.Path}: '{name}' is claimed by two initialisers with other values, '{other.Tensor.Name}' and '{tensor.Name}'.{(name == T5Parameters.Shared && config.TieWordEmbeddings ? " config.json says tie_word_embeddings, the file has an lm_head of its own: correct config.json." : " Export the model again, unoptimised.")}");
            else if (other.Transposed && !weight.Transposed)
                found[name] = weight;
        }
    }

    /// <summary>The canonical HF name that an initialiser's name or a node's scope stands for.</summary>
    /// <param name="path">With dots or slashes; a final operator name is dropped.</param>
    /// <param name="stack">The stack for paths that do not say.</param>
    /// <param name="config">For aliases.</param>
    /// <returns>Null where the path is no parameter's.</returns>
    public static string? Canonical(string path, string stack, T5Config config)
    {
        string dotted = path.Replace('/', '.');
        Match match = Parameter().Match(dotted);
        if (!match.Success)
            return null;
        string tail = match.Groups["tail"].Value;
        if (tail is "shared" or "lm_head")
            return T5Parameters.Canonical(config, $"{tail}.weight");
        string prefix = match.Groups["stack"].Success ? match.Groups["stack"].Value : stack;
        return T5Parameters.Canonical(config, $"{prefix}.{tail}.weight");
    }

    // A module's path, then either ".weight" (an initialiser) or an operator (a node's scope).
    [GeneratedRegex(@"(?:^|\.)(?:(?<stack>encoder|decoder)\.)?(?<tail>block\.\d+\.layer\.\d+\.(?:layer_norm|\w+\.(?:q|k|v|o|wi|wi_0|wi_1|wo|relative_attention_bias))|final_layer_norm|embed_tokens|shared|lm_head)\.(?:weight|MatMul|Gemm|Gather|Transpose|Mul)(?:_\d+)?$", RegexOptions.CultureInvariant | RegexOptions.ExplicitCapture)]
    private static partial Regex Parameter();

    private static IEnumerable<Use> UsesOf(OnnxGraph graph, OnnxNode node, T5Config config)
    {
        switch (node.OpType)
        {
            case "MatMul" when node.Inputs.Count == 2 && Trace(graph, node.Inputs[1]) is { Tensor.Shape.Rank: 2 } w:
                yield return new(node.Name, w.Names, new(w.Tensor, !w.Flipped), UseKind.Matrix);
                break;
            case "Gemm" when node.Inputs.Count >= 2 && Trace(graph, node.Inputs[1]) is { Tensor.Shape.Rank: 2 } w:
                bool transB = node.Integers.TryGetValue("transB", out long[]? t) && t is [not 0, ..];
                yield return new(node.Name, w.Names, new(w.Tensor, w.Flipped == transB), UseKind.Matrix);
                break;
            case "Gather" when node.Inputs.Count == 2 && Trace(graph, node.Inputs[0]) is { Tensor.Shape.Rank: 2 } w:
                // An embedding under any name is known by its shape: nothing else that is gathered has a row per token.
                bool embedding = w.Tensor.Shape == new TensorShape(config.VocabSize, config.DModel);
                yield return new(embedding ? "/shared/Gather" : node.Name, w.Names, new(w.Tensor, w.Flipped), UseKind.Table);
                break;
            case "Mul":
                foreach (string input in node.Inputs)
                {
                    if (Trace(graph, input) is { Tensor.Shape.Rank: 1 } w)
                        yield return new(node.Name, w.Names, new(w.Tensor, false), UseKind.Vector);
                }
                break;
        }
    }

    private static (OnnxTensor Tensor, bool Flipped, IReadOnlyList<string> Names)? Trace(OnnxGraph graph, string value)
    {
        var names = new List<string>();
        bool flipped = false;
        for (int i = 0; i < MaxChain; i++)
        {
            names.Add(value);
            if (Lookup(graph, value, g => g.Tensors) is { } tensor)
                return (tensor, flipped, names);
            OnnxNode? node = Lookup(graph, value, g => g.Producers);
            if (node is null || node.Inputs.Count == 0 || node.OpType is not ("Identity" or "Cast" or "Transpose"))
                return null;
            if (node.OpType == "Transpose")
            {
                // Without perm the dimensions are reversed.
                if (node.Integers.TryGetValue("perm", out long[]? perm) && perm is not [1, 0])
                    return null;
                flipped = !flipped;
                names.Add(node.Name);
            }
            value = node.Inputs[0];
        }
        return null;
    }

    private static T? Lookup<T>(OnnxGraph graph, string name, Func<OnnxGraph, Dictionary<string, T>> table)
        where T : class
    {
        for (OnnxGraph? g = graph; g is not null; g = g.Outer)
        {
            if (table(g).TryGetValue(name, out T? value))
                return value;
        }
        return null;
    }

    private enum UseKind
    {
        Matrix,
        Table,
        Vector,
    }

    private readonly record struct Use(string Scope, IReadOnlyList<string> Names, OnnxWeight Weight, UseKind Kind);
}
