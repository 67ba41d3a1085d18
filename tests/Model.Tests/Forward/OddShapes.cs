// Configurations in which no two sizes agree, so that a mix-up cannot pass.
using IptNative.Model.Config;

namespace IptNative.Model.Tests.Forward;

internal static class OddShapes
{
    /// <summary>v1.0: ReLU, tied; inner width 15 beside d_model 24; more decoder than encoder layers; few buckets.</summary>
    public static T5Config TiedRelu { get; } = new()
    {
        DModel = 24,
        DKv = 5,
        NumHeads = 3,
        DFf = 41,
        NumLayers = 1,
        NumDecoderLayers = 3,
        VocabSize = 37,
        RelativeAttentionNumBuckets = 8,
        RelativeAttentionMaxDistance = 11,
        IsGated = false,
        IsRelu = true,
        TieWordEmbeddings = true,
    };

    /// <summary>v1.1 with one head and more encoder layers; start and pad are not 0.</summary>
    public static T5Config OneHead { get; } = new()
    {
        DModel = 17,
        DKv = 31,
        NumHeads = 1,
        DFf = 9,
        NumLayers = 3,
        NumDecoderLayers = 1,
        VocabSize = 53,
        IsGated = true,
        IsRelu = false,
        TieWordEmbeddings = false,
        DecoderStartTokenId = 3,
        PadTokenId = 2,
        LayerNormEpsilon = 1e-5f,
    };

    /// <summary>Ungated GELU, tied, an inner width above d_model.</summary>
    public static T5Config WideHeads { get; } = new()
    {
        DModel = 8,
        DKv = 16,
        NumHeads = 4,
        DFf = 33,
        NumLayers = 2,
        NumDecoderLayers = 2,
        VocabSize = 19,
        RelativeAttentionNumBuckets = 4,
        RelativeAttentionMaxDistance = 7,
        IsGated = false,
        IsRelu = false,
        TieWordEmbeddings = true,
    };

    /// <summary>Gated ReLU, untied, one-wide heads.</summary>
    public static T5Config ThinHeads { get; } = new()
    {
        DModel = 33,
        DKv = 1,
        NumHeads = 7,
        DFf = 16,
        NumLayers = 2,
        NumDecoderLayers = 1,
        VocabSize = 64,
        IsGated = true,
        IsRelu = true,
        TieWordEmbeddings = false,
    };

    /// <summary>v1.1, untied, three heads of five, buckets that distances of a short text go beyond.</summary>
    public static T5Config ThreeHeads { get; } = new()
    {
        DModel = 20,
        DKv = 5,
        NumHeads = 3,
        DFf = 23,
        NumLayers = 2,
        NumDecoderLayers = 3,
        VocabSize = 61,
        RelativeAttentionNumBuckets = 8,
        RelativeAttentionMaxDistance = 20,
        IsGated = true,
        IsRelu = false,
        TieWordEmbeddings = false,
    };

    public static T5Config Named(string name) => name switch
    {
        nameof(TiedRelu) => TiedRelu,
        nameof(OneHead) => OneHead,
        nameof(WideHeads) => WideHeads,
        nameof(ThinHeads) => ThinHeads,
        nameof(ThreeHeads) => ThreeHeads,
        _ => throw new ArgumentException(name, nameof(name)),
    };
}
