// The published T5 v1.1 sizes, for benchmarks and memory plans without a checkpoint at hand.
using System.Text.Json.Nodes;

namespace IptNative.Model.Config;

/// <summary>Configurations of the T5 v1.1 family by name.</summary>
/// <remarks>Source: config.json of google/t5-v1_1-small to -xxl (the LM-adapted checkpoints have the same).</remarks>
public static class T5Shapes
{
    private static readonly (string Name, int DModel, int DFf, int Layers, int Heads)[] Table =
    [
        ("small", 512, 1024, 8, 6),
        ("base", 768, 2048, 12, 12),
        ("large", 1024, 2816, 24, 16),
        ("xl", 2048, 5120, 24, 32),
        ("xxl", 4096, 10240, 24, 64),
    ];

    /// <summary>The names, smallest first.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Table.Select(s => s.Name)];

    /// <summary>A configuration as its config.json would give it.</summary>
    /// <param name="name">small, base, large, xl or xxl.</param>
    /// <returns>Gated GELU, untied, vocabulary 32128, d_kv 64.</returns>
    /// <exception cref="ArgumentException">Another name.</exception>
    public static T5Config Named(string name)
    {
        foreach ((string known, int dModel, int dFf, int layers, int heads) in Table)
        {
            if (known != name)
                continue;
            var json = new JsonObject
            {
                ["architectures"] = new JsonArray("T5ForConditionalGeneration"),
                ["model_type"] = "t5",
                ["d_model"] = dModel,
                ["d_kv"] = 64,
                ["d_ff"] = dFf,
                ["num_layers"] = layers,
                ["num_decoder_layers"] = layers,
                ["num_heads"] = heads,
                ["vocab_size"] = 32128,
                ["relative_attention_num_buckets"] = 32,
                ["relative_attention_max_distance"] = 128,
                ["layer_norm_epsilon"] = 1e-6,
                ["feed_forward_proj"] = "gated-gelu",
                ["tie_word_embeddings"] = false,
                ["decoder_start_token_id"] = 0,
                ["pad_token_id"] = 0,
                ["eos_token_id"] = 1,
            };
            return T5Config.Parse(json, $"the shape '{name}'");
        }
        throw new ArgumentException($"T5 v1.1 shape: found '{name}', expected one of {string.Join(", ", Names)}.", nameof(name));
    }
}
