// The frozen model's forward passes: encode, score, decode step by step. Deliberately not: gradients (Backward/), search (Decoding/), text (Tokenizer/).
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
/// </remarks>
public sealed class FrozenT5 : IDisposable
{
    private readonly Checkpoint _checkpoint;
    private readonly FrozenWeights _weights;
    private readonly FrozenT5Options _options;
    private readonly bool _ownsDevice;
    private RuntimePasses? _runtime;
    private T5Layers? _layers;
    private BlockWeights? _blockWeights;
    private NativeEncoder? _nativeEncoder;
    private NativeSteps? _nativeSteps;

    private FrozenT5(Checkpoint checkpoint, FrozenT5Options options)
    {
        _checkpoint = checkpoint;
        Config = checkpoint.Config;
        Generation = options.Generation ?? ForwardEngines.Generating;
        _ownsDevice = options.Device is null;
        // Beside ONNX Runtime, which has threads of its own, ours only gather embeddings.
        Device = options.Device ?? new CpuDevice(Generation == ForwardEngine.Native ? options.Threads : 1);
        _options = options;
        _weights = new FrozenWeights(Device, checkpoint, options.ExpandQuantised);
        // Rows are widened as they are read.
        Shared = _weights.Shared;
    }

    /// <summary>The checkpoint's configuration.</summary>
    public T5Config Config { get; }

    /// <summary>Where results lie.</summary>
    public CpuDevice Device { get; }

    /// <summary>
    /// Who encodes and generates (<see cref="Encode"/> without a tape, <see cref="StartDecoding"/>): our own kernels, which read weights as they are
    /// stored and can stream them, or ONNX Runtime. May be set before a pass; a decoder goes on as it was started.
    /// </summary>
    public ForwardEngine Generation { get; set; }

    /// <summary>Bytes of f32 copies made so far of weights that are stored narrower (ONNX Runtime's CPU kernels take f32 only); 0 for an f32 checkpoint.</summary>
    public long ExpandedBytes => _weights.ExpandedBytes;

    /// <summary>Bytes at most of packed copies that steps in our own kernels make of a small model's weights; 0 where it is too large for that.</summary>
    /// <param name="config">The model.</param>
    public static long StepCopyBytes(T5Config config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return NativeSteps.IsPacked(config) ? NativeSteps.PackedBytes(config) : 0;
    }

    /// <summary>ONNX Runtime's passes on the CPU, and the layout of padded batches for both engines.</summary>
    internal RuntimePasses Runtime => _runtime ??= new RuntimePasses(Device, Config, _weights, RuntimePlace.Host, _options);

    internal FrozenWeights Weights => _weights;

    /// <summary>The sublayers made of our own kernels: one set, and one scratch memory, for generating and for training.</summary>
    internal T5Layers Layers => _layers ??= new T5Layers(_blockWeights = new BlockWeights(Device, _checkpoint));

    internal Tensor Shared { get; }

    /// <summary>Makes a checkpoint runnable. Reads no weight yet.</summary>
    /// <param name="checkpoint">Outlives the model; not disposed by it.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <returns>The model; dispose it.</returns>
    /// <exception cref="ArgumentException">The configuration's position buckets are impossible, or the number of threads is negative.</exception>
    public static FrozenT5 Load(Checkpoint checkpoint, FrozenT5Options? options = null)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        options ??= new FrozenT5Options();
        ArgumentOutOfRangeException.ThrowIfNegative(options.Threads, nameof(options));
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
        if (Generation != ForwardEngine.Native)
            return new RuntimeStepDecoder(this, encoded, beamsPerExample);
        var decoder = new SlotDecoder(_nativeSteps ??= new NativeSteps(Layers, _options.Compute));
        try
        {
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

    /// <inheritdoc/>
    public void Dispose()
    {
        _nativeEncoder?.Dispose();
        _nativeSteps?.Dispose();
        _layers?.Dispose();
        _blockWeights?.Dispose();
        _runtime?.Dispose();
        _weights.Dispose();
        if (_ownsDevice)
            Device.Dispose();
    }

    /// <summary>The session of one of the graphs, made when first asked for.</summary>
    internal GraphSession Session(string graph) => Runtime.Session(graph);

    /// <summary>Refuses to touch the pages of a file that was truncated or rewritten.</summary>
    internal void RequireUnchangedWeights() => _checkpoint.RequireUnchanged();

    private NativeEncoder Encoder => _nativeEncoder ??= new NativeEncoder(Layers, _options.Compute);

    /// <summary>A stack's relative_attention_bias.weight.</summary>
    internal Tensor BiasTable(string stack) => Runtime.BiasTable(stack);
}
