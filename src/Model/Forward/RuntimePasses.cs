// ONNX Runtime's encoder and decoder passes over padded batches, in whatever memory a device has: inputs, tape and outputs are ours and bound without a copy.
// Deliberately not: who asks for them (FrozenT5, Backward/RuntimeForward), cached decoding (RuntimeStepDecoder).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Graph;

namespace IptNative.Model.Forward;

/// <summary>Sessions, their bindings and the memory of their inputs and outputs.</summary>
/// <remarks>Each graph's session is made when it is first needed. Results are views that the next pass of the same kind fills anew; shapes seen before allocate nothing.</remarks>
internal sealed unsafe class RuntimePasses : IDisposable
{
    // Asked once: the answer is an object, and a repeated pass allocates nothing.
    private static readonly long AvailableMemory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;

    private const int MostBindings = 512;

    private readonly ComputeDevice _device;
    private readonly T5Config _config;
    private readonly IGraphWeights _weights;
    private readonly RuntimePlace _place;
    private readonly FrozenT5Options _options;
    private readonly Dictionary<(string Graph, TapeDetail Tape), GraphSession> _sessions = [];
    private readonly Dictionary<(string Graph, TapeDetail Tape, int Batch, int Length, int Source), GraphBinding> _bindings = [];
    private readonly GrowingBuffer _encoderHidden;
    private readonly GrowingBuffer _decoderHidden;
    private readonly GrowingBuffer _logits;
    private readonly GrowingBuffer _encoderBias;
    private readonly GrowingBuffer _decoderBias;
    private readonly StagedBuffer _future;
    private readonly List<GrowingBuffer> _encoderTape = [];
    private readonly List<GrowingBuffer> _decoderTape = [];
    private readonly List<GrowingBuffer> _encoderInside = [];
    private readonly List<GrowingBuffer> _decoderInside = [];
    private int _encoderBiasLength;
    private int _decoderBiasLength;

    /// <param name="device">Where inputs and results lie.</param>
    /// <param name="config">The model.</param>
    /// <param name="weights">In the device's memory.</param>
    /// <param name="place">ONNX Runtime in that memory.</param>
    /// <param name="options">Threads.</param>
    public RuntimePasses(ComputeDevice device, T5Config config, IGraphWeights weights, RuntimePlace place, FrozenT5Options options)
    {
        _device = device;
        _config = config;
        _weights = weights;
        _place = place;
        _options = options;
        Inputs = new InputAssembler(device, config, weights.Shared);
        _encoderHidden = new GrowingBuffer(device, DType.F32, "encoder output");
        _decoderHidden = new GrowingBuffer(device, DType.F32, "decoder output");
        _logits = new GrowingBuffer(device, DType.F32, "logits");
        _encoderBias = new GrowingBuffer(device, DType.F32, "encoder position bias");
        _decoderBias = new GrowingBuffer(device, DType.F32, "decoder position bias");
        _future = new StagedBuffer(device, DType.F32, "causal mask");
    }

    public ComputeDevice Device => _device;

    public T5Config Config => _config;

    /// <summary>Lays batches out.</summary>
    public InputAssembler Inputs { get; }

    /// <summary>The last encoded batch, whoever computed it.</summary>
    public EncodedBatch Encoded { get; } = new();

    /// <summary>The last decoded batch.</summary>
    public DecodedBatch Decoded { get; } = new();

    /// <summary>Bytes of hidden states and kept activations held between two passes.</summary>
    public long TapeBytes
    {
        get
        {
            long bytes = _encoderHidden.Bytes + _decoderHidden.Bytes;
            foreach (List<GrowingBuffer> buffers in (ReadOnlySpan<List<GrowingBuffer>>)[_encoderTape, _decoderTape, _encoderInside, _decoderInside])
            {
                foreach (GrowingBuffer buffer in buffers)
                    bytes += buffer.Bytes;
            }
            return bytes;
        }
    }

    /// <summary>Lays a batch's sources out and says where its encoding goes.</summary>
    /// <returns><see cref="Encoded"/>, its hidden states not computed yet.</returns>
    public EncodedBatch Begin(T5Batch batch, PromptTable? prompts)
    {
        (Tensor embeds, Tensor mask, Tensor places, int S) = Inputs.Source(batch, prompts);
        Encoded.Batch = batch.Count;
        Encoded.SourceLength = S;
        Encoded.InputsEmbeds = embeds;
        Encoded.Mask = mask;
        Encoded.PromptPlaces = places;
        Encoded.Hidden = _encoderHidden.Take((long)batch.Count * S * _config.DModel);
        Encoded.TapeList.Clear();
        Encoded.Inside.Clear();
        return Encoded;
    }

    /// <summary>Runs the encoder.</summary>
    /// <returns><see cref="Encoded"/>.</returns>
    /// <exception cref="InsufficientMemoryException">The texts are too long for this machine.</exception>
    public EncodedBatch Encode(T5Batch batch, PromptTable? prompts, TapeDetail tape)
    {
        // A GPU's arena ends at its limit and says so; the host's would take the machine with it. Our own attention never holds its scores whole.
        if (_device is CpuDevice)
            BatchChecks.RequireAttentionMemory(batch.Count, BatchChecks.SourceLength(batch, prompts, _config), _config, AvailableMemory);
        EncodedBatch encoded = Begin(batch, prompts);
        int B = encoded.Batch, S = encoded.SourceLength, D = _config.DModel;
        GraphBinding run = Binding("encoder", tape, B, S, S);
        run.Input(T5RuntimeGraph.InputsEmbeds, encoded.InputsEmbeds, B, S, D);
        run.Input(T5RuntimeGraph.KeyMask, encoded.Mask, B, S);
        run.Input(T5RuntimeGraph.PositionBias, Bias(_encoderBias, ref _encoderBiasLength, "encoder", S), 1, _config.NumHeads, S, S);
        run.Output(T5RuntimeGraph.EncoderHidden, encoded.Hidden, B, S, D);
        BindTape(run, Session("encoder", tape).Graph, encoded.TapeList, _encoderTape, encoded.InputsEmbeds, B, S);
        BindInside(run, Session("encoder", tape).Graph, encoded.Inside, _encoderInside, B, S, S);
        using (OpTrace.Enter("ONNX Runtime encoder", B, S))
            run.Run();
        return encoded;
    }

    /// <summary>Runs the decoder over whole targets.</summary>
    /// <returns><see cref="Decoded"/>.</returns>
    public DecodedBatch Decode(EncodedBatch encoded, T5Batch batch, TapeDetail tape, bool withLogits)
    {
        (Tensor embeds, Tensor labels, int T) = Inputs.Target(batch);
        int B = batch.Count, D = _config.DModel;
        string graph = withLogits ? "decoder" : "headless";
        GraphBinding run = Binding(graph, tape, B, T, encoded.SourceLength);
        run.Input(T5RuntimeGraph.InputsEmbeds, embeds, B, T, D);
        run.Input(T5RuntimeGraph.EncoderHidden, encoded.Hidden, B, encoded.SourceLength, D);
        run.Input(T5RuntimeGraph.KeyMask, encoded.Mask, B, encoded.SourceLength);
        run.Input(T5RuntimeGraph.PositionBias, Bias(_decoderBias, ref _decoderBiasLength, "decoder", T), 1, _config.NumHeads, T, T);
        Decoded.Logits = default;
        if (withLogits)
        {
            Decoded.Logits = _logits.Take((long)B * T * _config.VocabSize);
            run.Output(T5RuntimeGraph.Logits, Decoded.Logits, B, T, _config.VocabSize);
        }
        Decoded.Hidden = default;
        if (tape != TapeDetail.None)
        {
            Decoded.Hidden = _decoderHidden.Take((long)B * T * D);
            run.Output(T5RuntimeGraph.DecoderHidden, Decoded.Hidden, B, T, D);
        }
        BindTape(run, Session(graph, tape).Graph, Decoded.TapeList, _decoderTape, embeds, B, T);
        BindInside(run, Session(graph, tape).Graph, Decoded.Inside, _decoderInside, B, T, encoded.SourceLength);
        using (OpTrace.Enter("ONNX Runtime decoder", B, T, encoded.SourceLength))
            run.Run();
        Decoded.Batch = B;
        Decoded.TargetLength = T;
        Decoded.Labels = labels;
        return Decoded;
    }

    /// <summary>The session of one of the graphs, made when first asked for.</summary>
    public GraphSession Session(string graph, TapeDetail tape = TapeDetail.None)
    {
        if (!_sessions.TryGetValue((graph, tape), out GraphSession? session))
        {
            RuntimeGraph built = graph switch
            {
                "encoder" => T5RuntimeGraph.Encoder(_config, tape, _weights.TypeOf),
                "decoder" => T5RuntimeGraph.Decoder(_config, tape, types: _weights.TypeOf),
                "headless" => T5RuntimeGraph.Decoder(_config, tape, logits: false, _weights.TypeOf),
                "cross" => T5RuntimeGraph.Cross(_config),
                _ => T5RuntimeGraph.Step(_config),
            };
            session = new GraphSession(built, _config, _weights, _options, _place);
            _sessions.Add((graph, tape), session);
        }
        return session;
    }

    /// <summary>A stack's relative_attention_bias.weight.</summary>
    public Tensor BiasTable(string stack) => _weights.Float($"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");

    public void Dispose()
    {
        foreach (GraphBinding binding in _bindings.Values)
            binding.Dispose();
        foreach (GraphSession session in _sessions.Values)
            session.Dispose();
        foreach (GrowingBuffer buffer in (IEnumerable<GrowingBuffer>)[_encoderHidden, _decoderHidden, _logits, _encoderBias, _decoderBias, .. _encoderTape, .. _decoderTape, .. _encoderInside, .. _decoderInside])
            buffer.Dispose();
        _future.Dispose();
        Inputs.Dispose();
    }

    // One for every shape, so that a shape seen before binds nothing and allocates nothing. A few kilobytes each; many shapes are few batches.
    private GraphBinding Binding(string graph, TapeDetail tape, int batch, int length, int source)
    {
        if (!_bindings.TryGetValue((graph, tape, batch, length, source), out GraphBinding? binding))
        {
            if (_bindings.Count == MostBindings)
            {
                foreach (GraphBinding old in _bindings.Values)
                    old.Dispose();
                _bindings.Clear();
            }
            binding = Session(graph, tape).Bind();
            _bindings.Add((graph, tape, batch, length, source), binding);
        }
        return binding;
    }

    private void BindTape(GraphBinding run, RuntimeGraph graph, List<Tensor> list, List<GrowingBuffer> buffers, Tensor embeds, int batch, int length)
    {
        list.Clear();
        if (graph.Tape.Count == 0)
            return;
        list.Add(embeds);
        for (int i = 0; i < graph.Tape.Count; i++)
        {
            Tensor tensor = Take(buffers, i, (long)batch * length * _config.DModel);
            run.Output(graph.Tape[i], tensor, batch, length, _config.DModel);
            list.Add(tensor);
        }
    }

    private void BindInside(GraphBinding run, RuntimeGraph graph, List<Tensor> list, List<GrowingBuffer> buffers, int batch, int length, int source)
    {
        list.Clear();
        for (int i = 0; i < graph.Inside.Count; i++)
        {
            InsideOutput output = graph.Inside[i];
            int rows = output.OfSource ? source : length;
            Tensor tensor = Take(buffers, i, (long)batch * rows * output.Width);
            run.Output(output.Name, tensor, batch, rows, output.Width);
            list.Add(tensor);
        }
    }

    private Tensor Take(List<GrowingBuffer> buffers, int index, long elements)
    {
        if (index == buffers.Count)
            buffers.Add(new GrowingBuffer(_device, DType.F32, "activation tape"));
        return buffers[index].Take(elements);
    }

    // [H, L, L], made anew only when the length changes: filling it costs a thousandth of the pass that reads it in every block.
    private Tensor Bias(GrowingBuffer buffer, ref int madeFor, string stack, int length)
    {
        int H = _config.NumHeads;
        Tensor bias = buffer.Take((long)H * length * length);
        if (madeFor == length)
            return bias;
        bool bidirectional = stack == "encoder";
        RelativePositionBias.Forward(_device, BiasTable(stack), bias, _config.RelativeAttentionNumBuckets, H, length, length, bidirectional, _config.RelativeAttentionMaxDistance);
        if (!bidirectional)
        {
            // The causal mask is part of it: HF adds float.MinValue to the bias, which in float32 is float.MinValue.
            long square = (long)length * length;
            var future = new Span<float>((void*)_future.Take(square), checked((int)square));
            future.Clear();
            for (int row = 0; row < length; row++)
                future[(row * length + row + 1)..((row + 1) * length)].Fill(float.MinValue);
            Tensor mask = _future.Send();
            for (int h = 0; h < H; h++)
                ResidualAdd.BackwardAccumulate(_device, mask, bias.Slice(h * square, square), square);
        }
        madeFor = length;
        return bias;
    }
}
