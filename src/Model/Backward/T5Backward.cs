// From the gradient at the decoder's top to the gradient of the encoder's input, sublayer by sublayer. No weight gradient is ever computed, nothing for
// padding, and nothing below the decoder's first cross-attention: no tuned number lies there. The loss above it: LossHead.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Blocks;
using static IptNative.Model.Blocks.BlockScratch;

namespace IptNative.Model.Backward;

/// <summary>The frozen T5's input gradient, by recomputing what the tape lacks of each sublayer and then applying its vjp.</summary>
/// <remarks>
/// Backward  from the top down; the residual stream's gradient is one buffer that each sublayer turns from dy into dx in place. Every decoder block's
///           cross-attention adds to the gradient of the encoder's output.
/// Shapes    hidden states and their gradients: [RT, D] decoder, [R, D] encoder, packed rows (RaggedRows).
/// </remarks>
internal sealed class T5Backward(T5Layers layers)
{
    /// <summary>Computes the gradient of the encoder's input.</summary>
    /// <param name="decoder">The decoder's tape; what it keeps inside sublayers is overwritten.</param>
    /// <param name="targets">Where the decoder's examples lie.</param>
    /// <param name="encoder">The encoder's tape; likewise.</param>
    /// <param name="sources">Where the encoder's examples lie, prompt rows included.</param>
    /// <param name="encoderOutput">f32 [R, D], after the final norm: what the decoder attended to.</param>
    /// <param name="ddecoder">f32 [RT, D]: the gradient of the decoder's output before its final norm; overwritten.</param>
    /// <param name="dencoder">f32 [R, D], overwritten: the gradient of inputs_embeds.</param>
    /// <param name="visit">Called after each sublayer with its HF path and the gradient of its input; null normally.</param>
    public void Run(StackTape decoder, RaggedRows targets, StackTape encoder, RaggedRows sources, Tensor encoderOutput, Tensor ddecoder, Tensor dencoder, Action<string, Tensor>? visit = null)
    {
        ComputeDevice device = layers.Device;
        BlockScratch scratch = layers.Scratch;
        Elementwise.Fill(device, dencoder, dencoder.Elements, 0);
        for (int i = layers.Decoder.Length - 1; i >= 0; i--)
        {
            layers.Enter(layers.Encoder.Length + i, layers.Encoder.Length + i - 1);
            decoder.Spilled?.Enter(i, i - 1);
            ref SublayerTape self = ref decoder[i, 0];
            ref SublayerTape cross = ref decoder[i, 1];
            ref SublayerTape ff = ref decoder[i, 2];
            Tensor crossInput = cross.Input;
            if (crossInput.IsEmpty)
            {
                crossInput = scratch.Take(Slot.Sublayer0, self.Input.Elements);
                layers.Decoder[i].Self.Forward(self.Input, targets, default, targets, layers.DecoderBias, crossInput);
            }
            Tensor ffInput = ff.Input;
            if (ffInput.IsEmpty)
            {
                ffInput = scratch.Take(Slot.Sublayer1, self.Input.Elements);
                layers.Decoder[i].Cross.Forward(crossInput, targets, encoderOutput, sources, layers.DecoderBias, ffInput);
            }
            layers.Decoder[i].Ff.BackwardInPlace(ffInput, ddecoder, targets.Rows, ff);
            visit?.Invoke($"decoder.block.{i}.layer.2", ddecoder);
            layers.Decoder[i].Cross.BackwardInPlace(crossInput, targets, encoderOutput, sources, layers.DecoderBias, ddecoder, dencoder, cross, memoryOnly: i == 0);
            visit?.Invoke($"decoder.block.{i}.layer.1", dencoder);
            if (i == 0)
                break;
            layers.Decoder[i].Self.BackwardInPlace(self.Input, targets, default, targets, layers.DecoderBias, ddecoder, default, self);
            visit?.Invoke($"decoder.block.{i}.layer.0", ddecoder);
        }

        decoder.Spilled?.Leave();
        Tensor r = scratch.Take(Slot.InverseRms, sources.Rows);
        RmsNorm.InverseRms(device, encoder.Last, r, sources.Rows, layers.Config.DModel, layers.Config.LayerNormEpsilon);
        RmsNorm.Backward(device, encoder.Last, layers.EncoderNorm, r, dencoder, dencoder, sources.Rows, layers.Config.DModel);
        visit?.Invoke("encoder.final_layer_norm", dencoder);
        for (int i = layers.Encoder.Length - 1; i >= 0; i--)
        {
            layers.Enter(i, i - 1);
            encoder.Spilled?.Enter(i, i - 1);
            ref SublayerTape self = ref encoder[i, 0];
            ref SublayerTape ff = ref encoder[i, 1];
            Tensor ffInput = ff.Input;
            if (ffInput.IsEmpty)
            {
                ffInput = scratch.Take(Slot.Sublayer0, self.Input.Elements);
                layers.Encoder[i].Self.Forward(self.Input, sources, default, sources, layers.EncoderBias, ffInput);
            }
            layers.Encoder[i].Ff.BackwardInPlace(ffInput, dencoder, sources.Rows, ff);
            visit?.Invoke($"encoder.block.{i}.layer.1", dencoder);
            layers.Encoder[i].Self.BackwardInPlace(self.Input, sources, default, sources, layers.EncoderBias, dencoder, default, self);
            visit?.Invoke($"encoder.block.{i}.layer.0", dencoder);
        }
        encoder.Spilled?.Leave();
    }
}
