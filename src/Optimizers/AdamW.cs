// AdamW as PyTorch and as old Hugging Face run it. The arithmetic is in Kernels (AdamWUpdate).
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Optimizers;

/// <summary>Whose AdamW.</summary>
public enum AdamWVariant
{
    /// <summary>torch.optim.AdamW: decay before the step; epsilon after the bias correction.</summary>
    Torch,

    /// <summary>transformers.AdamW: decay after the step; epsilon before the bias correction, which may be off. The code of IPT uses it.</summary>
    HuggingFace,
}

/// <summary>Settings of <see cref="AdamW"/>.</summary>
public sealed record AdamWOptions
{
    /// <summary>Whose AdamW.</summary>
    public AdamWVariant Variant { get; init; } = AdamWVariant.Torch;

    /// <summary>Decay of the first moment, 0 to below 1.</summary>
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Decay of the second moment, 0 to below 1.</summary>
    public double Beta2 { get; init; } = 0.999;

    /// <summary>Keeps the denominator from 0; above 0.</summary>
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>Weight decay, multiplied by the learning rate; 0 or more.</summary>
    public double WeightDecay { get; init; }

    /// <summary>Hugging Face: correct the moments' bias towards 0. Torch always does.</summary>
    public bool CorrectBias { get; init; } = true;

    internal void Validate()
    {
        Require(Beta1 is >= 0 and < 1, nameof(Beta1), Beta1, "0 to below 1");
        Require(Beta2 is >= 0 and < 1, nameof(Beta2), Beta2, "0 to below 1");
        Require(Epsilon > 0 && double.IsFinite(Epsilon), nameof(Epsilon), Epsilon, "above 0");
        Require(WeightDecay >= 0 && double.IsFinite(WeightDecay), nameof(WeightDecay), WeightDecay, "0 or more");
        if (!CorrectBias && Variant == AdamWVariant.Torch)
            throw new ArgumentException("AdamWOptions: CorrectBias is False, expected True for the Torch variant, which has no such switch.");
    }

    /// <summary>The numbers of step <paramref name="step"/>, counted from 1.</summary>
    internal AdamWCoefficients At(long step, double learningRate)
    {
        double correction1 = CorrectBias ? 1 - Math.Pow(Beta1, step) : 1;
        double root2 = CorrectBias ? Math.Sqrt(1 - Math.Pow(Beta2, step)) : 1;
        double decay = learningRate * WeightDecay;
        bool torch = Variant == AdamWVariant.Torch;
        return new AdamWCoefficients(
            Keep: torch ? (float)(1 - decay) : 1,
            Beta1: (float)Beta1,
            NewWeight1: (float)(1 - Beta1),
            Beta2: (float)Beta2,
            NewWeight2: (float)(1 - Beta2),
            RootDivisor: torch ? (float)root2 : 1,
            Epsilon: (float)Epsilon,
            StepSize: (float)(torch ? learningRate / correction1 : learningRate * root2 / correction1),
            Shrink: torch ? 0 : (float)-decay);
    }

    private static void Require(bool good, string name, double found, string expected)
    {
        if (!good)
            throw new ArgumentException($"AdamWOptions: {name} is {found}, expected {expected}.");
    }
}

/// <summary>AdamW over named tensors.</summary>
/// <remarks>Source: Loshchilov and Hutter 2019; torch.optim.AdamW (1.13); transformers 4.20 optimization.py AdamW.</remarks>
public sealed class AdamW : Optimizer
{
    private readonly AdamWOptions _options;
    private readonly (Tensor First, Tensor Second)[] _moments;

    /// <summary>Takes zeroed state.</summary>
    /// <param name="device">Where the parameters lie.</param>
    /// <param name="parameters">What is trained; copied.</param>
    /// <param name="options">Settings.</param>
    /// <exception cref="ArgumentException">A parameter or setting does not fit.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    public AdamW(ComputeDevice device, ReadOnlySpan<Parameter> parameters, AdamWOptions options)
        : base(device, parameters)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        _options = options;
        _moments = new (Tensor, Tensor)[parameters.Length];
        for (int i = 0; i < parameters.Length; i++)
            _moments[i] = (AddState(parameters[i], "exp_avg", parameters[i].Shape), AddState(parameters[i], "exp_avg_sq", parameters[i].Shape));
    }

    private protected override void Update(double learningRate)
    {
        AdamWCoefficients coefficients = _options.At(Steps, learningRate);
        for (int i = 0; i < _moments.Length; i++)
        {
            ref readonly Parameter p = ref Parameters[i];
            AdamWUpdate.Run(Device, p.Gradient, _moments[i].First, _moments[i].Second, p.Value, p.Value.Elements, coefficients);
        }
    }
}
