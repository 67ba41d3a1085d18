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
    private readonly SpillFile? _encoderFile;
    private readonly SpillFile? _decoderFile;

    /// <param name="layers">The model's sublayers.</param>
    /// <param name="activations">What is kept; null: nothing, for <see cref="Encode"/> alone.</param>
    /// <param name="tape">Type of what is kept inside sublayers: f32 or bf16.</param>
    /// <param name="spillFolder">Where the tape is kept in a file; null keeps it in memory.</param>
    public NativeForward(T5Layers layers, Activations? activations, DType tape = DType.F32, string? spillFolder = null)
    {
        _layers = layers;
        _activations = activations;
        _shared = layers.Weights.Matrix(T5Parameters.Shared);
        if (spillFolder is not null)
            (_encoderFile, _decoderFile) = (new SpillFile(spillFolder), new SpillFile(spillFolder));
        Encoder = new StackTape(layers.Encoder.Length, 2) { Spilled = spillFolder is null ? null : new SpilledBlocks() };
        Decoder = new StackTape(layers.Decoder.Length, 3) { Spilled = spillFolder is null ? null : new SpilledBlocks() };
        _encoderMemory = new StackMemory(layers, Encoder, tape, _encoderFile, "encoder tape");
        _decoderMemory = new StackMemory(layers, Decoder, tape, _decoderFile, "decoder tape");
        _output = new GrowingBuffer(layers.Device, DType.F32, "encoder output");
    }

    public StackTape Encoder { get; }

    public StackTape Decoder { get; }

    public Tensor EncoderOutput { get; private set; }

    public long Bytes => _encoderMemory.Bytes + _decoderMemory.Bytes + _output.Bytes;

    public void Run(T5Batch batch, PromptTable? prompts, PackedInputs inputs) => Run(prompts, inputs);

    /// <summary>The same, of inputs that are no batch of their own.</summary>
    public void Run(PromptTable? prompts, PackedInputs inputs)
    {
        T5Config config = _layers.Config;
        RaggedRows sources = inputs.Sources, targets = inputs.Targets;
        EncodeBatch(prompts, inputs);

        _decoderMemory.Lay(_activations, targets.Rows, sources.Rows);
        Tensor x = Decoder[0, 0].Input;
        EmbeddingGather.Forward(_layers.Device, _shared, inputs.TargetIds, x, targets.Rows, config.VocabSize, config.DModel);
        _layers.Stream?.LeaveEmbeddings();
        for (int i = 0; i < _layers.Decoder.Length; i++)
        {
            _layers.Enter(_layers.Encoder.Length + i, _layers.Encoder.Length + i + 1);
            Decoder.Spilled?.Enter(i, -1);
            Tensor y = _decoderMemory.Output(i, 0);
            _layers.Decoder[i].Self.Forward(x, targets, default, targets, _layers.DecoderBias, y, Decoder[i, 0]);
            Tensor z = _decoderMemory.Output(i, 1);
            _layers.Decoder[i].Cross.Forward(y, targets, EncoderOutput, sources, _layers.DecoderBias, z, Decoder[i, 1]);
            x = _decoderMemory.Output(i, 2);
            _layers.Decoder[i].Ff.Forward(z, x, targets.Rows, Decoder[i, 2]);
        }
    }

    /// <summary>Takes memory for so many rows before they come.</summary>
    public void Reserve(int sources, int targets)
    {
        _encoderMemory.Lay(_activations, sources, sources);
        _decoderMemory.Lay(_activations, targets, sources);
        _output.Take((long)sources * _layers.Config.DModel);
    }

    /// <summary>Embeddings and encoder; no more than the batch's sources need be set.</summary>
    public void EncodeBatch(PromptTable? prompts, PackedInputs inputs)
    {
        T5Config config = _layers.Config;
        RaggedRows sources = inputs.Sources;
        Tensor x = EncoderInput(sources);
        EmbeddingGather.Forward(_layers.Device, _shared, inputs.Ids, x, sources.Rows, config.VocabSize, config.DModel);
        if (prompts is { Rows: > 0 })
            PromptGather.ForwardPacked(_layers.Device, prompts.Values, inputs.Places, x, prompts.Rows, inputs.PlaceCount, sources.Rows, config.DModel);
        Encode(sources);
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
            Encoder.Spilled?.Enter(i, -1);
            Tensor y = _encoderMemory.Output(i, 0);
            _layers.Encoder[i].Self.Forward(x, sources, default, sources, _layers.EncoderBias, y, Encoder[i, 0]);
            x = _encoderMemory.Output(i, 1);
            _layers.Encoder[i].Ff.Forward(y, x, sources.Rows, Encoder[i, 1]);
        }
        Encoder.Spilled?.Leave();
        EncoderOutput = _output.Take((long)sources.Rows * config.DModel);
        RmsNorm.Forward(_layers.Device, x, _layers.EncoderNorm, default, EncoderOutput, sources.Rows, config.DModel, config.LayerNormEpsilon);
    }

    public void Dispose()
    {
        _encoderMemory.Dispose();
        _decoderMemory.Dispose();
        _output.Dispose();
        _encoderFile?.Dispose();
        _decoderFile?.Dispose();
    }

    /// <summary>A stack's tape in memory of our own.</summary>
    private sealed class StackMemory(T5Layers layers, StackTape tape, DType inside, SpillFile? file, string purpose) : IDisposable
    {
        private const int Parts = 6;
        private const long PageBytes = 4096;

        // Per sublayer: input, q, k, v, gate, up; behind them the last output.
        private readonly GrowingBuffer?[] _buffers = new GrowingBuffer?[(tape.Blocks * tape.SublayersPerBlock + 1) * Parts];
        private long _elements;
        private nint _fileAddress;
        private long _bytesPerBlock;
        private long _used;

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
            if (file is not null)
                LayFile(activations, inner, memory, ff);
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
            tape.Last = InMemory(tape.Blocks * tape.SublayersPerBlock, 0, _elements);
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

        // Every part of a block begins on a page, so that a block's pages are its own.
        private static long Pages(DType type, long elements) => (type.ByteLength(elements) + PageBytes - 1) / PageBytes * PageBytes;

        // Inputs, and with full activations the products of each sublayer; unused parts of cross-attention or gates are no more than address space.
        private void LayFile(Activations? activations, long inner, long memory, long ff)
        {
            int per = tape.SublayersPerBlock;
            _bytesPerBlock = (activations == Activations.Blocks ? 1 : per) * Pages(DType.F32, _elements);
            if (activations == Activations.Full)
            {
                _bytesPerBlock += 3 * Pages(inside, inner) + (layers.Config.IsGated ? 2 : 1) * Pages(inside, ff);
                if (per == 3)
                    _bytesPerBlock += Pages(inside, inner) + 2 * Pages(inside, memory);
            }
            tape.Spilled!.Leave(); // its addresses may end here
            _fileAddress = file!.Take(_bytesPerBlock * tape.Blocks);
            tape.Spilled.Lay(_fileAddress, _bytesPerBlock, tape.Blocks);
            _used = 0;
        }

        private Tensor Take(int sublayer, int part, long elements)
        {
            if (file is null)
                return InMemory(sublayer, part, elements);
            // A block's parts are asked for one after the other.
            if (sublayer % tape.SublayersPerBlock == 0 && part == 0)
                _used = sublayer / tape.SublayersPerBlock * _bytesPerBlock;
            DType type = part == 0 ? DType.F32 : inside;
            var taken = new Tensor(layers.Device, _fileAddress + (nint)_used, type, elements);
            _used += Pages(type, elements);
            return taken;
        }

        private Tensor InMemory(int sublayer, int part, long elements)
        {
            ref GrowingBuffer? buffer = ref _buffers[sublayer * Parts + part];
            buffer ??= new GrowingBuffer(layers.Device, part == 0 ? DType.F32 : inside, purpose);
            return buffer.Take(elements);
        }
    }
}
