// The list of a T5's parameters with the shapes that its config implies: one place for readers, exporters and the graph.
using IptNative.Kernels;

namespace IptNative.Model.Config;

/// <summary>One parameter of a T5 by its Hugging Face path.</summary>
/// <param name="Name">HF path, for example <c>encoder.block.0.layer.0.SelfAttention.q.weight</c>.</param>
/// <param name="Shape">Torch layout: linear weights are [out, in].</param>
public readonly record struct T5Parameter(string Name, TensorShape Shape);

/// <summary>Names and shapes of every parameter of a T5. Source: HF transformers modeling_t5.py.</summary>
public static class T5Parameters
{
    /// <summary>The embedding's name; the decoder's and encoder's <c>embed_tokens</c> and a tied <c>lm_head</c> are aliases of it.</summary>
    public const string Shared = "shared.weight";

    /// <summary>The output projection of an untied checkpoint.</summary>
    public const string LmHead = "lm_head.weight";

    /// <summary>Every parameter in the order in which a forward pass first reads it.</summary>
    /// <param name="config">The sizes.</param>
    /// <returns>Name and shape; no aliases, so a tied checkpoint has no lm_head.</returns>
    public static IEnumerable<T5Parameter> Of(T5Config config)
    {
        yield return new(Shared, new(config.VocabSize, config.DModel));
        foreach (T5Parameter p in Stack(config, "encoder", config.NumLayers, crossAttention: false))
            yield return p;
        foreach (T5Parameter p in Stack(config, "decoder", config.NumDecoderLayers, crossAttention: true))
            yield return p;
        if (!config.TieWordEmbeddings)
            yield return new(LmHead, new(config.VocabSize, config.DModel));
    }

    /// <summary>The name that <paramref name="name"/> stands for: embed_tokens and a tied lm_head are <see cref="Shared"/>.</summary>
    /// <param name="config">Says whether lm_head is tied.</param>
    /// <param name="name">A name as a checkpoint file has it.</param>
    /// <returns>The canonical name.</returns>
    public static string Canonical(T5Config config, string name) => name switch
    {
        "encoder.embed_tokens.weight" or "decoder.embed_tokens.weight" => Shared,
        LmHead when config.TieWordEmbeddings => Shared,
        _ => name,
    };

    /// <summary>The shape that a configuration implies for a parameter, in the configuration's own words: [d_model=768, num_heads*d_kv=768].</summary>
    /// <param name="config">The sizes.</param>
    /// <param name="name">A name that <see cref="Of"/> lists.</param>
    /// <returns>For messages.</returns>
    public static string ShapeInWords(T5Config config, string name)
    {
        string model = $"d_model={config.DModel}";
        string inner = $"num_heads*d_kv={config.InnerDim}";
        string[] path = name.Split('.');
        return path is [.., var layer, "weight"]
            ? layer switch
            {
                "shared" or "lm_head" => $"[vocab_size={config.VocabSize}, {model}]",
                "relative_attention_bias" => $"[relative_attention_num_buckets={config.RelativeAttentionNumBuckets}, num_heads={config.NumHeads}]",
                "q" or "k" or "v" => $"[{inner}, {model}]",
                "o" => $"[{model}, {inner}]",
                "wi" or "wi_0" or "wi_1" => $"[d_ff={config.DFf}, {model}]",
                "wo" => $"[{model}, d_ff={config.DFf}]",
                _ => $"[{model}]",
            }
            : "[]";
    }

    private static IEnumerable<T5Parameter> Stack(T5Config config, string stack, int layers, bool crossAttention)
    {
        for (int i = 0; i < layers; i++)
        {
            string block = $"{stack}.block.{i}.layer";
            foreach (T5Parameter p in Attention(config, $"{block}.0.SelfAttention"))
                yield return p;
            if (i == 0)
                yield return new($"{block}.0.SelfAttention.relative_attention_bias.weight", new(config.RelativeAttentionNumBuckets, config.NumHeads));
            yield return new($"{block}.0.layer_norm.weight", new(config.DModel));
            if (crossAttention)
            {
                foreach (T5Parameter p in Attention(config, $"{block}.1.EncDecAttention"))
                    yield return p;
                yield return new($"{block}.1.layer_norm.weight", new(config.DModel));
            }
            int ff = crossAttention ? 2 : 1;
            string dense = $"{block}.{ff}.DenseReluDense";
            foreach (string wi in config.IsGated ? (string[])["wi_0", "wi_1"] : ["wi"])
                yield return new($"{dense}.{wi}.weight", new(config.DFf, config.DModel));
            yield return new($"{dense}.wo.weight", new(config.DModel, config.DFf));
            yield return new($"{block}.{ff}.layer_norm.weight", new(config.DModel));
        }
        yield return new($"{stack}.final_layer_norm.weight", new(config.DModel));
    }

    private static IEnumerable<T5Parameter> Attention(T5Config config, string path)
    {
        foreach (string qkv in (string[])["q", "k", "v"])
            yield return new($"{path}.{qkv}.weight", new(config.InnerDim, config.DModel));
        yield return new($"{path}.o.weight", new(config.DModel, config.InnerDim));
    }
}
