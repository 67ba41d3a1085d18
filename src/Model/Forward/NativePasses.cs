// Encoding and decoding step by step in the kernels that training computes with: for weights that ONNX Runtime would need float32 copies of, and for
// streamed ones. Weights are read as they are stored; no expanded matrix ever exists.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Blocks;
using IptNative.Model.Config;

namespace IptNative.Model.Forward;

/// <summary>The passes of generating text, made of the model's own sublayers. Products are float32, whatever training multiplies.</summary>
internal sealed unsafe class NativePasses(T5Layers layers) : IStepPasses, IDisposable
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
        Tensor packed = _encoder.EncoderInput(_rows);
        for (int b = 0; b < lengths.Length; b++)
            Floats(embeds, (long)b * source * d, lengths[b] * d).CopyTo(Floats(packed, (long)_rows.Offset(b) * d, lengths[b] * d));
        InFloat32(() => _encoder.Encode(_rows));
        for (int b = 0; b < lengths.Length; b++)
        {
            Floats(_encoder.EncoderOutput, (long)_rows.Offset(b) * d, lengths[b] * d).CopyTo(Floats(hidden, (long)b * source * d, lengths[b] * d));
            Floats(hidden, ((long)b * source + lengths[b]) * d, (source - lengths[b]) * d).Clear();
        }
    }

    public void Remember(Tensor hidden, int texts, int source, ReadOnlySpan<Tensor> made)
    {
        Tensor[] cross = made.ToArray();
        InFloat32(() =>
        {
            for (int i = 0; i < layers.Decoder.Length; i++)
            {
                Enter(i);
                layers.Decoder[i].Cross.Remember(hidden, new KeysValues(cross[2 * i], cross[2 * i + 1]), texts, source);
            }
        });
    }

    public void Step(StepTensors t) => InFloat32(() =>
    {
        T5Config config = layers.Config;
        int rows = t.Texts * t.Beams;
        long elements = (long)rows * config.DModel;
        Tensor x = t.Embeds;
        layers.Stream?.LeaveEmbeddings();
        for (int i = 0; i < layers.Decoder.Length; i++)
        {
            Enter(i);
            Tensor y = layers.Scratch.Take(BlockScratch.Slot.Sublayer0, elements), z = layers.Scratch.Take(BlockScratch.Slot.Sublayer1, elements);
            layers.Decoder[i].Self.StepSelf(x, y, Layer(t.Past, i), Layer(t.Present, i), rows, t.Length, t.Bias);
            layers.Decoder[i].Cross.StepCross(y, z, Layer(t.Cross, i), t.Texts, t.Beams, t.Source, t.Lengths);
            layers.Decoder[i].Ff.Forward(z, x, rows);
        }
        int blocks = layers.Encoder.Length + layers.Decoder.Length;
        layers.Enter(blocks, layers.Encoder.Length); // the next token begins at the decoder's first block
        Tensor n = layers.Scratch.Take(BlockScratch.Slot.Norm, elements);
        RmsNorm.Forward(layers.Device, x, layers.DecoderNorm, default, n, rows, config.DModel, config.LayerNormEpsilon);
        Gemm.Run(layers.Device, new GemmArgs { A = n, B = layers.LmHead, C = t.Logits, M = rows, N = config.VocabSize, K = config.DModel, TransB = true, Alpha = layers.LmScale, Compute = ComputeType.F32 });
    });

    public void Leave()
    {
        // The model's, for its next decoder.
    }

    public void Dispose() => _encoder.Dispose();

    private static KeysValues Layer(Tensor[] tensors, int i) => new(tensors[2 * i], tensors[2 * i + 1]);

    private static Span<float> Floats(Tensor tensor, long first, int count) => new((float*)tensor.Address + first, count);

    private void Enter(int block) => layers.Enter(layers.Encoder.Length + block, layers.Encoder.Length + block + 1);

    // The layers are training's, too, which may multiply bf16.
    private void InFloat32(Action passes)
    {
        layers.Scratch.Compute = ComputeType.F32;
        try
        {
            passes();
        }
        finally
        {
            layers.Scratch.Compute = null;
        }
    }
}
