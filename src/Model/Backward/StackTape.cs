// What a forward pass keeps of one stack for the backward sweep. Deliberately without memory of its own: see NativeTape and RuntimeTape.
using IptNative.Kernels.Devices;
using IptNative.Model.Blocks;

namespace IptNative.Model.Backward;

/// <summary>One stack's tape, packed rows.</summary>
/// <param name="blocks">Blocks of the stack.</param>
/// <param name="sublayersPerBlock">2 in the encoder, 3 in the decoder.</param>
internal sealed class StackTape(int blocks, int sublayersPerBlock)
{
    private readonly SublayerTape[] _sublayers = new SublayerTape[blocks * sublayersPerBlock];

    public int Blocks => blocks;

    public int SublayersPerBlock => sublayersPerBlock;

    /// <summary>A sublayer's tape; its Input is empty where only the block's was kept.</summary>
    /// <param name="block">0 to <see cref="Blocks"/> - 1.</param>
    /// <param name="sublayer">0: self-attention, then cross-attention (decoder), then feed-forward.</param>
    public ref SublayerTape this[int block, int sublayer] => ref _sublayers[block * sublayersPerBlock + sublayer];

    /// <summary>f32 [R, D], the last block's output, before the final norm.</summary>
    public Tensor Last { get; set; }

    /// <summary>Where the tape is in a file: which blocks of it are in memory. Null: all are.</summary>
    public SpilledBlocks? Spilled { get; init; }

    /// <summary>Forgets all tensors.</summary>
    public void Clear()
    {
        Array.Clear(_sublayers);
        Last = default;
    }
}
