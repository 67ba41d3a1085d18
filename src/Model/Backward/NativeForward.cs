// The forward pass made of the kernels that the backward sweep recomputes with, on packed rows. It keeps exactly the tape it is asked for.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Blocks;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Model.Backward;

/// <summary>Embedding, encoder and decoder in our own kernels.</summary>
internal sealed class NativeForward : ITapedForward
{
    private readonly T5Layers _layers;
    private readonly Activations? _activations;
    private readonly Tensor _shared;
    private readonly StackMemory _encoderMemory;
    private readonly StackMemory _decoderMemory;
    private readonly GrowingBuffer _output;

    /// <param name="layers">The model's sublayers.</param>
    /// <param name="activations">What is kept; null: nothing, for <see cref="Encode"/> alone.</param>
    /// <param name="tape">Type of what is kept inside sublayers: f32 or bf16.</param>
    public NativeForward(T5Layers layers, Activations? activations, DType tape = DType.F32)
    {
        _layers = layers;
        _activations = activations;
        _shared = layers.Weights.Matrix(T5Parameters.Shared);
        Encoder = new StackTape(layers.Encoder.Length, 2);
        Decoder = new StackTape(layers.Decoder.Length, 3);
        _encoderMemory = new StackMemory(layers, Encoder, tape, "encoder tape");
        _decoderMemory = new StackMemory(layers, Decoder, tape, "decoder tape");
        _output = new GrowingBuffer(layers.Device, DType.F32, "encoder output");
    }

    public StackTape Encoder { get; }

    public StackTape Decoder { get; }

    public Tensor EncoderOutput { get; private set; }

    public long Bytes => _encoderMemory.Bytes + _decoderMemory.Bytes + _output.Bytes;

    public void Run(T5Batch batch, PromptTable? prompts, PackedInputs inputs)
    {
        T5Config config = _layers.Config;
        RaggedRows sources = inputs.Sources, targets = inputs.Targets;
        Tensor x = EncoderInput(sources);
        EmbeddingGather.Forward(_layers.Device, _shared, inputs.Ids, x, sources.Rows, config.VocabSize, config.DModel);
        if (prompts is { Rows: > 0 })
            PromptGather.ForwardPacked(_layers.Device, prompts.Values, inputs.Places, x, prompts.Rows, inputs.PlaceCount, sources.Rows, config.DModel);
        Encode(sources);

        _decoderMemory.Lay(_activations, targets.Rows, sources.Rows);
        x = Decoder[0, 0].Input;
        EmbeddingGather.Forward(_layers.Device, _shared, inputs.TargetIds, x, targets.Rows, config.VocabSize, config.DModel);
        _layers.Stream?.LeaveEmbeddings();
        for (int i = 0; i < _layers.Decoder.Length; i++)
        {
            _layers.Enter(_layers.Encoder.Length + i, _layers.Encoder.Length + i + 1);
            Tensor y = _decoderMemory.Output(i, 0);
            _layers.Decoder[i].Self.Forward(x, targets, default, targets, _layers.DecoderBias, y, Decoder[i, 0]);
            Tensor z = _decoderMemory.Output(i, 1);
            _layers.Decoder[i].Cross.Forward(y, targets, EncoderOutput, sources, _layers.DecoderBias, z, Decoder[i, 1]);
            x = _decoderMemory.Output(i, 2);
            _layers.Decoder[i].Ff.Forward(z, x, targets.Rows, Decoder[i, 2]);
        }
    }

    /// <summary>Where the encoder's input of a batch goes: f32 [R, D].</summary>
    public Tensor EncoderInput(RaggedRows sources)
    {
        _encoderMemory.Lay(_activations, sources.Rows, sources.Rows);
        return Encoder[0, 0].Input;
    }

    /// <summary>The encoder, from <see cref="EncoderInput"/> to <see cref="EncoderOutput"/>.</summary>
    public void Encode(RaggedRows sources)
    {
        T5Config config = _layers.Config;
        _layers.Stream?.LeaveEmbeddings();
        Tensor x = Encoder[0, 0].Input;
        for (int i = 0; i < _layers.Encoder.Length; i++)
        {
            _layers.Enter(i, i + 1);
            Tensor y = _encoderMemory.Output(i, 0);
            _layers.Encoder[i].Self.Forward(x, sources, default, sources, _layers.EncoderBias, y, Encoder[i, 0]);
            x = _encoderMemory.Output(i, 1);
            _layers.Encoder[i].Ff.Forward(y, x, sources.Rows, Encoder[i, 1]);
        }
        EncoderOutput = _output.Take((long)sources.Rows * config.DModel);
        RmsNorm.Forward(_layers.Device, x, _layers.EncoderNorm, default, EncoderOutput, sources.Rows, config.DModel, config.LayerNormEpsilon);
    }

    public void Dispose()
    {
        _encoderMemory.Dispose();
        _decoderMemory.Dispose();
        _output.Dispose();
    }

    /// <summary>A stack's tape in memory of our own.</summary>
    private sealed class StackMemory(T5Layers layers, StackTape tape, DType inside, string purpose) : IDisposable
    {
        private const int Parts = 6;

        // Per sublayer: input, q, k, v, gate, up; behind them the last output.
        private readonly GrowingBuffer?[] _buffers = new GrowingBuffer?[(tape.Blocks * tape.SublayersPerBlock + 1) * Parts];
        private long _elements;

        public long Bytes
        {
            get
            {
                long bytes = 0;
                foreach (GrowingBuffer? buffer in _buffers)
                    bytes += buffer?.Bytes ?? 0;
                return bytes;
            }
        }

        public void Lay(Activations? activations, int rows, int memoryRows)
        {
            T5Config config = layers.Config;
            _elements = (long)rows * config.DModel;
            long inner = (long)rows * config.InnerDim, memory = (long)memoryRows * config.InnerDim, ff = (long)rows * config.DFf;
            for (int i = 0; i < tape.Blocks * tape.SublayersPerBlock; i++)
            {
                int sublayer = i % tape.SublayersPerBlock;
                ref SublayerTape to = ref tape[i / tape.SublayersPerBlock, sublayer];
                to = default;
                if (i == 0 || activations is { } kept && (sublayer == 0 || kept != Activations.Blocks))
                    to.Input = Take(i, 0, _elements);
                if (activations != Activations.Full)
                    continue;
                if (sublayer == tape.SublayersPerBlock - 1)
                {
                    to.Gate = Take(i, 4, ff);
                    to.Up = config.IsGated ? Take(i, 5, ff) : default;
                    continue;
                }
                to.Query = Take(i, 1, inner);
                to.Key = Take(i, 2, sublayer == 1 ? memory : inner);
                to.Value = Take(i, 3, sublayer == 1 ? memory : inner);
            }
            tape.Last = Take(tape.Blocks * tape.SublayersPerBlock, 0, _elements);
        }

        /// <summary>Where a sublayer's output goes: the next one's input, or scratch where that is not kept.</summary>
        public Tensor Output(int block, int sublayer)
        {
            bool last = sublayer == tape.SublayersPerBlock - 1;
            if (last && block == tape.Blocks - 1)
                return tape.Last;
            Tensor kept = last ? tape[block + 1, 0].Input : tape[block, sublayer + 1].Input;
            return kept.IsEmpty ? layers.Scratch.Take(sublayer == 0 ? BlockScratch.Slot.Sublayer0 : BlockScratch.Slot.Sublayer1, _elements) : kept;
        }

        public void Dispose()
        {
            foreach (GrowingBuffer? buffer in _buffers)
                buffer?.Dispose();
        }

        private Tensor Take(int sublayer, int part, long elements)
        {
            ref GrowingBuffer? buffer = ref _buffers[sublayer * Parts + part];
            buffer ??= new GrowingBuffer(layers.Device, part == 0 ? DType.F32 : inside, purpose);
            return buffer.Take(elements);
        }
    }
}
