// Every sublayer of a T5, found once: the native forward pass and the backward sweep walk over the same objects.
using IptNative.Kernels.Devices;
using IptNative.Model.Config;

namespace IptNative.Model.Blocks;

/// <summary>The blocks of both stacks, their position biases and final norms, and the scratch memory they share.</summary>
internal sealed class T5Layers : IDisposable
{
    public T5Layers(BlockWeights weights)
    {
        Weights = weights;
        Scratch = new BlockScratch(weights.Device);
        T5Config config = weights.Config;
        Encoder = new (T5LayerAttention, T5LayerFF)[config.NumLayers];
        for (int i = 0; i < Encoder.Length; i++)
        {
            string path = $"encoder.block.{i}.layer";
            Encoder[i] = (new T5LayerAttention(weights, $"{path}.0", AttentionKind.Encoder, Scratch), new T5LayerFF(weights, $"{path}.1", Scratch));
        }
        Decoder = new (T5LayerAttention, T5LayerAttention, T5LayerFF)[config.NumDecoderLayers];
        for (int i = 0; i < Decoder.Length; i++)
        {
            string path = $"decoder.block.{i}.layer";
            Decoder[i] = (
                new T5LayerAttention(weights, $"{path}.0", AttentionKind.DecoderSelf, Scratch),
                new T5LayerAttention(weights, $"{path}.1", AttentionKind.Cross, Scratch),
                new T5LayerFF(weights, $"{path}.2", Scratch));
        }
        EncoderBias = new PositionBias(weights, "encoder", bidirectional: true);
        DecoderBias = new PositionBias(weights, "decoder", bidirectional: false);
        LmHead = weights.Matrix(config.TieWordEmbeddings ? T5Parameters.Shared : T5Parameters.LmHead);
        LmScale = config.TieWordEmbeddings ? 1 / MathF.Sqrt(config.DModel) : 1;
        EncoderNorm = weights.Vector("encoder.final_layer_norm.weight");
        DecoderNorm = weights.Vector("decoder.final_layer_norm.weight");
    }

    public BlockWeights Weights { get; }

    public ComputeDevice Device => Weights.Device;

    public T5Config Config => Weights.Config;

    public BlockScratch Scratch { get; }

    public (T5LayerAttention Self, T5LayerFF Ff)[] Encoder { get; }

    public (T5LayerAttention Self, T5LayerAttention Cross, T5LayerFF Ff)[] Decoder { get; }

    public PositionBias EncoderBias { get; }

    public PositionBias DecoderBias { get; }

    /// <summary>Brings weights in block by block; null where all of them may stay.</summary>
    public WeightStream? Stream { get; set; }

    /// <summary>[V, D], the embedding where the head is tied.</summary>
    public Tensor LmHead { get; }

    /// <summary>Factor of the logits: d_model^-0.5 where the head is tied.</summary>
    public float LmScale { get; }

    /// <summary>f32 [D].</summary>
    public Tensor EncoderNorm { get; }

    /// <summary>f32 [D].</summary>
    public Tensor DecoderNorm { get; }

    /// <summary>Says that a block computes next; a stack's end is followed by the other stack or the loss head.</summary>
    /// <param name="block">Blocks of the encoder, then of the decoder, then the head.</param>
    /// <param name="next">The one after it; -1 for none.</param>
    public void Enter(int block, int next) => Stream?.Enter(block, next);

    public void Dispose()
    {
        EncoderBias.Dispose();
        DecoderBias.Dispose();
        Scratch.Dispose();
    }
}
