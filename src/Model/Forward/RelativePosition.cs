// T5's relative position buckets and the attention bias made from them, on the host. Deliberately not an op with a gradient: the bias table is frozen.
using IptNative.Model.Config;

namespace IptNative.Model.Forward;

/// <summary>Relative position buckets and bias of T5.</summary>
/// <remarks>Source: HF transformers modeling_t5.py, T5Attention._relative_position_bucket and compute_bias.</remarks>
public static class RelativePosition
{
    /// <summary>The bucket of a distance.</summary>
    /// <param name="config">relative_attention_num_buckets and relative_attention_max_distance.</param>
    /// <param name="relative">Memory position minus query position.</param>
    /// <param name="bidirectional">True in the encoder; the decoder puts everything that lies ahead into bucket 0.</param>
    /// <returns>0 to relative_attention_num_buckets - 1.</returns>
    public static int Bucket(T5Config config, int relative, bool bidirectional)
    {
        int buckets = config.RelativeAttentionNumBuckets;
        int offset = 0;
        int distance;
        if (bidirectional)
        {
            buckets /= 2;
            offset = relative > 0 ? buckets : 0;
            distance = Math.Abs(relative);
        }
        else
            distance = -Math.Min(relative, 0);

        int maxExact = buckets / 2;
        if (distance < maxExact)
            return offset + distance;
        // In float32 as HF: in double, distances that fall exactly on a bucket's border land in the bucket beside it.
        float share = MathF.Log(distance / (float)maxExact) / (float)Math.Log(config.RelativeAttentionMaxDistance / (double)maxExact);
        int far = maxExact + (int)(share * (buckets - maxExact));
        return offset + Math.Min(far, buckets - 1);
    }

    /// <summary>Fills the bias that is added to attention scores.</summary>
    /// <param name="config">Sizes.</param>
    /// <param name="table">relative_attention_bias.weight f32 [buckets, H].</param>
    /// <param name="firstQuery">Position of the first query row: 0, or the step when decoding with a cache.</param>
    /// <param name="queries">Query rows.</param>
    /// <param name="keys">Memory columns, from position 0.</param>
    /// <param name="bidirectional">True in the encoder.</param>
    /// <param name="bias">Receives f32 [H, queries, keys].</param>
    /// <exception cref="ArgumentException">A span has another length.</exception>
    public static void FillBias(T5Config config, ReadOnlySpan<float> table, int firstQuery, int queries, int keys, bool bidirectional, Span<float> bias)
    {
        int heads = config.NumHeads;
        if (table.Length != config.RelativeAttentionNumBuckets * heads)
            throw new ArgumentException($"position bias: found a table of {table.Length} values, expected relative_attention_num_buckets * num_heads = {config.RelativeAttentionNumBuckets * heads}.", nameof(table));
        if (bias.Length != (long)heads * queries * keys)
            throw new ArgumentException($"position bias: found room for {bias.Length} values, expected [{heads}, {queries}, {keys}].", nameof(bias));
        // Only queries + keys - 1 distances occur: the logarithm is taken once for each.
        int smallest = -(firstQuery + queries - 1);
        int distances = queries + keys - 1;
        int[] buckets = System.Buffers.ArrayPool<int>.Shared.Rent(Math.Max(distances, 1));
        for (int i = 0; i < distances; i++)
            buckets[i] = Bucket(config, smallest + i, bidirectional) * heads;
        for (int h = 0; h < heads; h++)
        {
            for (int q = 0; q < queries; q++)
            {
                Span<float> row = bias.Slice((h * queries + q) * keys, keys);
                ReadOnlySpan<int> rowBuckets = buckets.AsSpan(queries - 1 - q, keys);
                for (int k = 0; k < row.Length; k++)
                    row[k] = table[rowBuckets[k] + h];
            }
        }
        System.Buffers.ArrayPool<int>.Shared.Return(buckets);
    }

    /// <summary>Refuses a configuration for which HF's formula divides by zero.</summary>
    internal static void Require(T5Config config)
    {
        int buckets = config.RelativeAttentionNumBuckets;
        if (buckets < 4)
            throw new ArgumentException($"relative position bias: relative_attention_num_buckets is {buckets}, expected 4 or more. Correct config.json.", nameof(config));
        if (config.RelativeAttentionMaxDistance <= buckets / 2)
            throw new ArgumentException($"relative position bias: relative_attention_max_distance is {config.RelativeAttentionMaxDistance}, expected more than half of relative_attention_num_buckets ({buckets}). Correct config.json.", nameof(config));
    }
}
