// The frozen model's forward passes: encode, score, decode step by step. Deliberately not: gradients (Backward/), search (Decoding/), text (Tokenizer/).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Blocks;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Decoding;

namespace IptNative.Model.Forward;

/// <summary>A T5 whose weights are never changed, run forward in our own kernels or in ONNX Runtime.</summary>
/// <remarks>
/// The weights are the checkpoint's own memory, bound once as inputs of the graphs. Each graph's session is made when it is first needed, so that
/// generating text never pays for the scoring graph. Results are views of memory that the next pass of the same kind fills anew; after the first
/// steps a pass over shapes seen before allocates nothing. Not thread-safe: one pass at a time; several step decoders may be alive.
/// On a device with memory of its own our own kernels encode and generate, over one copy of the weights there; ONNX Runtime's passes are the CPU's here.
/// </remarks>
public sealed class FrozenT5 : IDisposable
{
    private readonly Checkpoint _checkpoint;
    private readonly FrozenT5Options _options;
    private readonly bool _ownsDevice;
    private readonly EncodedBatch _encoded = new();
    private FrozenWeights? _weights;
    private RuntimePasses? _runtime;
    private PackedInputs? _packedInputs;
    private GrowingBuffer? _prompts;
    private T5Layers? _layers;
    private BlockWeights? _blockWeights;
    private NativeEncoder? _nativeEncoder;
    private NativeSteps? _nativeSteps;

    private FrozenT5(Checkpoint checkpoint, FrozenT5Options options)
    {
        _checkpoint = checkpoint;
        Config = checkpoint.Config;
        Generation = options.Generation ?? (options.Device is null or CpuDevice ? ForwardEngines.Generating : ForwardEngine.Native);
        _ownsDevice = options.Device is null;
        // Beside ONNX Runtime, which has threads of its own, ours only gather embeddings.
        Device = options.Device ?? new CpuDevice(Generation == ForwardEngine.Native ? options.Threads : 1);
        _options = options;
    }

    /// <summary>The checkpoint's configuration.</summary>
    public T5Config Config { get; }

    /// <summary>Where passes are computed and results lie.</summary>
    public ComputeDevice Device { get; }

    /// <summary>
    /// Who encodes and generates (<see cref="Encode"/> without a tape, <see cref="StartDecoding"/>): our own kernels, which read weights as they are
    /// stored and can stream them, or ONNX Runtime. May be set before a pass; a decoder goes on as it was started.
    /// </summary>
    public ForwardEngine Generation { get; set; }

    /// <summary>Bytes of f32 copies made so far of weights that are stored narrower (ONNX Runtime's CPU kernels take f32 only); 0 for an f32 checkpoint.</summary>
    public long ExpandedBytes => _weights?.ExpandedBytes ?? 0;

    /// <summary>Bytes of weights and scratch that passes hold on a device with memory of its own; 0 on the CPU.</summary>
    public long HeldBytes => Device is CpuDevice || _layers is null ? 0 : _layers.Weights.CopiedBytes + _layers.Scratch.Bytes;

    /// <summary>Bytes at most of packed copies that steps in our own kernels make of a small model's weights; 0 where it is too large for that.</summary>
    /// <param name="config">The model.</param>
    public static long StepCopyBytes(T5Config config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return NativeSteps.IsPacked(config) ? NativeSteps.PackedBytes(config) : 0;
    }

    /// <summary>ONNX Runtime's passes on the CPU, and the layout of padded batches for both engines.</summary>
    internal RuntimePasses Runtime => _runtime ??= new RuntimePasses(Host, Config, Weights, RuntimePlace.Host, _options);

    /// <summary>What ONNX Runtime binds here.</summary>
    internal FrozenWeights Weights => _weights ??= new FrozenWeights(Host, _checkpoint, _options.ExpandQuantised);

    /// <summary>The CPU that ONNX Runtime's passes are computed on here.</summary>
    /// <exception cref="NotSupportedException">The model is on a device with memory of its own.</exception>
    internal CpuDevice Host => Device as CpuDevice
        ?? throw new NotSupportedException($"a pass of ONNX Runtime: found a model on {Device.Name}, expected one on the CPU, where it scores and generates. Use --forward native, or --device cpu.");

    /// <summary>The sublayers made of our own kernels: one set, and one scratch memory, for generating and for training.</summary>
    internal T5Layers Layers => _layers ??= new T5Layers(_blockWeights ??= new BlockWeights(Device, _checkpoint));

    /// <summary>The embedding table as it is stored: rows are widened as they are read.</summary>
    internal Tensor Shared => Weights.Shared;

    /// <summary>Makes a checkpoint runnable. Reads no weight yet.</summary>
    /// <param name="checkpoint">Outlives the model; not disposed by it.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <returns>The model; dispose it.</returns>
    /// <exception cref="ArgumentException">The configuration's position buckets are impossible, the number of threads is negative, or ONNX Runtime is to generate on another device than the CPU.</exception>
    public static FrozenT5 Load(Checkpoint checkpoint, FrozenT5Options? options = null)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        options ??= new FrozenT5Options();
        ArgumentOutOfRangeException.ThrowIfNegative(options.Threads, nameof(options));
        if (options.Generation == ForwardEngine.Ort && options.Device is { } device and not CpuDevice)
            throw new ArgumentException($"generating on {device.Name}: found ONNX Runtime, which generates on the CPU only, expected our own kernels. Use --forward native, or --device cpu.", nameof(options));
        T5Config config = checkpoint.Config;
        // Asked once here, so that an impossible configuration fails at load and not in the middle of a run.
        RelativePositionBias.Bucket(0, bidirectional: true, config.RelativeAttentionNumBuckets, config.RelativeAttentionMaxDistance);
        RelativePositionBias.Bucket(0, bidirectional: false, config.RelativeAttentionNumBuckets, config.RelativeAttentionMaxDistance);
        return new FrozenT5(checkpoint, options);
    }

    /// <summary>Runs the encoder.</summary>
    /// <param name="batch">Examples; padded here to the longest.</param>
    /// <param name="prompts">The table that the examples' prompt numbers mean; null where none has a prompt.</param>
    /// <param name="tape">Which sublayer inputs to keep.</param>
    /// <returns>Valid until the next call.</returns>
    /// <exception cref="ArgumentException">The batch or an example is empty, an id is outside the vocabulary, or a prompt is missing or as wide as another model's.</exception>
    /// <exception cref="InvalidDataException">A weight cannot be read.</exception>
    /// <exception cref="InsufficientMemoryException">The texts are too long for this machine.</exception>
    public EncodedBatch Encode(T5Batch batch, PromptTable? prompts = null, TapeDetail tape = TapeDetail.None)
    {
        ArgumentNullException.ThrowIfNull(batch);
        if (Device is not CpuDevice)
            return EncodeThere(batch, prompts, tape);
        bool native = Generation == ForwardEngine.Native && tape == TapeDetail.None;
        RequireUnchangedWeights();
        if (!native)
            return Runtime.Encode(batch, prompts, tape);
        EncodedBatch encoded = Runtime.Begin(batch, prompts);
        Encoder.Encode(encoded.InputsEmbeds, RuntimeStepDecoder.SourceLengths(encoded.Mask, encoded.Batch, encoded.SourceLength), encoded.SourceLength, encoded.Hidden);
        return encoded;
    }

    /// <summary>Runs the decoder over whole targets (teacher forcing).</summary>
    /// <param name="encoded">The encoded examples.</param>
    /// <param name="batch">The same examples, with labels; the decoder reads them shifted right.</param>
    /// <param name="tape">Which sublayer inputs to keep.</param>
    /// <returns>Logits of every target position. Valid until the next call.</returns>
    /// <exception cref="ArgumentException">The batch is another than the encoded one, has no labels, or a label is outside the vocabulary.</exception>
    /// <exception cref="InvalidDataException">A weight cannot be read.</exception>
    public DecodedBatch Score(EncodedBatch encoded, T5Batch batch, TapeDetail tape = TapeDetail.None) => Decode(encoded, batch, tape, withLogits: true);

    /// <summary>Score; without logits where another head follows.</summary>
    internal DecodedBatch Decode(EncodedBatch encoded, T5Batch batch, TapeDetail tape, bool withLogits)
    {
        ArgumentNullException.ThrowIfNull(encoded);
        ArgumentNullException.ThrowIfNull(batch);
        if (encoded.Batch != batch.Count)
            throw new ArgumentException($"scoring a batch: found {batch.Count} examples, expected the {encoded.Batch} that were encoded.", nameof(batch));
        RequireUnchangedWeights();
        return Runtime.Decode(encoded, batch, tape, withLogits);
    }

    /// <summary>Starts generating: computes the cross attention's keys and values, which the decoder then keeps.</summary>
    /// <param name="encoded">The encoded examples; not needed any more after this call.</param>
    /// <param name="beamsPerExample">Rows of each example, side by side; 1 or more.</param>
    /// <returns>The decoder; dispose it before the model.</returns>
    /// <exception cref="InvalidDataException">A weight cannot be read.</exception>
    public IStepDecoder StartDecoding(EncodedBatch encoded, int beamsPerExample = 1)
    {
        ArgumentNullException.ThrowIfNull(encoded);
        ArgumentOutOfRangeException.ThrowIfLessThan(beamsPerExample, 1);
        if (Generation != ForwardEngine.Native && Device is CpuDevice)
            return new RuntimeStepDecoder(this, encoded, beamsPerExample);
        var decoder = new SlotDecoder(_nativeSteps ??= new NativeSteps(Layers, _options.Compute));
        try
        {
            if (encoded.PackedRows is { } packed)
            {
                decoder.Join(encoded.PackedHidden, packed, beamsPerExample);
                return decoder;
            }
            Tensor hidden = Encoder.Packed(encoded.Hidden, RuntimeStepDecoder.SourceLengths(encoded.Mask, encoded.Batch, encoded.SourceLength), encoded.SourceLength, out RaggedRows rows);
            decoder.Join(hidden, rows, beamsPerExample);
            return decoder;
        }
        catch
        {
            decoder.Dispose();
            throw;
        }
    }

    /// <summary>Gives back device memory that generated texts used and that is kept for the next ones; what lies between two evaluations may need it.</summary>
    public void ReleaseIdle()
    {
        if (Device is not CpuDevice)
            _nativeSteps?.Memory.Trim();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _packedInputs?.Dispose();
        _prompts?.Dispose();
        _nativeEncoder?.Dispose();
        _nativeSteps?.Dispose();
        _layers?.Dispose();
        _blockWeights?.Dispose();
        _runtime?.Dispose();
        _weights?.Dispose();
        if (_ownsDevice)
            Device.Dispose();
    }

    /// <summary>The session of one of the graphs, made when first asked for.</summary>
    internal GraphSession Session(string graph) => Runtime.Session(graph);

    /// <summary>Refuses to touch the pages of a file that was truncated or rewritten.</summary>
    internal void RequireUnchangedWeights() => _checkpoint.RequireUnchanged();

    private NativeEncoder Encoder => _nativeEncoder ??= new NativeEncoder(Layers, _options.Compute);

    // Our own kernels on a device with memory of its own: nothing is padded, and nothing but ids goes there.
    private EncodedBatch EncodeThere(T5Batch batch, PromptTable? prompts, TapeDetail tape)
    {
        if (tape != TapeDetail.None)
            _ = Host; // Whoever wants a tape here wants ONNX Runtime's.
        RequireUnchangedWeights();
        _packedInputs ??= new PackedInputs(Device, Config);
        _packedInputs.SetSources(batch, prompts);
        _encoded.PackedHidden = Encoder.Encode(There(prompts), _packedInputs);
        _encoded.PackedRows = _packedInputs.Sources;
        _encoded.Batch = batch.Count;
        _encoded.SourceLength = _packedInputs.Sources.MaxLength;
        return _encoded;
    }

    // Prompts of another device are brought for each batch: a few MB.
    private PromptTable? There(PromptTable? prompts)
    {
        if (prompts is null or { Rows: 0 } || ReferenceEquals(prompts.Values.Device, Device))
            return prompts;
        _prompts ??= new GrowingBuffer(Device, DType.F32, "prompts of another device");
        Tensor here = _prompts.Take(prompts.Values.Elements);
        here.CopyFrom<float>(prompts.Values.ToArray<float>());
        return prompts.On(here);
    }

    /// <summary>A stack's relative_attention_bias.weight.</summary>
    internal Tensor BiasTable(string stack) => Runtime.BiasTable(stack);
}
