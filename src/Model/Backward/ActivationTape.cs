// What a forward pass keeps for the backward sweep: hidden states at the inputs of sublayers. Not: who computed them.
using IptNative.Kernels.Devices;

namespace IptNative.Model.Backward;

/// <summary>How much of the forward pass is kept.</summary>
public enum Activations
{
    /// <summary>Each block's input; the block's other sublayer inputs are computed again.</summary>
    Blocks,

    /// <summary>Each sublayer's input; only the inside of a sublayer is computed again.</summary>
    Sublayers,
}

/// <summary>One stack's hidden states, packed rows [R, D].</summary>
/// <param name="blocks">Blocks of the stack.</param>
/// <param name="sublayersPerBlock">2 in the encoder, 3 in the decoder.</param>
internal sealed class StackTape(int blocks, int sublayersPerBlock)
{
    private readonly Tensor[] _inputs = new Tensor[blocks * sublayersPerBlock];

    public int Blocks => blocks;

    /// <summary>The input of a sublayer; empty where only the block's input was kept.</summary>
    /// <param name="block">0 to <see cref="Blocks"/> - 1.</param>
    /// <param name="sublayer">0: self-attention, then cross-attention (decoder), then feed-forward.</param>
    public ref Tensor Input(int block, int sublayer) => ref _inputs[block * sublayersPerBlock + sublayer];

    /// <summary>The last block's output, before the final norm.</summary>
    public Tensor Last { get; set; }
}
