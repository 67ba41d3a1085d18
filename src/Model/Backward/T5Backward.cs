// From the gradient of the logits to the gradient of the encoder's input, sublayer by sublayer. No weight gradient is ever computed, nothing for
// padding, and nothing below the decoder's first cross-attention: no tuned number lies there.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Blocks;
using IptNative.Model.Config;
using static IptNative.Model.Blocks.BlockScratch;

namespace IptNative.Model.Backward;

/// <summary>The frozen T5's input gradient, by recomputing each sublayer from the tape and then applying its vjp.</summary>
/// <remarks>
/// Forward   logits = lm_head(s RMSNorm(decoder)),  s = d_model^-0.5 where the head is tied, else 1;  the decoder attends to RMSNorm(encoder).
/// Backward  from the top down; the residual stream's gradient is one buffer that each sublayer turns from dy into dx in place.
/// Shapes    dlogits: [RT, V];  hidden states and their gradients: [R, D] encoder, [RT, D] decoder, packed rows (RaggedRows).
/// </remarks>
internal sealed class T5Backward : IDisposable
{
    private readonly BlockWeights _weights;
    private readonly BlockScratch _scratch;
    private readonly T5Config _config;
    private readonly (T5LayerAttention Self, T5LayerFF Ff)[] _encoder;
    private readonly (T5LayerAttention Self, T5LayerAttention Cross, T5LayerFF Ff)[] _decoder;
    private readonly PositionBias _encoderBias;
    private readonly PositionBias _decoderBias;
    private readonly Tensor _encoderNorm;
    private readonly Tensor _decoderNorm;
    private readonly Tensor _lmHead;

    public T5Backward(BlockWeights weights)
    {
        _weights = weights;
        _config = weights.Config;
        _scratch = new BlockScratch(weights.Device);
        _encoder = new (T5LayerAttention, T5LayerFF)[_config.NumLayers];
        for (int i = 0; i < _encoder.Length; i++)
        {
            string path = $"encoder.block.{i}.layer";
            _encoder[i] = (new T5LayerAttention(weights, $"{path}.0", AttentionKind.Encoder, _scratch), new T5LayerFF(weights, $"{path}.1", _scratch));
        }
        _decoder = new (T5LayerAttention, T5LayerAttention, T5LayerFF)[_config.NumDecoderLayers];
        for (int i = 0; i < _decoder.Length; i++)
        {
            string path = $"decoder.block.{i}.layer";
            _decoder[i] = (
                new T5LayerAttention(weights, $"{path}.0", AttentionKind.DecoderSelf, _scratch),
                new T5LayerAttention(weights, $"{path}.1", AttentionKind.Cross, _scratch),
                new T5LayerFF(weights, $"{path}.2", _scratch));
        }
        _encoderBias = new PositionBias(weights, "encoder", bidirectional: true);
        _decoderBias = new PositionBias(weights, "decoder", bidirectional: false);
        _encoderNorm = weights.Vector("encoder.final_layer_norm.weight");
        _decoderNorm = weights.Vector("decoder.final_layer_norm.weight");
        _lmHead = weights.Matrix(_config.TieWordEmbeddings ? T5Parameters.Shared : T5Parameters.LmHead);
    }

    /// <summary>Bytes of scratch memory held.</summary>
    public long ScratchBytes => _scratch.Bytes;

    /// <summary>Computes the gradient of the encoder's input.</summary>
    /// <param name="dlogits">f32 [RT, V].</param>
    /// <param name="decoder">The decoder's hidden states.</param>
    /// <param name="targets">Where the decoder's examples lie.</param>
    /// <param name="encoder">The encoder's hidden states.</param>
    /// <param name="sources">Where the encoder's examples lie, prompt rows included.</param>
    /// <param name="encoderOutput">f32 [R, D], after the final norm: what the decoder attended to.</param>
    /// <param name="ddecoder">f32 [RT, D], scratch of the caller; overwritten.</param>
    /// <param name="dencoder">f32 [R, D], overwritten: the gradient of inputs_embeds.</param>
    public void Run(Tensor dlogits, StackTape decoder, RaggedRows targets, StackTape encoder, RaggedRows sources, Tensor encoderOutput, Tensor ddecoder, Tensor dencoder)
    {
        CpuDevice device = _weights.Device;
        int d = _config.DModel;
        Linear.Backward(device, dlogits, _lmHead, ddecoder, targets.Rows, d, _config.VocabSize);
        if (_config.TieWordEmbeddings)
            Elementwise.Scale(device, ddecoder, ddecoder, ddecoder.Elements, 1 / MathF.Sqrt(d));
        NormBackward(decoder.Last, _decoderNorm, ddecoder, targets.Rows);

        Elementwise.Fill(device, dencoder, dencoder.Elements, 0);
        for (int i = _decoder.Length - 1; i >= 0; i--)
        {
            Tensor self = decoder.Input(i, 0);
            Tensor cross = decoder.Input(i, 1);
            if (cross.IsEmpty)
            {
                cross = _scratch.Take(Slot.Sublayer0, self.Elements);
                _decoder[i].Self.Forward(self, targets, default, targets, _decoderBias, cross);
            }
            Tensor ff = decoder.Input(i, 2);
            if (ff.IsEmpty)
            {
                ff = _scratch.Take(Slot.Sublayer1, self.Elements);
                _decoder[i].Cross.Forward(cross, targets, encoderOutput, sources, _decoderBias, ff);
            }
            _decoder[i].Ff.BackwardInPlace(ff, ddecoder, targets.Rows);
            _decoder[i].Cross.BackwardInPlace(cross, targets, encoderOutput, sources, _decoderBias, ddecoder, dencoder, memoryOnly: i == 0);
            if (i > 0)
                _decoder[i].Self.BackwardInPlace(self, targets, default, targets, _decoderBias, ddecoder, default);
        }

        NormBackward(encoder.Last, _encoderNorm, dencoder, sources.Rows);
        for (int i = _encoder.Length - 1; i >= 0; i--)
        {
            Tensor self = encoder.Input(i, 0);
            Tensor ff = encoder.Input(i, 1);
            if (ff.IsEmpty)
            {
                ff = _scratch.Take(Slot.Sublayer0, self.Elements);
                _encoder[i].Self.Forward(self, sources, default, sources, _encoderBias, ff);
            }
            _encoder[i].Ff.BackwardInPlace(ff, dencoder, sources.Rows);
            _encoder[i].Self.BackwardInPlace(self, sources, default, sources, _encoderBias, dencoder, default);
        }
    }

    public void Dispose()
    {
        _encoderBias.Dispose();
        _decoderBias.Dispose();
        _scratch.Dispose();
    }

    // forward: y = RMSNorm(x), so dx from dy in the same memory; r is made again, one pass over x.
    private void NormBackward(Tensor x, Tensor w, Tensor dx, int rows)
    {
        int d = _config.DModel;
        Tensor r = _scratch.Take(Slot.InverseRms, rows);
        Tensor y = _scratch.Take(Slot.Norm, (long)rows * d);
        RmsNorm.Forward(_weights.Device, x, w, r, y, rows, d, _config.LayerNormEpsilon);
        RmsNorm.Backward(_weights.Device, x, w, r, dx, dx, rows, d);
    }
}
