// ONNX Runtime's forward pass with its tape, made into packed rows where the batch was padded. The same on the CPU and on a GPU: where tensors lie is RuntimePasses' matter.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Blocks;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Model.Backward;

/// <summary>The forward pass in ONNX Runtime. The tape is the graphs' own outputs: nothing is copied but, in a padded batch, rows towards the front of their tensor.</summary>
internal sealed class RuntimeForward : ITapedForward
{
    private readonly RuntimePasses _passes;
    private readonly TapeDetail _detail;
    private readonly GrowingBuffer _scratch;
    private readonly RowPacking _sources;
    private readonly RowPacking _targets;

    /// <param name="passes">Not disposed here.</param>
    /// <param name="activations">What is kept.</param>
    public RuntimeForward(RuntimePasses passes, Activations activations)
    {
        _passes = passes;
        _scratch = new GrowingBuffer(passes.Device, DType.F32, "packing of the activation tape");
        _sources = new RowPacking(passes.Device, _scratch);
        _targets = new RowPacking(passes.Device, _scratch);
        _detail = activations switch
        {
            Activations.Blocks => TapeDetail.Blocks,
            Activations.Sublayers => TapeDetail.Sublayers,
            _ => TapeDetail.Full,
        };
        Encoder = new StackTape(passes.Config.NumLayers, 2);
        Decoder = new StackTape(passes.Config.NumDecoderLayers, 3);
    }

    public StackTape Encoder { get; }

    public StackTape Decoder { get; }

    public Tensor EncoderOutput { get; private set; }

    public long Bytes => _passes.TapeBytes + _scratch.Bytes;

    public void Run(T5Batch batch, PromptTable? prompts, PackedInputs inputs)
    {
        EncodedBatch encoded = _passes.Encode(batch, prompts, _detail);
        DecodedBatch decoded = _passes.Decode(encoded, batch, _detail, withLogits: false);
        // Only now: the decoder has read the encoder's output as it was, padded.
        _sources.Set(inputs.Sources, encoded.SourceLength);
        _targets.Set(inputs.Targets, decoded.TargetLength);
        EncoderOutput = _sources.Pack(encoded.Hidden, _passes.Config.DModel);
        Fill(Encoder, encoded.TapeList, encoded.Inside, _sources);
        Fill(Decoder, decoded.TapeList, decoded.Inside, _targets);
    }

    public void Dispose()
    {
        Encoder.Clear(); // The tensors are the passes'.
        Decoder.Clear();
        _sources.Dispose();
        _targets.Dispose();
        _scratch.Dispose();
    }

    private void Fill(StackTape tape, List<Tensor> stream, List<Tensor> inside, RowPacking rows)
    {
        T5Config config = _passes.Config;
        int next = 0, kept = 0;
        for (int block = 0; block < tape.Blocks; block++)
        {
            for (int sublayer = 0; sublayer < tape.SublayersPerBlock; sublayer++)
            {
                ref SublayerTape to = ref tape[block, sublayer];
                to = default;
                if (sublayer == 0 || _detail != TapeDetail.Blocks)
                    to.Input = rows.Pack(stream[next++], config.DModel);
                if (_detail != TapeDetail.Full)
                    continue;
                if (sublayer == tape.SublayersPerBlock - 1)
                {
                    to.Gate = rows.Pack(inside[kept++], config.DFf);
                    if (config.IsGated)
                        to.Up = rows.Pack(inside[kept++], config.DFf);
                    continue;
                }
                // Cross attention reads the sources.
                RowPacking read = sublayer == 1 ? _sources : rows;
                to.Query = rows.Pack(inside[kept++], config.InnerDim);
                to.Key = read.Pack(inside[kept++], config.InnerDim);
                to.Value = read.Pack(inside[kept++], config.InnerDim);
            }
        }
        tape.Last = rows.Pack(stream[next], config.DModel);
    }
}
