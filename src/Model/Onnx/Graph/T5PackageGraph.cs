// The graph of an exported package (model.onnx): standard ops only, so that any ONNX runtime can load it.
// Deliberately not the graph that IptNative runs (T5RuntimeGraph): that one is lean and fused, this one is read as a specification.
using IptNative.Kernels;
using IptNative.Kernels.Ops;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;

namespace IptNative.Model.Onnx.Graph;

/// <summary>Encoder, decoder and head of a T5 in plain ONNX ops, with weights as external initialisers under their HF names.</summary>
/// <remarks>
/// Inputs inputs_embeds f32[B,S,D], attention_mask i64[B,S] (1 = read, 0 = padding), decoder_input_ids i64[B,T]; output logits f32[B,T,V].
/// Source: HF transformers modeling_t5.py (T5Stack, T5Attention, T5LayerNorm, T5DenseGatedActDense).
/// </remarks>
internal static class T5PackageGraph
{
    // 18 is the first opset where ReduceMean takes its axes as an input, as every later one does.
    private const int Opset = 18;
    private const int IrVersion = 8;

    // The first opset whose DequantizeLinear takes blocks and 4-bit codes, and the first IR version that has such a type.
    private const int BlockOpset = 21;
    private const int BlockIrVersion = 10;

    /// <summary>Writes the model.</summary>
    /// <param name="config">Sizes and switches.</param>
    /// <param name="tensors">Where each parameter of <see cref="T5Parameters.Of"/> lies, [out, in]: f32, f16, bf16, or i8 or u4 codes whose scales and zero points stand in the list too.</param>
    /// <returns>A serialised ModelProto.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, is given twice, or has another shape or type.</exception>
    public static byte[] Build(T5Config config, IReadOnlyList<PackageTensor> tensors)
    {
        // Refuses a configuration for which HF's bucket formula divides by zero.
        RelativePositionBias.Bucket(0, bidirectional: true, config.RelativeAttentionNumBuckets, config.RelativeAttentionMaxDistance);
        return new Writer(config, tensors).Build();
    }

    private sealed class Writer(T5Config config, IReadOnlyList<PackageTensor> tensors)
    {
        private readonly OnnxGraphBuilder _g = tensors.Any(t => WeightFormats.IsQuantised(t.DType)) ? new("t5", BlockOpset, BlockIrVersion) : new("t5", Opset, IrVersion);
        private readonly Dictionary<string, string> _weights = [];

        public byte[] Build()
        {
            string embeds = _g.Input("inputs_embeds", OnnxType.Float, "batch", "source", config.DModel);
            string mask = _g.Input("attention_mask", OnnxType.Int64, "batch", "source");
            string ids = _g.Input("decoder_input_ids", OnnxType.Int64, "batch", "target");
            DeclareWeights();

            string readMask = MaskBias(mask);
            string encoded = Encoder(embeds, readMask);
            string decoded = Decoder(ids, encoded, readMask);
            if (config.TieWordEmbeddings)
                decoded = _g.Op("Mul", [decoded, _g.Constant((float)Math.Pow(config.DModel, -0.5))]);
            string logits = Linear(decoded, config.TieWordEmbeddings ? T5Parameters.Shared : T5Parameters.LmHead);
            _g.Output("logits", logits, OnnxType.Float, "batch", "target", config.VocabSize);
            return _g.Build();
        }

        private void DeclareWeights()
        {
            var given = new Dictionary<string, PackageTensor>();
            foreach (PackageTensor tensor in tensors)
            {
                if (!given.TryAdd(tensor.Name, tensor))
                    throw new ArgumentException($"building model.onnx: tensor '{tensor.Name}' is given twice, expected once.", nameof(tensors));
            }
            foreach (T5Parameter parameter in T5Parameters.Of(config))
            {
                if (!given.TryGetValue(parameter.Name, out PackageTensor? tensor))
                    throw new ArgumentException($"building model.onnx: tensor '{parameter.Name}' {parameter.Shape} is missing.", nameof(tensors));
                if (tensor.Shape != parameter.Shape)
                    throw new ArgumentException($"building model.onnx: tensor '{tensor.Name}' has shape {tensor.Shape}, the configuration implies {parameter.Shape}.", nameof(tensors));
                string stored = Declare(tensor);
                _weights.Add(tensor.Name, tensor.DType == DType.F32 ? stored : WeightFormats.IsQuantised(tensor.DType) ? Dequantised(tensor, given) : Cast(stored, OnnxType.Float));
            }
        }

        private string Declare(PackageTensor tensor)
        {
            OnnxType type = tensor.DType switch
            {
                DType.F32 => OnnxType.Float,
                DType.F16 => OnnxType.Float16,
                DType.BF16 => OnnxType.BFloat16,
                DType.I8 => OnnxType.Int8,
                DType.U4 => OnnxType.UInt4,
                _ => throw new ArgumentException($"building model.onnx: tensor '{tensor.Name}' is {tensor.DType.Name()}, expected f32, f16, bf16, i8 or u4."),
            };
            return _g.External(tensor.Name, type, tensor.Shape.Dims, tensor.Location, tensor.Offset, tensor.Length);
        }

        private string Dequantised(PackageTensor codes, Dictionary<string, PackageTensor> given)
        {
            PackageTensor scales = Beside(PackageTensor.ScaleOf(codes.Name));
            string[] inputs = codes.DType == DType.U4 ? [codes.Name, Declare(scales), Declare(Beside(PackageTensor.ZeroPointOf(codes.Name)))] : [codes.Name, Declare(scales)];
            return _g.Op("DequantizeLinear", inputs, OnnxAttribute.Of("axis", 1), OnnxAttribute.Of("block_size", codes.Shape[1] / scales.Shape[1]));

            PackageTensor Beside(string name) => given.TryGetValue(name, out PackageTensor? found) ? found
                : throw new ArgumentException($"building model.onnx: tensor '{codes.Name}' is {codes.DType.Name()}, and '{name}' is missing.");
        }

        private string Encoder(string x, string readMask)
        {
            string bias = _g.Op("Add", [PositionBias("encoder", Length(x), bidirectional: true), readMask]);
            for (int i = 0; i < config.NumLayers; i++)
            {
                string block = $"encoder.block.{i}.layer";
                string n = RmsNorm(x, $"{block}.0.layer_norm.weight");
                x = _g.Op("Add", [x, Attention($"{block}.0.SelfAttention", n, n, bias)]);
                x = FeedForward(x, $"{block}.1");
            }
            return RmsNorm(x, "encoder.final_layer_norm.weight");
        }

        private string Decoder(string ids, string encoded, string readMask)
        {
            string x = _g.Op("Gather", [_weights[T5Parameters.Shared], ids]);
            string length = Length(x);
            string bias = _g.Op("Add", [PositionBias("decoder", length, bidirectional: false), CausalBias(length)]);
            for (int i = 0; i < config.NumDecoderLayers; i++)
            {
                string block = $"decoder.block.{i}.layer";
                string n = RmsNorm(x, $"{block}.0.layer_norm.weight");
                x = _g.Op("Add", [x, Attention($"{block}.0.SelfAttention", n, n, bias)]);
                n = RmsNorm(x, $"{block}.1.layer_norm.weight");
                x = _g.Op("Add", [x, Attention($"{block}.1.EncDecAttention", n, encoded, readMask)]);
                x = FeedForward(x, $"{block}.2");
            }
            return RmsNorm(x, "decoder.final_layer_norm.weight");
        }

        // T5's logits are not divided by sqrt(d_kv): the initialisation holds that factor.
        private string Attention(string path, string x, string memory, string bias)
        {
            string q = Heads(Linear(x, $"{path}.q.weight"), 0, 2, 1, 3);
            string k = Heads(Linear(memory, $"{path}.k.weight"), 0, 2, 3, 1);
            string v = Heads(Linear(memory, $"{path}.v.weight"), 0, 2, 1, 3);
            string scores = _g.Op("Add", [_g.Op("MatMul", [q, k]), bias]);
            string mixed = _g.Op("MatMul", [_g.Op("Softmax", [scores], OnnxAttribute.Of("axis", -1)), v]);
            mixed = _g.Op("Transpose", [mixed], OnnxAttribute.Of("perm", 0, 2, 1, 3));
            return Linear(_g.Op("Reshape", [mixed, _g.Vector(0, 0, config.InnerDim)]), $"{path}.o.weight");
        }

        private string Heads(string x, params long[] perm) =>
            _g.Op("Transpose", [_g.Op("Reshape", [x, _g.Vector(0, 0, config.NumHeads, config.DKv)])], OnnxAttribute.Of("perm", perm));

        private string FeedForward(string x, string layer)
        {
            string n = RmsNorm(x, $"{layer}.layer_norm.weight");
            string dense = $"{layer}.DenseReluDense";
            string h = Activation(Linear(n, config.IsGated ? $"{dense}.wi_0.weight" : $"{dense}.wi.weight"));
            if (config.IsGated)
                h = _g.Op("Mul", [h, Linear(n, $"{dense}.wi_1.weight")]);
            return _g.Op("Add", [x, Linear(h, $"{dense}.wo.weight")]);
        }

        // gelu_new: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
        private string Activation(string x)
        {
            if (config.IsRelu)
                return _g.Op("Relu", [x]);
            string cube = _g.Op("Mul", [_g.Op("Mul", [x, x]), x]);
            string inner = _g.Op("Add", [x, _g.Op("Mul", [cube, _g.Constant(0.044715f)])]);
            string tanh = _g.Op("Tanh", [_g.Op("Mul", [inner, _g.Constant((float)Math.Sqrt(2 / Math.PI))])]);
            return _g.Op("Mul", [_g.Op("Mul", [x, _g.Constant(0.5f)]), _g.Op("Add", [tanh, _g.Constant(1f)])]);
        }

        private string RmsNorm(string x, string weight)
        {
            string square = _g.Op("ReduceMean", [_g.Op("Mul", [x, x]), _g.Vector(-1)]);
            string root = _g.Op("Sqrt", [_g.Op("Add", [square, _g.Constant(config.LayerNormEpsilon)])]);
            return _g.Op("Mul", [_weights[weight], _g.Op("Mul", [x, _g.Op("Reciprocal", [root])])]);
        }

        private string Linear(string x, string weight) =>
            _g.Op("MatMul", [x, _g.Op("Transpose", [_weights[weight]], OnnxAttribute.Of("perm", 1, 0))]);

        // [1, H, L, L]
        private string PositionBias(string stack, string length, bool bidirectional)
        {
            string positions = _g.Op("Range", [_g.Constant(0L), length, _g.Constant(1L)]);
            string memory = _g.Op("Unsqueeze", [positions, _g.Vector(0)]);
            string context = _g.Op("Unsqueeze", [positions, _g.Vector(1)]);
            string buckets = Buckets(_g.Op("Sub", [memory, context]), bidirectional);
            string values = _g.Op("Gather", [_weights[$"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"], buckets]);
            return _g.Op("Unsqueeze", [_g.Op("Transpose", [values], OnnxAttribute.Of("perm", 2, 0, 1)), _g.Vector(0)]);
        }

        // HF's formula step by step, its logarithm in float32; RelativePositionBias.Bucket is the same on the host.
        private string Buckets(string relative, bool bidirectional)
        {
            int buckets = bidirectional ? config.RelativeAttentionNumBuckets / 2 : config.RelativeAttentionNumBuckets;
            int maxExact = buckets / 2;
            string? offset = null;
            string distance;
            if (bidirectional)
            {
                offset = _g.Op("Mul", [Cast(_g.Op("Greater", [relative, _g.Constant(0L)]), OnnxType.Int64), _g.Constant((long)buckets)]);
                distance = _g.Op("Abs", [relative]);
            }
            else
                distance = _g.Op("Neg", [_g.Op("Min", [relative, _g.Constant(0L)])]);

            // The logarithm of 0 would be cast to an undefined integer; Where never takes that branch, so 1 stands in.
            string positive = Cast(_g.Op("Max", [distance, _g.Constant(1L)]), OnnxType.Float);
            string log = _g.Op("Log", [_g.Op("Div", [positive, _g.Constant((float)maxExact)])]);
            string share = _g.Op("Div", [log, _g.Constant((float)Math.Log(config.RelativeAttentionMaxDistance / (double)maxExact))]);
            string steps = Cast(_g.Op("Mul", [share, _g.Constant((float)(buckets - maxExact))]), OnnxType.Int64);
            string far = _g.Op("Min", [_g.Op("Add", [steps, _g.Constant((long)maxExact)]), _g.Constant(buckets - 1L)]);
            string near = _g.Op("Less", [distance, _g.Constant((long)maxExact)]);
            string bucket = _g.Op("Where", [near, distance, far]);
            return offset is null ? bucket : _g.Op("Add", [bucket, offset]);
        }

        // 0 where a position is read, float.MinValue where not (not -inf: a fully masked row must stay finite). [B, 1, 1, S]
        private string MaskBias(string mask)
        {
            string closed = _g.Op("Sub", [_g.Constant(1f), Cast(mask, OnnxType.Float)]);
            string bias = _g.Op("Mul", [closed, _g.Constant(float.MinValue)]);
            return _g.Op("Unsqueeze", [bias, _g.Vector(1, 2)]);
        }

        // [T, T]: column j is closed to row i where j > i.
        private string CausalBias(string length)
        {
            string positions = _g.Op("Range", [_g.Constant(0L), length, _g.Constant(1L)]);
            string later = _g.Op("Greater", [_g.Op("Unsqueeze", [positions, _g.Vector(0)]), _g.Op("Unsqueeze", [positions, _g.Vector(1)])]);
            return _g.Op("Mul", [Cast(later, OnnxType.Float), _g.Constant(float.MinValue)]);
        }

        private string Length(string x) => _g.Op("Gather", [_g.Op("Shape", [x]), _g.Constant(1L)], OnnxAttribute.Of("axis", 0));

        private string Cast(string x, OnnxType type) => _g.Op("Cast", [x], OnnxAttribute.Of("to", (long)type));
    }
}
