// Adafactor as T5X and as Hugging Face run it for soft prompts. The arithmetic is in Kernels (AdafactorUpdate).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Optimizers;

/// <summary>Whose Adafactor.</summary>
public enum AdafactorVariant
{
    /// <summary>T5X adafactor.py: a matrix is factored where both dimensions reach 128; decay p (1 - wd), whatever the rate; step offset.</summary>
    T5X,

    /// <summary>transformers.Adafactor: every matrix is factored; decay p (1 - wd lr).</summary>
    HuggingFace,
}

/// <summary>Settings of <see cref="Adafactor"/>; the defaults are those of Lester et al. 2021.</summary>
/// <remarks>Deliberately without momentum, relative step and parameter scale: no recipe for soft prompts uses them.</remarks>
public sealed record AdafactorOptions
{
    /// <summary>Whose Adafactor.</summary>
    public AdafactorVariant Variant { get; init; } = AdafactorVariant.T5X;

    /// <summary>Weight decay a step, 0 to below 1; T5X does not multiply it by the learning rate.</summary>
    public double WeightDecay { get; init; } = 1e-5;

    /// <summary>Added to squared gradients; above 0.</summary>
    public double Epsilon { get; init; } = 1e-30;

    /// <summary>Largest root mean square of an update before the learning rate; above 0.</summary>
    public double ClipThreshold { get; init; } = 1;

    /// <summary>The second moment decays by 1 - t^-this; above 0.</summary>
    public double DecayExponent { get; init; } = 0.8;

    /// <summary>T5X: smallest dimension that is factored.</summary>
    public int MinDimSizeToFactor { get; init; } = 128;

    /// <summary>
    /// T5X: t = step - this + 1 with steps counted from 0; 0 or less. The published prompts were trained on from step 1,100,000 of the checkpoint with
    /// an empty second moment: -1100000 here. The default 0 forgets quickly at first and then averages over ever longer times.
    /// </summary>
    public long StepOffset { get; init; }

    internal void Validate()
    {
        Require(WeightDecay is >= 0 and < 1, nameof(WeightDecay), WeightDecay, "0 to below 1");
        Require(Epsilon > 0 && double.IsFinite(Epsilon), nameof(Epsilon), Epsilon, "above 0");
        Require(ClipThreshold > 0 && double.IsFinite(ClipThreshold), nameof(ClipThreshold), ClipThreshold, "above 0");
        Require(DecayExponent > 0 && double.IsFinite(DecayExponent), nameof(DecayExponent), DecayExponent, "above 0");
        Require(MinDimSizeToFactor >= 1, nameof(MinDimSizeToFactor), MinDimSizeToFactor, "1 or more");
        Require(StepOffset <= 0, nameof(StepOffset), StepOffset, "0 or less");
        Require(StepOffset == 0 || Variant == AdafactorVariant.T5X, nameof(StepOffset), StepOffset, "0 for the Hugging Face variant, which has none");
    }

    private static void Require(bool good, string name, double found, string expected)
    {
        if (!good)
            throw new ArgumentException($"AdafactorOptions: {name} is {found}, expected {expected}.");
    }
}

/// <summary>Adafactor over named tensors.</summary>
/// <remarks>
/// Source: Shazeer and Stern 2018; t5x/adafactor.py; transformers 4.20 optimization.py Adafactor.
/// Differs from T5X: because a matrix with more rows than columns is not transposed before its means are taken, rows and columns change
/// places in the state; the update is the same up to rounding.
/// </remarks>
public sealed class Adafactor : Optimizer
{
    private readonly AdafactorOptions _options;
    private readonly Moments[] _moments;
    private readonly Tensor _sums;
    private readonly Tensor _factors;

    /// <summary>Takes zeroed state.</summary>
    /// <param name="device">Where the parameters lie.</param>
    /// <param name="parameters">What is trained; copied.</param>
    /// <param name="options">Settings.</param>
    /// <exception cref="ArgumentException">A parameter or setting does not fit.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    public Adafactor(ComputeDevice device, ReadOnlySpan<Parameter> parameters, AdafactorOptions options)
        : base(device, parameters)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        _options = options;
        _moments = new Moments[parameters.Length];
        long sums = 0, factors = 0;
        for (int i = 0; i < parameters.Length; i++)
        {
            Parameter p = parameters[i];
            long elements = AdafactorUpdate.SumElements(p.Rows, p.Columns);
            sums = Math.Max(sums, elements);
            if (IsFactored(p.Shape))
            {
                factors = Math.Max(factors, elements);
                _moments[i] = new Moments(AddState(p, "exp_avg_sq_row", new TensorShape(p.Rows)), AddState(p, "exp_avg_sq_col", new TensorShape(p.Columns)));
            }
            else
            {
                _moments[i] = new Moments(AddState(p, "exp_avg_sq", p.Shape), default);
            }
        }
        _sums = Allocate(DType.F64, sums, "Adafactor's sums");
        if (factors > 0)
            _factors = Allocate(DType.F32, factors, "Adafactor's factors");
    }

    private bool IsFactored(TensorShape shape) =>
        shape.Rank == 2 && (_options.Variant == AdafactorVariant.HuggingFace || Math.Min(shape[0], shape[1]) >= _options.MinDimSizeToFactor);

    private protected override void Update(double learningRate)
    {
        // Steps counts from 1 here, as t does.
        double forget = Math.Pow(Steps - _options.StepOffset, -_options.DecayExponent);
        bool t5x = _options.Variant == AdafactorVariant.T5X;
        var coefficients = new AdafactorCoefficients(
            Beta2: (float)(1 - forget),
            NewWeight: (float)forget,
            Epsilon: (float)_options.Epsilon,
            ClipThreshold: (float)_options.ClipThreshold,
            LearningRate: (float)learningRate,
            Keep: t5x ? (float)(1 - _options.WeightDecay) : 1,
            Shrink: t5x ? 0 : (float)(-_options.WeightDecay * learningRate));
        for (int i = 0; i < _moments.Length; i++)
        {
            ref readonly Parameter p = ref Parameters[i];
            long rows = p.Rows, columns = p.Columns;
            Moments moments = _moments[i];
            Tensor sums = _sums.Slice(0, rows + columns);
            if (moments.Column.IsEmpty)
                AdafactorUpdate.RunFull(Device, p.Gradient, moments.Row, p.Value, sums, rows, columns, coefficients);
            else
                AdafactorUpdate.RunFactored(Device, p.Gradient, moments.Row, moments.Column, p.Value, sums, _factors.Slice(0, rows + columns), rows, columns, coefficients);
        }
    }

    // Row holds the whole second moment where Column is empty.
    private readonly record struct Moments(Tensor Row, Tensor Column);
}
