// What a forward pass hands out: views of FrozenT5's own memory, filled anew by the next pass.
using IptNative.Kernels.Devices;
using IptNative.Model.Blocks;

namespace IptNative.Model.Forward;

/// <summary>An encoded batch. Valid until the next <see cref="FrozenT5.Encode"/>; the object is the same every time.</summary>
public sealed class EncodedBatch
{
    internal EncodedBatch()
    {
    }

    /// <summary>B.</summary>
    public int Batch { get; internal set; }

    /// <summary>S, prompt rows and padding included.</summary>
    public int SourceLength { get; internal set; }

    /// <summary>f32 [B, S, D], the encoder's input: embeddings with the prompts in their places. This and what follows is empty on a device with memory of its own, where nothing is padded.</summary>
    public Tensor InputsEmbeds { get; internal set; }

    /// <summary>i32 [B, S]: 1 is read, 0 is padding.</summary>
    public Tensor Mask { get; internal set; }

    /// <summary>i32 [stretches, 3]: first row in the prompt table, rows, row of the padded batch; rows is 0 where an example has no prompt.</summary>
    public Tensor PromptPlaces { get; internal set; }

    /// <summary>f32 [B, S, D], the encoder's output after its final norm.</summary>
    public Tensor Hidden { get; internal set; }

    /// <summary>The residual stream, f32 [B, S, D] each: input of every block or sublayer in order, then the final norm's. Empty without a tape; the first is <see cref="InputsEmbeds"/>.</summary>
    public IReadOnlyList<Tensor> Tape => TapeList;

    internal List<Tensor> TapeList { get; } = [];

    /// <summary>What the full tape keeps inside the sublayers, in the graph's order.</summary>
    internal List<Tensor> Inside { get; } = [];

    /// <summary>f32 [R, D], the encoder's output without padding, where it was made so.</summary>
    internal Tensor PackedHidden { get; set; }

    /// <summary>Where its texts lie; null where the output is padded.</summary>
    internal RaggedRows? PackedRows { get; set; }
}

/// <summary>A scored batch. Valid until the next <see cref="FrozenT5.Score"/>; the object is the same every time.</summary>
public sealed class DecodedBatch
{
    internal DecodedBatch()
    {
    }

    /// <summary>B.</summary>
    public int Batch { get; internal set; }

    /// <summary>T.</summary>
    public int TargetLength { get; internal set; }

    /// <summary>f32 [B, T, V]. The caller may overwrite it (dlogits).</summary>
    public Tensor Logits { get; internal set; }

    /// <summary>i32 [B, T], padded with -100.</summary>
    public Tensor Labels { get; internal set; }

    /// <summary>f32 [B, T, D], the decoder's output after its final norm; empty without a tape.</summary>
    public Tensor Hidden { get; internal set; }

    /// <summary>The residual stream, f32 [B, T, D] each: input of every block or sublayer in order, then the final norm's. Empty without a tape; the first is the decoder's input.</summary>
    public IReadOnlyList<Tensor> Tape => TapeList;

    internal List<Tensor> TapeList { get; } = [];

    /// <summary>What the full tape keeps inside the sublayers, in the graph's order.</summary>
    internal List<Tensor> Inside { get; } = [];
}
