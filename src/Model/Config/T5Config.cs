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

    /// <summary>True where a file without lm_head.weight takes the embedding in its place, although the decoder output is not scaled.</summary>
    /// <remarks>
    /// transformers 5 writes <c>tie_word_embeddings: true</c> for every T5 and keeps what the checkpoint said in <c>scale_decoder_outputs</c>;
    /// <see cref="TieWordEmbeddings"/> is then the latter, and the file decides whether there is a head of its own.
    /// </remarks>
    public bool LmHeadMayBeShared { get; init; }

    /// <summary>First decoder input (0).</summary>
    public int DecoderStartTokenId { get; init; }

    /// <summary>Padding id (0).</summary>
    public int PadTokenId { get; init; }

    /// <summary>End of sequence (1).</summary>
    public int EosTokenId { get; init; } = 1;

    /// <summary>The file as it was read: written unchanged into a package, so that no field of Hugging Face's is lost.</summary>
    public JsonObject Source { get; init; } = [];

    // A config.json has a few kilobytes; other JSON files of a checkpoint (tokenizer.json) have megabytes.
    private const long MaxFileBytes = 1 << 22;

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
            long bytes = new FileInfo(path).Length;
            if (bytes > MaxFileBytes)
                throw new InvalidDataException($"{path}: reading the model configuration; found {bytes} bytes, expected at most {MaxFileBytes}. Is this a T5 checkpoint's config.json?");
            node = JsonNode.Parse(JsonText.ReadFile(path), documentOptions: new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowDuplicateProperties = false });
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

        // The defaults of HF's T5Config and MT5Config.
        string projection = Text("feed_forward_proj") ?? (modelType == "t5" ? "relu" : "gated-gelu");
        (bool gated, bool relu) = projection switch
        {
            "relu" => (false, true),
            "gated-gelu" or "gated-gelu_new" => (true, false),
            "gated-relu" => (true, true),
            "gelu_new" => (false, false),
            _ => throw new InvalidDataException($"{path}: feed_forward_proj is '{projection}', expected 'relu', 'gated-gelu', 'gated-relu' or 'gelu_new'."),
        };
        // HF derives these two from feed_forward_proj when it makes a config, but lets the file override them: a file that contradicts itself is not guessed at.
        if (Text("dense_act_fn") is { } activation && activation is "relu" != relu)
            throw new InvalidDataException($"{path}: dense_act_fn is '{activation}', feed_forward_proj '{projection}' implies '{(relu ? "relu" : "gelu_new")}'. Correct the one that is wrong.");
        if (Text("dense_act_fn") is { } gelu and not ("relu" or "gelu_new" or "gelu_pytorch_tanh"))
            throw new InvalidDataException($"{path}: dense_act_fn is '{gelu}', expected 'relu', 'gelu_new' or 'gelu_pytorch_tanh': other activations are not built.");
        if (Flag("is_gated_act", gated) != gated)
            throw new InvalidDataException($"{path}: is_gated_act is {(gated ? "false" : "true")}, feed_forward_proj '{projection}' implies the contrary. Correct the one that is wrong.");

        // HF's PretrainedConfig default is true; mT5's own default is false.
        bool tied = Flag("tie_word_embeddings", modelType == "t5");
        bool scaled = Flag("scale_decoder_outputs", tied);
        if (scaled && !tied)
            throw new InvalidDataException($"{path}: scale_decoder_outputs is true and tie_word_embeddings is false, expected both true or no scaling. Correct the one that is wrong.");

        int layers = Layers("num_layers", null);
        var config = new T5Config
        {
            DModel = Size("d_model", null),
            DKv = Size("d_kv", null),
            DFf = Size("d_ff", null),
            NumLayers = layers,
            NumDecoderLayers = Layers("num_decoder_layers", layers),
            NumHeads = Size("num_heads", null),
            VocabSize = Size("vocab_size", null),
            RelativeAttentionNumBuckets = Size("relative_attention_num_buckets", 32),
            RelativeAttentionMaxDistance = Size("relative_attention_max_distance", 128),
            LayerNormEpsilon = Epsilon(),
            IsGated = gated,
            IsRelu = relu,
            TieWordEmbeddings = scaled,
            LmHeadMayBeShared = tied && !scaled,
            DecoderStartTokenId = Id("decoder_start_token_id", 0),
            PadTokenId = Id("pad_token_id", 0),
            EosTokenId = Id("eos_token_id", 1),
            Source = json,
        };
        RequireConsistent(config, path);
        return config;

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

        // The largest T5 has 24 and 24.
        int Layers(string name, int? missing)
        {
            int n = Integer(name, missing);
            return n is > 0 and <= 1024 ? n : throw new InvalidDataException($"{path}: {name} is {n}, expected 1 to 1024.");
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

    private static void RequireConsistent(T5Config c, string path)
    {
        if ((long)c.NumHeads * c.DKv > 1 << 24)
            throw new InvalidDataException($"{path}: num_heads * d_kv is {(long)c.NumHeads * c.DKv}, expected at most {1 << 24}.");
        // The bucket formula takes log(distance / (buckets / 4)) over log(max_distance / (buckets / 4)) in the encoder, buckets / 2 in the decoder.
        if (c.RelativeAttentionNumBuckets < 4 || c.RelativeAttentionMaxDistance <= c.RelativeAttentionNumBuckets / 2)
        {
            throw new InvalidDataException($"{path}: relative_attention_num_buckets is {c.RelativeAttentionNumBuckets} and relative_attention_max_distance {c.RelativeAttentionMaxDistance}, "
                + "expected at least 4 buckets and a distance above half their number.");
        }
        foreach ((string name, int id) in ((string, int)[])[("decoder_start_token_id", c.DecoderStartTokenId), ("pad_token_id", c.PadTokenId), ("eos_token_id", c.EosTokenId)])
        {
            if (id >= c.VocabSize)
                throw new InvalidDataException($"{path}: {name} is {id}, expected an id below vocab_size {c.VocabSize}.");
        }
    }
}
