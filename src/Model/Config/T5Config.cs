// What config.json says of a T5, checked. Deliberately not: generation settings, tokenizer settings.
using System.Text.Json;
using System.Text.Json.Nodes;

namespace IptNative.Model.Config;

/// <summary>Sizes and switches of a T5 checkpoint, as Hugging Face's config.json names them.</summary>
/// <remarks>
/// Covers T5 v1.0 (relu, tied, decoder output scaled by d_model^-0.5), v1.1 / LM-adapted / Flan-T5 (gated-gelu, untied) and mT5's shapes.
/// Source: HF transformers configuration_t5.py; defaults are that file's.
/// </remarks>
public sealed record T5Config
{
    /// <summary>Width of the residual stream.</summary>
    public required int DModel { get; init; }

    /// <summary>Width of one attention head; num_heads * d_kv need not equal d_model.</summary>
    public required int DKv { get; init; }

    /// <summary>Inner width of the feed-forward layer.</summary>
    public required int DFf { get; init; }

    /// <summary>Number of encoder blocks.</summary>
    public required int NumLayers { get; init; }

    /// <summary>Number of decoder blocks; num_layers where the file does not say.</summary>
    public required int NumDecoderLayers { get; init; }

    /// <summary>Number of attention heads.</summary>
    public required int NumHeads { get; init; }

    /// <summary>Rows of the embedding; may exceed the tokenizer's vocabulary.</summary>
    public required int VocabSize { get; init; }

    /// <summary>Buckets of the relative position bias (32).</summary>
    public int RelativeAttentionNumBuckets { get; init; } = 32;

    /// <summary>Distance beyond which all positions share a bucket (128; absent in older files).</summary>
    public int RelativeAttentionMaxDistance { get; init; } = 128;

    /// <summary>Epsilon of RMSNorm (1e-6).</summary>
    public float LayerNormEpsilon { get; init; } = 1e-6f;

    /// <summary>True for gated-gelu (wi_0, wi_1), false for the single wi of v1.0.</summary>
    public required bool IsGated { get; init; }

    /// <summary>True where the activation is ReLU, false for GELU in its tanh form (gelu_new).</summary>
    public required bool IsRelu { get; init; }

    /// <summary>True where lm_head is the embedding itself; the decoder output is then scaled by d_model^-0.5.</summary>
    public required bool TieWordEmbeddings { get; init; }

    /// <summary>First decoder input (0).</summary>
    public int DecoderStartTokenId { get; init; }

    /// <summary>Padding id (0).</summary>
    public int PadTokenId { get; init; }

    /// <summary>End of sequence (1).</summary>
    public int EosTokenId { get; init; } = 1;

    /// <summary>The file as it was read: written unchanged into a package, so that no field of Hugging Face's is lost.</summary>
    public JsonObject Source { get; init; } = [];

    /// <summary>num_heads * d_kv, the width of q, k and v.</summary>
    public int InnerDim => NumHeads * DKv;

    /// <summary>Reads and checks a config.json.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The configuration.</returns>
    /// <exception cref="InvalidDataException">The file is no T5 configuration, or a size is missing or impossible.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static T5Config Load(string path)
    {
        JsonNode? node;
        try
        {
            node = JsonNode.Parse(File.ReadAllBytes(path), documentOptions: new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip });
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: reading the model configuration; found broken JSON ({e.Message}). Copy config.json from the checkpoint again.", e);
        }
        return Parse(node as JsonObject ?? throw new InvalidDataException($"{path}: reading the model configuration; found {node?.GetValueKind().ToString() ?? "null"}, expected a JSON object."), path);
    }

    /// <summary>Checks a parsed config.json.</summary>
    /// <param name="json">The object; kept as <see cref="Source"/>.</param>
    /// <param name="path">Named in messages.</param>
    /// <returns>The configuration.</returns>
    /// <exception cref="InvalidDataException">See <see cref="Load"/>.</exception>
    public static T5Config Parse(JsonObject json, string path)
    {
        string modelType = Text("model_type") ?? "t5";
        if (modelType is not ("t5" or "mt5"))
            throw new InvalidDataException($"{path}: model_type is '{modelType}', expected 't5' or 'mt5'. IptNative runs T5 v1.0, v1.1, LM-adapted, Flan-T5 and mT5 checkpoints only.");

        string projection = Text("feed_forward_proj") ?? "relu";
        (bool gated, bool relu) = projection switch
        {
            "relu" => (false, true),
            "gated-gelu" => (true, false),
            "gated-relu" => (true, true),
            "gelu_new" => (false, false),
            _ => throw new InvalidDataException($"{path}: feed_forward_proj is '{projection}', expected 'relu', 'gated-gelu', 'gated-relu' or 'gelu_new'."),
        };

        int layers = Size("num_layers", null);
        return new T5Config
        {
            DModel = Size("d_model", null),
            DKv = Size("d_kv", null),
            DFf = Size("d_ff", null),
            NumLayers = layers,
            NumDecoderLayers = Size("num_decoder_layers", layers),
            NumHeads = Size("num_heads", null),
            VocabSize = Size("vocab_size", null),
            RelativeAttentionNumBuckets = Size("relative_attention_num_buckets", 32),
            RelativeAttentionMaxDistance = Size("relative_attention_max_distance", 128),
            LayerNormEpsilon = Epsilon(),
            IsGated = gated,
            IsRelu = relu,
            // HF's PretrainedConfig default is true; mT5's own default is false.
            TieWordEmbeddings = Flag("tie_word_embeddings", modelType == "t5"),
            DecoderStartTokenId = Id("decoder_start_token_id", 0),
            PadTokenId = Id("pad_token_id", 0),
            EosTokenId = Id("eos_token_id", 1),
            Source = json,
        };

        JsonValue? Value(string name) => json[name] switch
        {
            null => null,
            JsonValue v => v,
            JsonNode other => throw new InvalidDataException($"{path}: {name} is {other.GetValueKind()}, expected a single value."),
        };

        string? Text(string name) => Value(name) is not { } v ? null
            : v.TryGetValue(out string? s) ? s
            : throw new InvalidDataException($"{path}: {name} is {v.ToJsonString()}, expected text.");

        bool Flag(string name, bool missing) => Value(name) is not { } v ? missing
            : v.TryGetValue(out bool b) ? b
            : throw new InvalidDataException($"{path}: {name} is {v.ToJsonString()}, expected true or false.");

        int Integer(string name, int? missing) => Value(name) is not { } v
            ? missing ?? throw new InvalidDataException($"{path}: {name} is missing, expected a whole number. Is this a T5 checkpoint's config.json?")
            : v.TryGetValue(out int n) ? n
            : throw new InvalidDataException($"{path}: {name} is {v.ToJsonString()}, expected a whole number.");

        // 2^24 is far above any T5 (mT5's vocabulary is 250,112) and keeps every product of two sizes inside 64 bits.
        int Size(string name, int? missing)
        {
            int n = Integer(name, missing);
            return n is > 0 and <= 1 << 24 ? n : throw new InvalidDataException($"{path}: {name} is {n}, expected 1 to {1 << 24}.");
        }

        int Id(string name, int missing)
        {
            int n = Integer(name, missing);
            return n >= 0 ? n : throw new InvalidDataException($"{path}: {name} is {n}, expected a token id.");
        }

        float Epsilon() => Value("layer_norm_epsilon") is not { } v ? 1e-6f
            : v.TryGetValue(out double d) && d is > 0 and < 1 ? (float)d
            : throw new InvalidDataException($"{path}: layer_norm_epsilon is {v.ToJsonString()}, expected a number between 0 and 1.");
    }
}
