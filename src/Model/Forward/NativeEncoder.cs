// Encoding a padded batch in the kernels that training computes with: real positions only, weights read as they are stored. The steps that follow: Decoding/NativeSteps.
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Blocks;

namespace IptNative.Model.Forward;

/// <summary>The encoder between padded tensors. Products are of a precision of their own, whatever training multiplies.</summary>
/// <param name="layers">The sublayers; may be training's, too.</param>
/// <param name="compute">What products multiply.</param>
internal sealed unsafe class NativeEncoder(T5Layers layers, ComputeType compute) : IDisposable
{
    private readonly NativeForward _encoder = new(layers, null);
    private readonly RaggedRows _rows = new();

    /// <summary>Runs the encoder over real positions only.</summary>
    /// <param name="embeds">f32 [B, S, D], padded.</param>
    /// <param name="lengths">[B], positions before the padding.</param>
    /// <param name="source">S.</param>
    /// <param name="hidden">f32 [B, S, D], overwritten; zeros at padding.</param>
    public void Encode(Tensor embeds, ReadOnlySpan<int> lengths, int source, Tensor hidden)
    {
        int d = layers.Config.DModel;
        _rows.Set(lengths);
        Pack(embeds, source, _encoder.EncoderInput(_rows));
        layers.Scratch.Compute = compute;
        try
        {
            _encoder.Encode(_rows);
        }
        finally
        {
            layers.Scratch.Compute = null;
        }
        for (int b = 0; b < lengths.Length; b++)
        {
            Floats(_encoder.EncoderOutput, (long)_rows.Offset(b) * d, lengths[b] * d).CopyTo(Floats(hidden, (long)b * source * d, lengths[b] * d));
            Floats(hidden, ((long)b * source + lengths[b]) * d, (source - lengths[b]) * d).Clear();
        }
    }

    /// <summary>Runs the encoder over a batch that was never padded, on any device.</summary>
    /// <param name="prompts">On the device; null where no example has one.</param>
    /// <param name="inputs">Whose sources are set.</param>
    /// <returns>f32 [R, D], valid until the next call of any member.</returns>
    public Tensor Encode(PromptTable? prompts, PackedInputs inputs)
    {
        layers.Scratch.Compute = compute;
        try
        {
            _encoder.EncodeBatch(prompts, inputs);
        }
        finally
        {
            layers.Scratch.Compute = null;
        }
        return _encoder.EncoderOutput;
    }

    /// <summary>An encoder's output without its padding.</summary>
    /// <param name="hidden">f32 [B, S, D], padded.</param>
    /// <param name="lengths">[B], positions before the padding.</param>
    /// <param name="source">S.</param>
    /// <param name="rows">Where the texts then lie.</param>
    /// <returns>f32 [R, D], valid until the next call of any member.</returns>
    public Tensor Packed(Tensor hidden, ReadOnlySpan<int> lengths, int source, out RaggedRows rows)
    {
        _rows.Set(lengths);
        rows = _rows;
        Tensor packed = _encoder.EncoderInput(_rows);
        Pack(hidden, source, packed);
        return packed;
    }

    public void Dispose() => _encoder.Dispose();

    private static Span<float> Floats(Tensor tensor, long first, int count) => new((float*)tensor.Address + first, count);

    private void Pack(Tensor padded, int source, Tensor packed)
    {
        int d = layers.Config.DModel;
        for (int b = 0; b < _rows.Examples; b++)
            Floats(padded, (long)b * source * d, _rows.Length(b) * d).CopyTo(Floats(packed, (long)_rows.Offset(b) * d, _rows.Length(b) * d));
    }
}
