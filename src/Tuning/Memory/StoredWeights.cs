// A model's weights as numbers for a memory plan: how many bytes lie where. No weight is read.
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;

namespace IptNative.Tuning.Memory;

/// <summary>Sizes of a model's weights in their formats.</summary>
public sealed class StoredWeights
{
    private readonly SortedDictionary<DType, long> _byFormat = [];
    private readonly long[] _segments;

    private StoredWeights(T5Config config, Func<T5Parameter, (DType Type, long Bytes)> stored)
    {
        Config = config;
        int head = config.NumLayers + config.NumDecoderLayers;
        _segments = new long[head + 1];
        foreach (T5Parameter parameter in T5Parameters.Of(config))
        {
            (DType type, long bytes) = stored(parameter);
            _byFormat[type] = _byFormat.GetValueOrDefault(type) + bytes;
            Bytes += bytes;
            if (parameter.Name == T5Parameters.Shared)
                EmbeddingBytes = bytes;
            if (parameter.Name == (config.TieWordEmbeddings ? T5Parameters.Shared : T5Parameters.LmHead))
                _segments[head] += bytes;
            else if (parameter.Name.Split('.') is [var stack, "block", var index, ..])
                _segments[int.Parse(index, System.Globalization.CultureInfo.InvariantCulture) + (stack == "decoder" ? config.NumLayers : 0)] += bytes;
            if (type != DType.F32)
                ExpandedBytes += DType.F32.ByteLength(parameter.Shape.Elements);
            if (parameter.Shape.Rank == 2 && WeightFormats.IsQuantised(type))
                IsQuantised = true;
        }
    }

    /// <summary>The model.</summary>
    public T5Config Config { get; }

    /// <summary>All weights.</summary>
    public long Bytes { get; }

    /// <summary>The embedding table.</summary>
    public long EmbeddingBytes { get; }

    /// <summary>The largest block, or lm_head: what streaming holds at once.</summary>
    public long LargestBytes => _segments.Max();

    /// <summary>float32 copies of everything that is stored narrower.</summary>
    public long ExpandedBytes { get; }

    /// <summary>Whether some weights are int8 or int4.</summary>
    public bool IsQuantised { get; }

    /// <summary>Bytes of each format that occurs, in words: int8 180 MB, bf16 175 MB.</summary>
    public string Formats => string.Join(", ", _byFormat.OrderByDescending(f => f.Value).Where(f => f.Value >= 1_000_000 || _byFormat.Count == 1).Select(f => $"{WeightFormats.Name(f.Key)} {ByteSize.Text(f.Value)}"));

    /// <summary>An opened checkpoint's.</summary>
    /// <param name="checkpoint">The checkpoint.</param>
    /// <returns>Its sizes.</returns>
    public static StoredWeights Of(Checkpoint checkpoint)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        return new StoredWeights(checkpoint.Config, p =>
        {
            Weight weight = checkpoint[p.Name];
            long scales = weight.Scales.IsPresent ? p.Shape.Elements / weight.Scales.Block : 0;
            return (weight.DType, weight.ByteLength + sizeof(float) * scales + (weight.Scales.ZeroPoints != 0 ? (scales + 1) / 2 : 0));
        });
    }

    /// <summary>Those of a package that an export would make.</summary>
    /// <param name="config">The model.</param>
    /// <param name="format">F32, BF16, F16, I8 or U4.</param>
    /// <returns>Its sizes.</returns>
    public static StoredWeights Of(T5Config config, DType format)
    {
        ArgumentNullException.ThrowIfNull(config);
        return new StoredWeights(config, p =>
        {
            DType type = WeightFormats.Stored(p, format);
            return (type, WeightFormats.Bytes(p, type));
        });
    }
}
