// ONNX Runtime's forward pass with its tape, made into packed rows where the batch was padded.
using IptNative.Kernels.Devices;
using IptNative.Model.Blocks;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Model.Backward;

/// <summary>The forward pass in ONNX Runtime. The tape is the graphs' own outputs: nothing is copied but, in a padded batch, rows towards the front of their tensor.</summary>
internal sealed unsafe class RuntimeForward : ITapedForward
{
    private readonly FrozenT5 _model;
    private readonly TapeDetail _detail;

    public RuntimeForward(FrozenT5 model, Activations activations)
    {
        _model = model;
        _detail = activations switch
        {
            Activations.Blocks => TapeDetail.Blocks,
            Activations.Sublayers => TapeDetail.Sublayers,
            _ => TapeDetail.Full,
        };
        Encoder = new StackTape(model.Config.NumLayers, 2);
        Decoder = new StackTape(model.Config.NumDecoderLayers, 3);
    }

    public StackTape Encoder { get; }

    public StackTape Decoder { get; }

    public Tensor EncoderOutput { get; private set; }

    public long Bytes => _model.TapeBytes;

    public void Run(T5Batch batch, PromptTable? prompts, PackedInputs inputs)
    {
        EncodedBatch encoded = _model.Encode(batch, prompts, _detail);
        DecodedBatch decoded = _model.Decode(encoded, batch, _detail, withLogits: false);
        // Only now: the decoder has read the encoder's output as it was, padded.
        int s = encoded.SourceLength, t = decoded.TargetLength;
        EncoderOutput = Pack(encoded.Hidden, inputs.Sources, s, _model.Config.DModel);
        Fill(Encoder, encoded.TapeList, encoded.Inside, inputs.Sources, s, inputs.Sources, s);
        Fill(Decoder, decoded.TapeList, decoded.Inside, inputs.Targets, t, inputs.Sources, s);
    }

    public void Dispose() => Encoder.Clear(); // The tensors are the model's.

    private void Fill(StackTape tape, List<Tensor> stream, List<Tensor> inside, RaggedRows rows, int length, RaggedRows memoryRows, int memoryLength)
    {
        T5Config config = _model.Config;
        int next = 0, kept = 0;
        for (int block = 0; block < tape.Blocks; block++)
        {
            for (int sublayer = 0; sublayer < tape.SublayersPerBlock; sublayer++)
            {
                ref SublayerTape to = ref tape[block, sublayer];
                to = default;
                if (sublayer == 0 || _detail != TapeDetail.Blocks)
                    to.Input = Pack(stream[next++], rows, length, config.DModel);
                if (_detail != TapeDetail.Full)
                    continue;
                if (sublayer == tape.SublayersPerBlock - 1)
                {
                    to.Gate = Pack(inside[kept++], rows, length, config.DFf);
                    if (config.IsGated)
                        to.Up = Pack(inside[kept++], rows, length, config.DFf);
                    continue;
                }
                bool cross = sublayer == 1;
                to.Query = Pack(inside[kept++], rows, length, config.InnerDim);
                to.Key = Pack(inside[kept++], cross ? memoryRows : rows, cross ? memoryLength : length, config.InnerDim);
                to.Value = Pack(inside[kept++], cross ? memoryRows : rows, cross ? memoryLength : length, config.InnerDim);
            }
        }
        tape.Last = Pack(stream[next], rows, length, config.DModel);
    }

    // [B, length, width] to [rows, width] in the same memory: rows only ever move towards the front.
    private static Tensor Pack(Tensor padded, RaggedRows rows, int length, int width)
    {
        if (rows.Rows < (long)rows.Examples * length)
        {
            float* data = (float*)padded.Address;
            for (int b = 1; b < rows.Examples; b++)
            {
                long bytes = (long)rows.Length(b) * width * sizeof(float);
                Buffer.MemoryCopy(data + (long)b * length * width, data + (long)rows.Offset(b) * width, bytes, bytes);
            }
        }
        return padded.Slice(0, (long)rows.Rows * width);
    }
}
