// The graphs that IptNative runs: fused where ONNX Runtime's CPU kernels are faster or leaner, weights as inputs in the checkpoint's own layout.
// Deliberately built from the configuration alone, never from a package's model.onnx, which is for other programs (T5PackageGraph).
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Model.Onnx.Graph;

/// <summary>A model with the weights that it takes as inputs.</summary>
/// <param name="Model">A serialised ModelProto.</param>
/// <param name="Weights">HF names; each is a graph input of the parameter's own shape, f32 unless another type was asked for.</param>
/// <param name="Tape">Names of the residual stream's outputs in order; empty where none were asked for.</param>
/// <param name="Inside">Outputs from inside the sublayers in order (q, k, v of an attention; the feed-forward's one or two inner projections); empty below <see cref="TapeDetail.Full"/>.</param>
internal sealed record RuntimeGraph(byte[] Model, IReadOnlyList<string> Weights, IReadOnlyList<string> Tape, IReadOnlyList<InsideOutput> Inside);

/// <summary>A projection kept for the backward sweep.</summary>
/// <param name="Name">Graph output.</param>
/// <param name="Width">Its last dimension.</param>
/// <param name="OfSource">True for the cross attention's keys and values: as long as the encoder's output.</param>
internal sealed record InsideOutput(string Name, int Width, bool OfSource);

/// <summary>Encoder, decoder and cached decoder step of a T5 in fused ONNX Runtime ops.</summary>
/// <remarks>
/// A residual add and the norm after it are one SkipSimplifiedLayerNormalization, whose fourth output is the residual stream: the tape costs no
/// extra work. Position bias and causal mask come in as one float input made once per length; padding comes in as MultiHeadAttention's
/// key_padding_mask, so that no [B, H, S, S] mask exists. Padding gets HF's float.MinValue, not the op's default -10000 (T5's logits are unscaled).
/// </remarks>
internal static class T5RuntimeGraph
{
    public const string InputsEmbeds = "inputs_embeds";
    public const string KeyMask = "key_mask";
    public const string PositionBias = "position_bias";
    public const string EncoderHidden = "encoder_hidden";
    public const string DecoderHidden = "decoder_hidden";
    public const string Logits = "logits";

    // What ONNX Runtime 1.29 implements; Microsoft's ops have a version of their own.
    private const int Opset = 18;
    private const int IrVersion = 8;

    public static string CrossKey(int layer) => $"cross_key.{layer}";

    public static string CrossValue(int layer) => $"cross_value.{layer}";

    public static string PastKey(int layer) => $"past_key.{layer}";

    public static string PastValue(int layer) => $"past_value.{layer}";

    public static string PresentKey(int layer) => $"present_key.{layer}";

    public static string PresentValue(int layer) => $"present_value.{layer}";

    /// <summary>inputs_embeds f32[B,S,D], key_mask i32[B,S], position_bias f32[1,H,S,S] to encoder_hidden f32[B,S,D] (after the final norm).</summary>
    /// <param name="config">The model.</param>
    /// <param name="tape">What is kept.</param>
    /// <param name="types">The type in which each weight is given; what is not float32 the graph widens. Null: all are float32.</param>
    public static RuntimeGraph Encoder(T5Config config, TapeDetail tape, Func<string, OnnxType>? types = null)
    {
        var w = new Writer(config, "encoder", tape, types);
        string x = w.Graph.Input(InputsEmbeds, OnnxType.Float, "batch", "source", config.DModel);
        string mask = w.Graph.Input(KeyMask, OnnxType.Int32, "batch", "source");
        string bias = w.Graph.Input(PositionBias, OnnxType.Float, 1, config.NumHeads, "source", "source");
        w.Begin(x);
        for (int i = 0; i < config.NumLayers; i++)
        {
            string block = $"encoder.block.{i}.layer";
            string n = w.Norm($"{block}.0.layer_norm.weight", startsBlock: true);
            w.Add(w.SelfAttention($"{block}.0.SelfAttention", n, mask, bias));
            n = w.Norm($"{block}.1.layer_norm.weight");
            w.Add(w.FeedForward($"{block}.1.DenseReluDense", n));
        }
        string hidden = w.Norm("encoder.final_layer_norm.weight", startsBlock: true);
        w.Graph.Output(EncoderHidden, hidden, OnnxType.Float, "batch", "source", config.DModel);
        return w.Finish("batch", "source");
    }

    /// <summary>inputs_embeds f32[B,T,D], encoder_hidden f32[B,S,D], key_mask i32[B,S], position_bias f32[1,H,T,T] (causal) to logits f32[B,T,V]; with a tape also decoder_hidden (after the final norm).</summary>
    /// <param name="config">The model.</param>
    /// <param name="tape">What is kept.</param>
    /// <param name="logits">False leaves lm_head out.</param>
    /// <param name="types">As for <see cref="Encoder"/>.</param>
    public static RuntimeGraph Decoder(T5Config config, TapeDetail tape, bool logits = true, Func<string, OnnxType>? types = null)
    {
        var w = new Writer(config, "decoder", tape, types);
        string x = w.Graph.Input(InputsEmbeds, OnnxType.Float, "batch", "target", config.DModel);
        string encoded = w.Graph.Input(EncoderHidden, OnnxType.Float, "batch", "source", config.DModel);
        string mask = w.Graph.Input(KeyMask, OnnxType.Int32, "batch", "source");
        string bias = w.Graph.Input(PositionBias, OnnxType.Float, 1, config.NumHeads, "target", "target");
        w.Begin(x);
        for (int i = 0; i < config.NumDecoderLayers; i++)
        {
            string block = $"decoder.block.{i}.layer";
            string n = w.Norm($"{block}.0.layer_norm.weight", startsBlock: true);
            w.Add(w.SelfAttention($"{block}.0.SelfAttention", n, "", bias));
            n = w.Norm($"{block}.1.layer_norm.weight");
            string path = $"{block}.1.EncDecAttention";
            string mixed = w.Attend([w.Kept(n, $"{path}.q.weight"), w.Kept(encoded, $"{path}.k.weight", ofSource: true), w.Kept(encoded, $"{path}.v.weight", ofSource: true), "", mask])[0];
            w.Add(w.Linear(mixed, $"{path}.o.weight"));
            n = w.Norm($"{block}.2.layer_norm.weight");
            w.Add(w.FeedForward($"{block}.2.DenseReluDense", n));
        }
        string hidden = w.Norm("decoder.final_layer_norm.weight", startsBlock: true);
        if (tape != TapeDetail.None)
            w.Graph.Output(DecoderHidden, hidden, OnnxType.Float, "batch", "target", config.DModel);
        if (logits)
            w.Graph.Output(Logits, w.Head(hidden), OnnxType.Float, "batch", "target", config.VocabSize);
        return w.Finish("batch", "target");
    }

    /// <summary>encoder_hidden f32[B,S,D] to every decoder layer's cross_key and cross_value f32[B,H,S,K]: once per text, for <see cref="Step"/>.</summary>
    public static RuntimeGraph Cross(T5Config config)
    {
        var w = new Writer(config, "cross", TapeDetail.None);
        string encoded = w.Graph.Input(EncoderHidden, OnnxType.Float, "batch", "source", config.DModel);
        for (int i = 0; i < config.NumDecoderLayers; i++)
        {
            string path = $"decoder.block.{i}.layer.1.EncDecAttention";
            Export(CrossKey(i), $"{path}.k.weight");
            Export(CrossValue(i), $"{path}.v.weight");
        }
        return w.Finish("batch", "source");

        void Export(string name, string weight)
        {
            string heads = w.Graph.Op("Reshape", [w.Linear(encoded, weight), w.Graph.Vector(0, 0, config.NumHeads, config.DKv)]);
            w.Graph.Output(name, w.Graph.Op("Transpose", [heads], OnnxAttribute.Of("perm", 0, 2, 1, 3)), OnnxType.Float, "batch", config.NumHeads, "source", config.DKv);
        }
    }

    /// <summary>
    /// One token per row: inputs_embeds f32[G,R,D] (R rows for each of G texts), past_key and past_value f32[G*R,H,t,K], cross_key and cross_value f32[G,H,S,K],
    /// key_mask i32[G,S], position_bias f32[1,H,1,t+1] (or [G*R,H,1,t+1] where rows began at different steps) to logits f32[G,R,V], present_key and present_value f32[G*R,H,t+1,K].
    /// </summary>
    /// <remarks>The rows of one text are queries side by side in its cross attention: beams share one copy of its keys and values.</remarks>
    public static RuntimeGraph Step(T5Config config)
    {
        var w = new Writer(config, "step", TapeDetail.None);
        string x = w.Graph.Input(InputsEmbeds, OnnxType.Float, "texts", "rows", config.DModel);
        string mask = w.Graph.Input(KeyMask, OnnxType.Int32, "texts", "source");
        string bias = w.Graph.Input(PositionBias, OnnxType.Float, "biased", config.NumHeads, 1, "length");
        string oneEach = w.Graph.Vector(-1, 1, config.InnerDim);
        w.Begin(x);
        for (int i = 0; i < config.NumDecoderLayers; i++)
        {
            string block = $"decoder.block.{i}.layer";
            string pastKey = w.Graph.Input(PastKey(i), OnnxType.Float, "cached", config.NumHeads, "past", config.DKv);
            string pastValue = w.Graph.Input(PastValue(i), OnnxType.Float, "cached", config.NumHeads, "past", config.DKv);
            string crossKey = w.Graph.Input(CrossKey(i), OnnxType.Float, "texts", config.NumHeads, "source", config.DKv);
            string crossValue = w.Graph.Input(CrossValue(i), OnnxType.Float, "texts", config.NumHeads, "source", config.DKv);

            string path = $"{block}.0.SelfAttention";
            string n = w.Norm($"{block}.0.layer_norm.weight", startsBlock: true);
            string query = w.Linear(n, $"{path}.q.weight");
            string[] attended = w.Attend([Rows(query), Rows(w.Linear(n, $"{path}.k.weight")), Rows(w.Linear(n, $"{path}.v.weight")), "", "", bias, pastKey, pastValue]);
            w.Graph.Output(PresentKey(i), attended[1], OnnxType.Float, "cached", config.NumHeads, "length", config.DKv);
            w.Graph.Output(PresentValue(i), attended[2], OnnxType.Float, "cached", config.NumHeads, "length", config.DKv);
            string mixed = w.Graph.Op("Reshape", [attended[0], w.Graph.Op("Shape", [query])]);
            w.Add(w.Linear(mixed, $"{path}.o.weight"));

            path = $"{block}.1.EncDecAttention";
            n = w.Norm($"{block}.1.layer_norm.weight");
            mixed = w.Attend([w.Linear(n, $"{path}.q.weight"), crossKey, crossValue, "", mask])[0];
            w.Add(w.Linear(mixed, $"{path}.o.weight"));

            n = w.Norm($"{block}.2.layer_norm.weight");
            w.Add(w.FeedForward($"{block}.2.DenseReluDense", n));
        }
        w.Graph.Output(Logits, w.Head(w.Norm("decoder.final_layer_norm.weight")), OnnxType.Float, "texts", "rows", config.VocabSize);
        return w.Finish("texts", "rows");

        string Rows(string value) => w.Graph.Op("Reshape", [value, oneEach]);
    }

    /// <summary>Keeps the residual stream and its pending addend while a graph is written.</summary>
    private sealed class Writer(T5Config config, string name, TapeDetail tape, Func<string, OnnxType>? types = null)
    {
        private readonly Dictionary<string, T5Parameter> _parameters = T5Parameters.Of(config).ToDictionary(p => p.Name);
        private readonly List<string> _weights = [];
        private readonly List<string> _tape = [];
        private readonly List<(string Value, int Width, bool OfSource)> _inside = [];
        private string _stream = "";
        private string? _addend;

        public OnnxGraphBuilder Graph { get; } = new(name, Opset, IrVersion);

        public void Begin(string x) => _stream = x;

        public void Add(string value) => _addend = value;

        /// <summary>Adds what is pending to the stream and normalises it.</summary>
        public string Norm(string weight, bool startsBlock = false)
        {
            string gamma = Weight(weight);
            OnnxAttribute epsilon = OnnxAttribute.Of("epsilon", config.LayerNormEpsilon);
            if (_addend is null)
                return Graph.Op("SimplifiedLayerNormalization", [_stream, gamma], epsilon, OnnxAttribute.Of("axis", -1));
            string[] outputs = Graph.Contrib("SkipSimplifiedLayerNormalization", [_stream, _addend, gamma], 4, epsilon);
            (_stream, _addend) = (outputs[3], null);
            if (tape is TapeDetail.Sublayers or TapeDetail.Full || (tape == TapeDetail.Blocks && startsBlock))
                _tape.Add(_stream);
            return outputs[0];
        }

        public string SelfAttention(string path, string x, string mask, string bias)
        {
            string mixed = Attend([Kept(x, $"{path}.q.weight"), Kept(x, $"{path}.k.weight"), Kept(x, $"{path}.v.weight"), "", mask, bias])[0];
            return Linear(mixed, $"{path}.o.weight");
        }

        /// <summary>MultiHeadAttention's inputs: query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value. Outputs: mixed values, present key, present value.</summary>
        public string[] Attend(ReadOnlySpan<string> inputs) => Graph.Contrib("MultiHeadAttention", inputs, 3,
            OnnxAttribute.Of("num_heads", (long)config.NumHeads), OnnxAttribute.Of("scale", 1f), OnnxAttribute.Of("mask_filter_value", float.MinValue));

        public string FeedForward(string dense, string x)
        {
            string h = Kept(x, config.IsGated ? $"{dense}.wi_0.weight" : $"{dense}.wi.weight");
            h = config.IsRelu ? Graph.Op("Relu", [h]) : Graph.Contrib("FastGelu", [h], 1)[0];
            if (config.IsGated)
                h = Graph.Op("Mul", [h, Kept(x, $"{dense}.wi_1.weight")]);
            return Linear(h, $"{dense}.wo.weight");
        }

        public string Head(string x) => config.TieWordEmbeddings
            ? Linear(x, T5Parameters.Shared, (float)Math.Pow(config.DModel, -0.5))
            : Linear(x, T5Parameters.LmHead);

        /// <summary>alpha x W^T with W as the checkpoint has it, [out, in].</summary>
        public string Linear(string x, string weight, float alpha = 1) =>
            Graph.Contrib("FusedMatMul", [x, Weight(weight)], 1, OnnxAttribute.Of("transB", 1L), OnnxAttribute.Of("alpha", alpha))[0];

        /// <summary>x W^T that the full tape keeps.</summary>
        public string Kept(string x, string weight, bool ofSource = false)
        {
            string value = Linear(x, weight);
            if (tape == TapeDetail.Full)
                _inside.Add((value, (int)_parameters[weight].Shape[0], ofSource));
            return value;
        }

        public RuntimeGraph Finish(string batch, string length)
        {
            var names = new List<string>();
            foreach (string value in _tape)
            {
                names.Add($"hidden.{names.Count}");
                Graph.Output(names[^1], value, OnnxType.Float, batch, length, config.DModel);
            }
            var inside = new List<InsideOutput>();
            foreach ((string value, int width, bool ofSource) in _inside)
            {
                inside.Add(new InsideOutput($"inside.{inside.Count}", width, ofSource));
                Graph.Output(inside[^1].Name, value, OnnxType.Float, batch, ofSource ? "source" : length, width);
            }
            return new RuntimeGraph(Graph.Build(), _weights, names, inside);
        }

        private string Weight(string weight)
        {
            T5Parameter parameter = _parameters[weight];
            var dims = new OnnxDim[parameter.Shape.Rank];
            for (int i = 0; i < dims.Length; i++)
                dims[i] = parameter.Shape[i];
            _weights.Add(weight);
            OnnxType type = types?.Invoke(weight) ?? OnnxType.Float;
            string given = Graph.Input(weight, type, dims);
            return type == OnnxType.Float ? given : Graph.First("Cast", [given], OnnxAttribute.Of("to", (long)OnnxType.Float));
        }
    }
}
