// The network that makes a prompt out of virtual tokens: LSTM and MLP, or MLP alone, forward and backward. Deliberately not: where the rows stand
// (PromptTemplate), the optimizer.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Optimizers;
using IptNative.Tasks.Sampling;
using IptNative.Tuning.Subspaces;

namespace IptNative.Tuning.PTuning;

/// <summary>What encodes virtual tokens.</summary>
public enum PromptEncoderKind
{
    /// <summary>A bidirectional LSTM and an MLP of two layers.</summary>
    Lstm,

    /// <summary>An MLP of three layers.</summary>
    Mlp,
}

/// <summary>Sizes of a <see cref="PromptEncoder"/>.</summary>
/// <param name="Kind">LSTM and MLP, or MLP.</param>
/// <param name="Rows">T, virtual tokens.</param>
/// <param name="DModel">D, width of the embeddings and of the prompt.</param>
/// <param name="Hidden">h.</param>
/// <param name="Layers">LSTM layers.</param>
public readonly record struct PromptEncoderShape(PromptEncoderKind Kind, int Rows, int DModel, int Hidden, int Layers);

/// <summary>P-tuning's prompt encoder with its embeddings, one prompt's.</summary>
/// <remarks>
/// LSTM  P = W2 relu(W1 [y->; y&lt;-] + b1) + b2 with y from an LSTM of so many layers over the embeddings; W1 [2h, 2h], W2 [D, 2h].
/// MLP   P = W3 relu(W2 relu(W1 E + b1) + b2) + b3; W1 [h, D], W2 [h, h], W3 [D, h].
/// Names and sizes as in huggingface/peft, tuners/p_tuning/model.py (embedding, lstm_head, mlp_head), without dropout. Everything is trained.
/// Derivation: docs/derivations/lstm.md.
/// </remarks>
public sealed class PromptEncoder : IDisposable
{
    private sealed record Layer(Tensor Weight, Tensor Bias, Tensor DWeight, Tensor DBias, int Inputs, int Outputs);

    private sealed record Direction(Tensor Wih, Tensor Whh, Tensor Bih, Tensor Bhh, Tensor DWih, Tensor DWhh, Tensor DBih, Tensor DBhh, int Inputs, bool Reverse, Tensor Gates, Tensor Cells);

    private readonly ComputeDevice _device;
    private readonly PromptEncoderShape _shape;
    private readonly List<DeviceBuffer> _memory = [];
    private readonly List<Parameter> _parameters = [];
    private readonly Tensor _embedding;
    private readonly Tensor _dEmbedding;
    private readonly Direction[][] _lstm = [];
    private readonly Layer[] _mlp;
    // Inputs of each LSTM layer and the last one's output; inputs of each MLP layer before and after the activation.
    private readonly Tensor[] _states;
    private readonly Tensor[] _dStates;
    private readonly Tensor[] _sums;
    private readonly Tensor[] _acts;
    private readonly Tensor[] _dActs;
    private readonly Tensor _ones;
    private readonly Tensor _dCell;

    /// <summary>Takes memory and draws the weights as PyTorch does; the embeddings are given.</summary>
    /// <param name="device">Where it computes.</param>
    /// <param name="shape">Its sizes.</param>
    /// <param name="embedding">[Rows, DModel], what the virtual tokens start from.</param>
    /// <param name="seed">Of the weights.</param>
    /// <exception cref="ArgumentException">A size is below 1, or the embeddings are not as many.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    public PromptEncoder(ComputeDevice device, PromptEncoderShape shape, ReadOnlySpan<float> embedding, int seed)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (shape.Rows < 1 || shape.DModel < 1 || shape.Hidden < 1 || shape.Layers < 1)
            throw new ArgumentException($"Prompt encoder: found {shape.Rows} rows, d_model {shape.DModel}, hidden {shape.Hidden} and {shape.Layers} layers, expected 1 or more of each.", nameof(shape));
        if (embedding.Length != (long)shape.Rows * shape.DModel)
            throw new ArgumentException($"Prompt encoder: found {embedding.Length} embedding numbers, expected {shape.Rows} rows of {shape.DModel}.", nameof(embedding));
        (_device, _shape) = (device, shape);
        int T = shape.Rows, D = shape.DModel, h = shape.Hidden;
        (_embedding, _dEmbedding) = Add("embedding.weight", T, D);
        _embedding.CopyFrom(embedding);
        if (shape.Kind == PromptEncoderKind.Lstm)
        {
            _lstm = [.. Enumerable.Range(0, shape.Layers).Select(l => (Direction[])[Make(l, false), Make(l, true)])];
            _mlp = [Dense(0, 2 * h, 2 * h), Dense(2, 2 * h, D)];
        }
        else
        {
            _mlp = [Dense(0, D, h), Dense(2, h, h), Dense(4, h, D)];
        }
        var random = new NumpyLegacyRandom((uint)seed);
        // torch.nn.LSTM draws from +-1/sqrt(h), torch.nn.Linear from +-1/sqrt(inputs).
        foreach (Direction direction in _lstm.SelectMany(l => l))
            Draw(random, h, direction.Wih, direction.Whh, direction.Bih, direction.Bhh);
        foreach (Layer layer in _mlp)
            Draw(random, layer.Inputs, layer.Weight, layer.Bias);
        _states = [.. _lstm.Select(_ => Memory((long)T * 2 * h))];
        _dStates = [.. _lstm.Select(_ => Memory((long)T * 2 * h))];
        _sums = [.. _mlp[..^1].Select(l => Memory((long)T * l.Outputs))];
        _acts = [.. _mlp[..^1].Select(l => Memory((long)T * l.Outputs))];
        _dActs = [.. _mlp[..^1].Select(l => Memory((long)T * l.Outputs))];
        _ones = Memory(T);
        Elementwise.Fill(device, _ones, T, 1);
        _dCell = Memory(h);

        Direction Make(int l, bool reverse)
        {
            int inputs = l == 0 ? D : 2 * h;
            string suffix = $"_l{l}{(reverse ? "_reverse" : "")}";
            (Tensor wih, Tensor dwih) = Add($"lstm_head.weight_ih{suffix}", 4 * h, inputs);
            (Tensor whh, Tensor dwhh) = Add($"lstm_head.weight_hh{suffix}", 4 * h, h);
            (Tensor bih, Tensor dbih) = Add($"lstm_head.bias_ih{suffix}", 4 * h);
            (Tensor bhh, Tensor dbhh) = Add($"lstm_head.bias_hh{suffix}", 4 * h);
            return new Direction(wih, whh, bih, bhh, dwih, dwhh, dbih, dbhh, inputs, reverse, Memory((long)T * 4 * h), Memory((long)T * h));
        }

        Layer Dense(int number, int inputs, int outputs)
        {
            (Tensor weight, Tensor dweight) = Add($"mlp_head.{number}.weight", outputs, inputs);
            (Tensor bias, Tensor dbias) = Add($"mlp_head.{number}.bias", outputs);
            return new Layer(weight, bias, dweight, dbias, inputs, outputs);
        }
    }

    /// <summary>Everything that is trained, by PEFT's names.</summary>
    public IReadOnlyList<Parameter> Parameters => _parameters;

    /// <summary>Makes the prompt.</summary>
    /// <param name="prompt">f32 [Rows, DModel], overwritten.</param>
    public void Forward(Tensor prompt)
    {
        Tensor x = _embedding;
        for (int l = 0; l < _lstm.Length; l++)
        {
            foreach (Direction direction in _lstm[l])
                Read(direction, x, _states[l]);
            x = _states[l];
        }
        for (int l = 0; l < _mlp.Length; l++)
        {
            Layer layer = _mlp[l];
            bool last = l == _mlp.Length - 1;
            new DenseLayer(layer.Weight, layer.Bias, layer.Inputs, layer.Outputs).Forward(_device, x, last ? prompt : _sums[l], _ones, _shape.Rows);
            if (last)
                break;
            Relu.Forward(_device, _sums[l], _acts[l], _acts[l].Elements);
            x = _acts[l];
        }
    }

    /// <summary>Makes every parameter's gradient; after <see cref="Forward"/> of the same parameters.</summary>
    /// <param name="dPrompt">f32 [Rows, DModel].</param>
    public void Backward(Tensor dPrompt)
    {
        int T = _shape.Rows;
        Tensor dy = dPrompt;
        Tensor input = _lstm.Length == 0 ? _embedding : _states[^1], dInput = _lstm.Length == 0 ? _dEmbedding : _dStates[^1];
        for (int l = _mlp.Length - 1; l >= 0; l--)
        {
            Layer layer = _mlp[l];
            Tensor x = l == 0 ? input : _acts[l - 1], dx = l == 0 ? dInput : _dActs[l - 1];
            Weights(dy, layer.Outputs, x, layer.Inputs, layer.Inputs, T, layer.DWeight);
            Sums(dy, layer.Outputs, layer.DBias);
            new DenseLayer(layer.Weight, layer.Bias, layer.Inputs, layer.Outputs).Backward(_device, dy, dx, T);
            if (l > 0)
                Relu.Backward(_device, _sums[l - 1], dx, dx, dx.Elements);
            dy = dx;
        }
        for (int l = _lstm.Length - 1; l >= 0; l--)
        {
            Tensor x = l == 0 ? _embedding : _states[l - 1], dx = l == 0 ? _dEmbedding : _dStates[l - 1];
            foreach (Direction direction in _lstm[l])
                TakeBack(direction, x, _states[l], _dStates[l], dx);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _memory)
            buffer.Dispose();
    }

    // a_t = Wih x_t + bih + Whh y_(t-1) + bhh; the first part for all steps at once.
    private void Read(Direction direction, Tensor x, Tensor y)
    {
        int T = _shape.Rows, h = _shape.Hidden;
        Gemm.Run(_device, new GemmArgs { Compute = ComputeType.F32, A = _ones, B = direction.Bhh, C = direction.Gates, M = T, N = 4 * h, K = 1 });
        Gemm.Run(_device, new GemmArgs { Compute = ComputeType.F32, A = _ones, B = direction.Bih, C = direction.Gates, M = T, N = 4 * h, K = 1, Accumulate = true });
        Gemm.Run(_device, new GemmArgs { Compute = ComputeType.F32, A = x, B = direction.Wih, TransB = true, C = direction.Gates, M = T, N = 4 * h, K = direction.Inputs, Accumulate = true });
        for (int step = 0; step < T; step++)
        {
            (int t, int before) = At(direction, step);
            Tensor gates = Row(direction.Gates, t, 4 * h);
            if (step > 0)
                Gemm.Run(_device, new GemmArgs { Compute = ComputeType.F32, A = State(direction, y, before), B = direction.Whh, TransB = true, C = gates, M = 1, N = 4 * h, K = h, Accumulate = true });
            LstmCell.Forward(_device, gates, step == 0 ? default : Row(direction.Cells, before, h), Row(direction.Cells, t, h), State(direction, y, t), 1, h);
        }
    }

    // Gates become their gradients. dy receives what each step says of the one before it.
    private void TakeBack(Direction direction, Tensor x, Tensor y, Tensor dy, Tensor dx)
    {
        int T = _shape.Rows, h = _shape.Hidden;
        Elementwise.Fill(_device, _dCell, h, 0);
        for (int step = T - 1; step >= 0; step--)
        {
            (int t, int before) = At(direction, step);
            Tensor gates = Row(direction.Gates, t, 4 * h);
            LstmCell.Backward(_device, gates, step == 0 ? default : Row(direction.Cells, before, h), Row(direction.Cells, t, h), State(direction, dy, t), _dCell, gates, 1, h);
            if (step > 0)
                Gemm.Run(_device, new GemmArgs { Compute = ComputeType.F32, A = gates, B = direction.Whh, C = State(direction, dy, before), M = 1, N = h, K = 4 * h, Accumulate = true });
        }
        Weights(direction.Gates, 4 * h, x, direction.Inputs, direction.Inputs, T, direction.DWih);
        if (T > 1)
        {
            // The steps that have one before them, beside the outputs of those: rows 1 to T - 1 and 0 to T - 2, in reverse the other way round.
            int later = direction.Reverse ? 0 : 1, earlier = 1 - later;
            Tensor outputs = y.Slice((long)earlier * 2 * h + (direction.Reverse ? h : 0), (long)(T - 2) * 2 * h + h);
            Weights(direction.Gates.Slice((long)later * 4 * h, (long)(T - 1) * 4 * h), 4 * h, outputs, h, 2 * h, T - 1, direction.DWhh);
        }
        else
        {
            Elementwise.Fill(_device, direction.DWhh, direction.DWhh.Elements, 0);
        }
        Sums(direction.Gates, 4 * h, direction.DBih);
        Sums(direction.Gates, 4 * h, direction.DBhh);
        Gemm.Run(_device, new GemmArgs { Compute = ComputeType.F32, A = direction.Gates, B = direction.Wih, C = dx, M = T, N = direction.Inputs, K = 4 * h, Accumulate = direction.Reverse });
    }

    // The step's position, and that of the step before it.
    private (int T, int Before) At(Direction direction, int step) => direction.Reverse ? (_shape.Rows - 1 - step, _shape.Rows - step) : (step, step - 1);

    private static Tensor Row(Tensor rows, int t, int width) => rows.Slice((long)t * width, width);

    private Tensor State(Direction direction, Tensor states, int t) => states.Slice((long)t * 2 * _shape.Hidden + (direction.Reverse ? _shape.Hidden : 0), _shape.Hidden);

    // dW = dy^T x.
    private void Weights(Tensor dy, int outputs, Tensor x, int inputs, int step, int rows, Tensor dw) =>
        Gemm.Run(_device, new GemmArgs { Compute = ComputeType.F32, A = dy, TransA = true, B = x, LdB = step, C = dw, M = outputs, N = inputs, K = rows });

    private void Sums(Tensor dy, int outputs, Tensor db) =>
        Gemm.Run(_device, new GemmArgs { Compute = ComputeType.F32, A = _ones, B = dy, C = db, M = 1, N = outputs, K = _shape.Rows });

    private (Tensor Value, Tensor Gradient) Add(string name, params int[] shape)
    {
        var sizes = new TensorShape([.. shape.Select(s => (long)s)]);
        Tensor value = Memory(sizes.Elements), gradient = Memory(sizes.Elements);
        Elementwise.Fill(_device, gradient, gradient.Elements, 0);
        _parameters.Add(new Parameter(name, sizes, value, gradient));
        return (value, gradient);
    }

    private Tensor Memory(long elements)
    {
        DeviceBuffer buffer = _device.Allocate(DType.F32, elements, "prompt encoder");
        _memory.Add(buffer);
        return buffer.Tensor;
    }

    private static void Draw(NumpyLegacyRandom random, int inputs, params ReadOnlySpan<Tensor> tensors)
    {
        double bound = 1 / Math.Sqrt(inputs);
        foreach (Tensor tensor in tensors)
        {
            float[] values = new float[tensor.Elements];
            for (int i = 0; i < values.Length; i++)
                values[i] = (float)((2 * random.NextDouble() - 1) * bound);
            tensor.CopyFrom<float>(values);
        }
    }
}
