// One training step's work on the frozen model: forward with a tape, loss, and the gradient of the prompts. Deliberately not: which examples, what is
// done with the gradient (Optimizers), averaging over micro-batches (the caller's token weights do it).
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Blocks;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;

namespace IptNative.Model.Backward;

/// <summary>Settings of <see cref="GradientPass"/>.</summary>
public sealed record GradientOptions
{
    /// <summary>What the forward pass keeps.</summary>
    public Activations Activations { get; init; } = Activations.Full;

    /// <summary>Type of what is kept inside sublayers: f32, or bf16 with <see cref="ForwardEngine.Native"/>. The residual stream stays f32.</summary>
    public DType Tape { get; init; } = DType.F32;

    /// <summary>Folder for a file that holds the tape, with <see cref="ForwardEngine.Native"/>; null keeps it in memory. The file is gone when the pass is disposed, or the process ends.</summary>
    public string? SpillFolder { get; init; }

    /// <summary>Who computes the forward pass.</summary>
    public ForwardEngine Forward { get; init; } = ForwardEngine.Ort;

    /// <summary>Where the weights are; streaming needs <see cref="ForwardEngine.Native"/>.</summary>
    public WeightResidence Weights { get; init; } = WeightResidence.Mapped;

    /// <summary>Where both passes run; null: on the model's device. Any device but the CPU gets one copy of the weights, which ONNX Runtime reads too where it computes there.</summary>
    public ComputeDevice? Device { get; init; }

    /// <summary>Waits for the device between the two passes, so that each one's seconds are its own, and takes no lanes; otherwise nothing waits before the losses are read.</summary>
    public bool TimesPasses { get; init; }

    /// <summary>Label smoothing and z-loss.</summary>
    public TokenLoss Loss { get; init; } = TokenLoss.Plain;
}

/// <summary>Losses and prompt gradients of batches whose examples may belong to many runs.</summary>
/// <remarks>
/// L = sum over groups g of w_g times the sum of g's token losses. A run that is one group with w_g = 1 / its tokens in the whole step has PyTorch's mean
/// loss, however the step is cut into micro-batches and whatever stands beside it in the batch.
/// Memory is taken for the largest batch seen and then used again: a step allocates nothing on the managed heap. Not thread-safe.
/// On a device with memory of its own the weights, the tape and all gradients stay there; ids go there and token losses come back, once a pass.
/// </remarks>
public sealed unsafe class GradientPass : IDisposable
{
    private readonly Checkpoint _checkpoint;
    private readonly FrozenT5 _model;
    private readonly GradientOptions _options;
    private readonly ComputeDevice _device;
    private readonly BlockWeights? _ownWeights;
    private readonly T5Layers _layers;
    private readonly T5Backward _backward;
    private readonly LossHead _head;
    private readonly PackedInputs _inputs;
    private readonly ITapedForward _forward;
    private readonly RuntimePasses? _ownPasses;
    private readonly StagedBuffer _tokenWeights;
    private readonly StagedBuffer _losses;
    private readonly GrowingBuffer _ddecoder;
    private readonly GrowingBuffer _dencoder;
    private readonly GradientLanes? _lanes;

    /// <summary>Finds the weights; takes no memory yet but for resident ones.</summary>
    /// <param name="checkpoint">The model's weights; outlives this object.</param>
    /// <param name="model">The same checkpoint's forward passes; outlives this object.</param>
    /// <param name="options">Settings.</param>
    /// <exception cref="ArgumentException">Settings that exclude each other: ONNX Runtime's forward pass, streamed weights, a spilled tape, a GPU.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room for the weights.</exception>
    /// <exception cref="NotSupportedException">ONNX Runtime cannot compute on the device; the message says why.</exception>
    /// <exception cref="InvalidDataException">Weights to be streamed do not lie in their file as they are used.</exception>
    public GradientPass(Checkpoint checkpoint, FrozenT5 model, GradientOptions options)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        if (options.Weights == WeightResidence.Streamed && options.Forward != ForwardEngine.Native)
            throw new ArgumentException("streamed weights: found a forward pass by ONNX Runtime, which binds all weights at once, expected our own kernels. Use --forward native, or --weights mapped.", nameof(options));
        if (options.Tape != DType.F32 && (options.Tape != DType.BF16 || options.Forward != ForwardEngine.Native))
            throw new ArgumentException($"tape: found {options.Tape.Name()} and a forward pass by {(options.Forward == ForwardEngine.Native ? "our own kernels" : "ONNX Runtime")}, expected f32, or bf16 with our own kernels. Use --forward native, or --tape f32.", nameof(options));
        if (options.SpillFolder is not null && options.Forward != ForwardEngine.Native)
            throw new ArgumentException("spilling the tape: found a forward pass by ONNX Runtime, whose outputs stay in memory, expected our own kernels. Use --forward native.", nameof(options));
        _checkpoint = checkpoint;
        _model = model;
        _options = options;
        _device = options.Device ?? model.Device;
        RuntimePlace? place = null;
        if (_device is not CpuDevice)
        {
            RequireHostFree(_device, options);
            // Before any byte of the weights goes there.
            if (options.Forward == ForwardEngine.Ort)
            {
                RequireRuntime(checkpoint, _device);
                place = RuntimePlace.Of(_device);
            }
        }
        if (ReferenceEquals(_device, model.Device))
        {
            _layers = model.Layers;
        }
        else
        {
            _ownWeights = new BlockWeights(_device, checkpoint);
            try
            {
                _layers = new T5Layers(_ownWeights);
            }
            catch
            {
                _ownWeights.Dispose();
                throw;
            }
        }
        if (options.Weights == WeightResidence.Resident && _device is CpuDevice)
            _layers.Weights.ReadAll();
        // Generating, between two passes, streams as well then.
        _layers.Stream = options.Weights == WeightResidence.Streamed ? new WeightStream(checkpoint) : null;
        _backward = new T5Backward(_layers);
        _head = new LossHead(_layers);
        _inputs = new PackedInputs(_device, model.Config);
        if (place is not null)
            _ownPasses = new RuntimePasses(_device, model.Config, new DeviceGraphWeights(_layers.Weights, checkpoint), place, new FrozenT5Options { Threads = 1 });
        _forward = options.Forward == ForwardEngine.Native ? new NativeForward(_layers, options.Activations, options.Tape, options.SpillFolder) : new RuntimeForward(_ownPasses ?? model.Runtime, options.Activations);
        _tokenWeights = new StagedBuffer(_device, DType.F64, "token weights");
        _losses = new StagedBuffer(_device, DType.F64, "token losses");
        _ddecoder = new GrowingBuffer(_device, DType.F32, "decoder gradient");
        _dencoder = new GrowingBuffer(_device, DType.F32, "encoder gradient");
        _lanes = GradientLanes.TryCreate(_device, checkpoint, options);
    }

    /// <summary>Refuses a forward pass by ONNX Runtime that a device cannot have; nothing is copied there.</summary>
    /// <param name="checkpoint">The model's weights.</param>
    /// <param name="device">Where passes are to run.</param>
    /// <exception cref="NotSupportedException">ONNX Runtime has no provider for the device, or the weights are codes; the message says what to do.</exception>
    public static void RequireRuntime(Checkpoint checkpoint, ComputeDevice device)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        ArgumentNullException.ThrowIfNull(device);
        if (device is CpuDevice)
            return;
        _ = RuntimePlace.Of(device);
        DeviceGraphWeights.RequireNumbers(checkpoint, device.Name);
    }

    /// <summary>Seconds of the last pass up to the decoder's last block.</summary>
    public double ForwardSeconds { get; private set; }

    /// <summary>Seconds of the last pass from the loss to the prompts' gradient.</summary>
    public double BackwardSeconds { get; private set; }

    /// <summary>Encoder positions of the last batch, prompts included, padding not.</summary>
    public int SourceRows => _inputs.Sources.Rows;

    /// <summary>Decoder positions of the last batch.</summary>
    public int TargetRows => _inputs.Targets.Rows;

    /// <summary>Bytes of weights that the device has a copy of; 0 on the CPU.</summary>
    public long WeightBytes => _layers.Weights.CopiedBytes;

    /// <summary>Bytes of activations, gradients and scratch held.</summary>
    public long Bytes => _forward.Bytes + _layers.Scratch.Bytes + _ddecoder.Bytes + _dencoder.Bytes + (_lanes?.Bytes ?? 0);

    /// <summary>f32 [SourceRows, d_model]: the gradient of every input position of the last batch, example after example. Valid until the next pass.</summary>
    public Tensor InputGradient { get; private set; }

    /// <summary>Tokens of an example that count.</summary>
    /// <param name="labels">As given to <see cref="T5Batch.Add"/>.</param>
    /// <returns>0 or more.</returns>
    public static int CountedTokens(ReadOnlySpan<int> labels) => labels.Length - labels.Count(T5Batch.Ignore);

    /// <summary>Adds a batch's losses and prompt gradients.</summary>
    /// <param name="batch">Examples with labels.</param>
    /// <param name="prompts">The table that their prompt numbers mean; null where no example has one.</param>
    /// <param name="groups">[B], each example's group.</param>
    /// <param name="tokenWeights">[groups], what one token of a group counts: 1 / its tokens for a mean, 1 for a sum.</param>
    /// <param name="groupLoss">[groups], added to: the weighted losses.</param>
    /// <param name="dprompts">f32 [rows of the table, d_model], added to; empty where no gradient is wanted.</param>
    /// <exception cref="ArgumentException">The batch, a group or a tensor does not fit.</exception>
    /// <exception cref="InsufficientMemoryException">No room for the activations.</exception>
    /// <exception cref="IOException">The weight file was truncated or rewritten since it was opened.</exception>
    public void Run(T5Batch batch, PromptTable? prompts, ReadOnlySpan<int> groups, ReadOnlySpan<double> tokenWeights, Span<double> groupLoss, Tensor dprompts) =>
        Run(_forward, batch, prompts, groups, tokenWeights, groupLoss, dprompts, null);

    /// <summary>Where the first number that is not finite comes from: the passes again, sublayer by sublayer, in our own kernels.</summary>
    /// <param name="batch">The batch whose loss or gradient was not finite.</param>
    /// <param name="prompts">Its prompts.</param>
    /// <returns>HF path of the sublayer and direction; null where this time everything is finite.</returns>
    public string? FindNonFinite(T5Batch batch, PromptTable? prompts)
    {
        using var forward = new NativeForward(_layers, Activations.Sublayers);
        string? found = null;
        var groups = new int[batch.Count];
        double[] loss = [0];
        Run(forward, batch, prompts, groups, [1], loss, default, null);
        Look("the input embeddings (a prompt row or an embedding)", forward.Encoder[0, 0].Input);
        LookAt(forward.Encoder, "encoder");
        Look("encoder.final_layer_norm, forward", forward.EncoderOutput);
        LookAt(forward.Decoder, "decoder");
        if (!double.IsFinite(loss[0]))
            found ??= "lm_head and cross entropy, forward";
        if (found is null)
            Run(forward, batch, prompts, groups, [1], loss, default, (name, gradient) => Look($"{name}, backward", gradient));
        return found;

        void LookAt(StackTape tape, string stack)
        {
            for (int i = 1; i <= tape.Blocks * tape.SublayersPerBlock; i++)
            {
                int at = i - 1, per = tape.SublayersPerBlock;
                Look($"{stack}.block.{at / per}.layer.{at % per}, forward", i == tape.Blocks * per ? tape.Last : tape[i / per, i % per].Input);
            }
        }

        void Look(string where, Tensor values)
        {
            if (found is null && Reductions.FirstNonFinite(_device, values, values.Elements) >= 0)
                found = where;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _lanes?.Dispose();
        _forward.Dispose();
        _ownPasses?.Dispose();
        _tokenWeights.Dispose();
        _losses.Dispose();
        _ddecoder.Dispose();
        _dencoder.Dispose();
        _inputs.Dispose();
        _head.Dispose();
        _layers.Stream = null;
        if (_ownWeights is null)
            return;
        _layers.Dispose();
        _ownWeights.Dispose();
    }

    private void Run(ITapedForward forward, T5Batch batch, PromptTable? prompts, ReadOnlySpan<int> groups, ReadOnlySpan<double> tokenWeights, Span<double> groupLoss, Tensor dprompts, Action<string, Tensor>? visit)
    {
        ArgumentNullException.ThrowIfNull(batch);
        if (groups.Length != batch.Count || tokenWeights.Length != groupLoss.Length)
            throw new ArgumentException($"GradientPass: found {groups.Length} group numbers for {batch.Count} examples, {tokenWeights.Length} weights and {groupLoss.Length} losses; expected one number per example and one weight and loss per group.", nameof(groups));
        _checkpoint.RequireUnchanged();
        long begin = Stopwatch.GetTimestamp();
        _inputs.Set(batch, prompts);
        // In lanes a pass has no seconds of its own: all of them count as the second's.
        GradientLanes? lanes = visit is null && ReferenceEquals(forward, _forward) && _lanes is { } all && all.Suit(_inputs) ? all : null;
        if (lanes is null)
            forward.Run(batch, prompts, _inputs);
        if (_options.TimesPasses)
            _device.Synchronize();
        ForwardSeconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;

        begin = Stopwatch.GetTimestamp();
        int d = _model.Config.DModel, rows = _inputs.Targets.Rows;
        bool wanted = !dprompts.IsEmpty || visit is not null;
        Tensor ddecoder = wanted && lanes is null ? _ddecoder.Take((long)rows * d) : default;
        var weight = new Span<double>((double*)_tokenWeights.Take(rows), rows);
        _losses.Take(rows);
        for (int b = 0; b < batch.Count; b++)
        {
            if ((uint)groups[b] >= (uint)tokenWeights.Length)
                throw new ArgumentException($"GradientPass: example {b} is in group {groups[b]}, expected 0 to {tokenWeights.Length - 1}.", nameof(groups));
            weight.Slice(_inputs.Targets.Offset(b), _inputs.Targets.Length(b)).Fill(tokenWeights[groups[b]]);
        }
        Tensor dencoder = wanted ? _dencoder.Take((long)_inputs.Sources.Rows * d) : default;
        if (lanes is null)
            _head.Run(forward.Decoder.Last, _inputs.Labels, _tokenWeights.Send(), _losses.Tensor, ddecoder, rows, _options.Loss);
        else
            lanes.Run(_inputs, prompts, _tokenWeights.Send(), _losses.Tensor, dencoder);
        if (wanted)
        {
            if (lanes is null)
            {
                visit?.Invoke("lm_head", ddecoder);
                _backward.Run(forward.Decoder, _inputs.Targets, forward.Encoder, _inputs.Sources, forward.EncoderOutput, ddecoder, dencoder, visit);
            }
            InputGradient = dencoder;
            if (!dprompts.IsEmpty && prompts is { Rows: > 0 })
                PromptGather.BackwardPackedAccumulate(_device, _inputs.Places, dencoder, dprompts, prompts.Rows, _inputs.PlaceCount, _inputs.Sources.Rows, d);
        }
        // The pass' only wait: everything was handed over before.
        var loss = new ReadOnlySpan<double>((double*)_losses.Fetch(), rows);
        for (int b = 0; b < batch.Count; b++)
        {
            double sum = 0;
            for (int i = _inputs.Targets.Offset(b); i < _inputs.Targets.Offset(b + 1); i++)
                sum += loss[i];
            groupLoss[groups[b]] += tokenWeights[groups[b]] * sum;
        }
        BackwardSeconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
    }

    // What the host's own memory and files are needed for.
    private static void RequireHostFree(ComputeDevice device, GradientOptions options)
    {
        if (options.Weights == WeightResidence.Streamed)
            throw new ArgumentException($"training on {device.Name}: found streamed weights, expected weights that the device holds. Use --weights auto with a smaller weight dtype (iptnative export --dtype int8), or --device cpu.", nameof(options));
        if (options.SpillFolder is not null)
            throw new ArgumentException($"training on {device.Name}: found a tape that is spilled to {options.SpillFolder}, expected one that the device holds. Leave 'spill' out and keep less: --activations blocks, a bf16 tape, smaller micro-batches; or use --device cpu.", nameof(options));
    }
}
