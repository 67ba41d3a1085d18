// AdamW for linear layers behind a small batch, whose gradients come as factors and are never stored. Deliberately not a general optimizer: a tensor with an
// ordinary gradient goes to AdamW.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Optimizers;

/// <summary>A trained matrix without memory for its gradient.</summary>
/// <param name="Name">Unique among the optimizer's; names its state in checkpoints and messages.</param>
/// <param name="Rows">Outputs of the layer; 1 for a bias.</param>
/// <param name="Columns">Inputs of the layer; its outputs for a bias.</param>
/// <param name="Value">f32 [Rows, Columns], updated in place; the caller's.</param>
public readonly record struct FactoredParameter(string Name, int Rows, int Columns, Tensor Value)
{
    /// <summary>[Rows, Columns], or [Columns] for a vector.</summary>
    public TensorShape Shape => Rows == 1 ? new TensorShape(Columns) : new TensorShape(Rows, Columns);
}

/// <summary>A gradient sum_c Left[c]^T Right[c].</summary>
/// <param name="Left">f32 [count, Rows]: the gradient at the layer's output; ones for a bias.</param>
/// <param name="Right">f32 [count, Columns]: the layer's input; the gradient at its output for a bias.</param>
public readonly record struct GradientFactors(Tensor Left, Tensor Right);

/// <summary>AdamW with clipping by the global norm, each parameter in one pass over its value and moments.</summary>
/// <remarks>
/// The same step as <see cref="GradientClipping.Clip"/> and <see cref="AdamW"/> on the stored gradients, up to rounding. Names of the state are those of
/// <see cref="AdamW"/>. Derivation of the norm: docs/derivations/outer_product_adamw.md.
/// </remarks>
public sealed class FactoredAdamW : IDisposable
{
    private readonly ComputeDevice _device;
    private readonly AdamWOptions _options;
    private readonly FactoredParameter[] _parameters;
    private readonly (Tensor First, Tensor Second)[] _moments;
    private readonly List<StateTensor> _state = [];
    private readonly List<DeviceBuffer> _buffers = [];
    private readonly List<(Tensor Factor, double[] Gram)> _grams = [];

    /// <summary>Takes zeroed state.</summary>
    /// <param name="device">Where the parameters lie.</param>
    /// <param name="parameters">What is trained; copied.</param>
    /// <param name="options">Settings.</param>
    /// <exception cref="ArgumentException">A parameter or setting does not fit.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    public FactoredAdamW(ComputeDevice device, ReadOnlySpan<FactoredParameter> parameters, AdamWOptions options)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        (_device, _options, _parameters) = (device, options, parameters.ToArray());
        if (_parameters.Length == 0)
            throw new ArgumentException("FactoredAdamW: found no parameter, expected at least one.", nameof(parameters));
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (FactoredParameter p in _parameters)
        {
            if (!names.Add(p.Name))
                throw new ArgumentException($"FactoredAdamW: found two parameters named '{p.Name}', expected unique names.", nameof(parameters));
            if (p.Rows < 1 || p.Columns < 1 || !ReferenceEquals(p.Value.Device, device) || p.Value.DType != DType.F32 || p.Value.Elements != (long)p.Rows * p.Columns)
            {
                throw new ArgumentException(
                    $"FactoredAdamW: '{p.Name}' holds {p.Value.Elements} {p.Value.DType.Name()} on {p.Value.Device?.Name ?? "no device"}, expected [{p.Rows}, {p.Columns}] f32 on {device.Name}.", nameof(parameters));
            }
        }
        _moments = Array.ConvertAll(_parameters, p => (AddState(p, "exp_avg"), AddState(p, "exp_avg_sq")));
    }

    /// <summary>The trained tensors.</summary>
    public IReadOnlyList<FactoredParameter> Parameters => _parameters;

    /// <summary>Steps done.</summary>
    public long Steps { get; private set; }

    /// <summary>Bytes of state, for the memory plan.</summary>
    public long Bytes { get; private set; }

    /// <summary>What a checkpoint keeps beside <see cref="Steps"/>.</summary>
    public IReadOnlyList<StateTensor> State => _state;

    /// <summary>One clipped update of every parameter; nothing is changed where the norm is not finite: the caller must stop.</summary>
    /// <param name="gradients">One entry per parameter, in their order; all with <paramref name="count"/> outer products.</param>
    /// <param name="count">Outer products, 1 or more.</param>
    /// <param name="learningRate">This step's rate, finite, 0 or more.</param>
    /// <param name="maxNorm">Above 0; infinity only measures.</param>
    /// <returns>The norm of all gradients together before clipping.</returns>
    /// <exception cref="ArgumentException">Factors do not fit the parameters.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The rate is negative or not finite, or the largest norm is not above 0.</exception>
    public double Step(ReadOnlySpan<GradientFactors> gradients, int count, double learningRate, double maxNorm)
    {
        if (!(learningRate >= 0 && double.IsFinite(learningRate)))
            throw new ArgumentOutOfRangeException(nameof(learningRate), $"FactoredAdamW.Step: found a learning rate of {learningRate} at step {Steps}, expected a finite number, 0 or more.");
        GradientClipping.RequireMaxNorm(maxNorm, "FactoredAdamW.Step");
        double norm = Norm(gradients, count);
        if (!double.IsFinite(norm))
            return norm;
        float scale = (float)GradientClipping.Coefficient(norm, maxNorm);
        AdamWCoefficients coefficients = _options.At(++Steps, learningRate);
        for (int i = 0; i < _parameters.Length; i++)
        {
            FactoredParameter p = _parameters[i];
            OuterProductAdamW.Run(_device, gradients[i].Left, gradients[i].Right, _moments[i].First, _moments[i].Second, p.Value, count, p.Rows, p.Columns, scale, coefficients);
        }
        return norm;
    }

    /// <summary>The 2-norm of all gradients together.</summary>
    /// <param name="gradients">One entry per parameter, in their order.</param>
    /// <param name="count">Outer products, 1 or more.</param>
    /// <returns>0 or more; NaN or infinite where a factor is.</returns>
    /// <exception cref="ArgumentException">Factors do not fit the parameters.</exception>
    public double Norm(ReadOnlySpan<GradientFactors> gradients, int count)
    {
        if (gradients.Length != _parameters.Length)
            throw new ArgumentException($"FactoredAdamW: found {gradients.Length} gradients, expected {_parameters.Length}, one per parameter.", nameof(gradients));
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        // A layer's weight and bias share the gradient at its output: each factor's Gram matrix is made once.
        _grams.Clear();
        double sum = 0;
        for (int i = 0; i < _parameters.Length; i++)
            sum += GramMatrix.OuterProductNormSquared(Gram(gradients[i].Left, count, _parameters[i].Rows), Gram(gradients[i].Right, count, _parameters[i].Columns));
        return Math.Sqrt(sum);
    }

    /// <summary>Goes on after <paramref name="steps"/> steps; the caller has written the tensors of <see cref="State"/>.</summary>
    /// <param name="steps">Steps done, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException">A negative number.</exception>
    public void Restore(long steps)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(steps);
        Steps = steps;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _buffers)
            buffer.Dispose();
    }

    private double[] Gram(Tensor factor, int count, int length)
    {
        foreach ((Tensor known, double[] done) in _grams)
        {
            if (known == factor)
                return done;
        }
        var gram = new double[count * count];
        GramMatrix.Run(_device, factor, count, length, gram);
        _grams.Add((factor, gram));
        return gram;
    }

    private Tensor AddState(in FactoredParameter parameter, string moment)
    {
        DeviceBuffer buffer = _device.Allocate(DType.F32, parameter.Value.Elements, $"FactoredAdamW state {parameter.Name}.{moment}");
        _buffers.Add(buffer);
        Bytes += DType.F32.ByteLength(parameter.Value.Elements);
        Elementwise.Fill(_device, buffer.Tensor, buffer.Tensor.Elements, 0);
        _state.Add(new StateTensor($"{parameter.Name}.{moment}", parameter.Shape, buffer.Tensor));
        return buffer.Tensor;
    }
}
