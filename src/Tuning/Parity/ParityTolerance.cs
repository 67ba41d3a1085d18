// Where parity's tolerances come from. One formula, so that no quantity has a number of its own.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Config;

namespace IptNative.Tuning.Parity;

/// <summary>A relative bound and the reason for it.</summary>
/// <param name="Relative">Allowed max|ours - expected| / max|expected|.</param>
/// <param name="Reason">Printed beside it.</param>
internal readonly record struct ParityTolerance(double Relative, string Reason)
{
    /// <summary>Paths that are tried where rounding drives one away: how far depends on where it was pushed, so the furthest of four.</summary>
    public const int Shakes = 4;

    // Rounding unit of binary32.
    private const double Eps32 = 1.0 / (1 << 24);

    /// <summary>No difference at all.</summary>
    /// <param name="reason">Why none is allowed.</param>
    public static ParityTolerance Exact(string reason) => new(0, reason);

    /// <summary>Two float32 evaluations of the same formula in another order of summation.</summary>
    /// <param name="config">Says how many sublayers the errors pass through.</param>
    /// <param name="weights">Stored type of the weights; narrower ones add their own rounding.</param>
    /// <returns>The bound.</returns>
    /// <remarks>
    /// A dot product of length n rounds to about sqrt(n) eps; RMSNorm resets the scale, so the sublayers' errors add up like a random walk at
    /// worst linearly. 64 eps a block leaves the factor 10 over what PyTorch itself differs by between float32 and float64.
    /// </remarks>
    public static ParityTolerance Float32(T5Config config, DType weights)
    {
        int blocks = config.NumLayers + config.NumDecoderLayers;
        double bound = 64 * Eps32 * blocks;
        return weights switch
        {
            DType.F32 => new(bound, $"float32 sums in another order: 64 eps x {blocks} blocks"),
            DType.BF16 => new(bound + Rounding(8, blocks), $"weights rounded to bf16 (2^-9 each) through {blocks} blocks"),
            DType.F16 => new(bound + Rounding(11, blocks), $"weights rounded to f16 (2^-12 each) through {blocks} blocks"),
            _ => throw new ArgumentException($"parity: no tolerance is known for {weights.Name()} weights.", nameof(weights)),
        };
    }

    /// <summary>A gradient against float64.</summary>
    /// <param name="config">Says how many sublayers the errors pass through.</param>
    /// <param name="weights">Stored type of the weights.</param>
    /// <returns>The bound.</returns>
    /// <remarks>
    /// The project's own bound for float32 weights: PyTorch's float32 itself is 4e-6 away on the smallest fixture. A narrower type's rounding counts twice, once on
    /// the way up and once on the way down. Through ReLU the gradient jumps: a share of the units as large as the rounding turns on or off, and their independent parts
    /// of the gradient add as the root of that share.
    /// </remarks>
    public static ParityTolerance Gradient(T5Config config, DType weights)
    {
        ParityTolerance forward = Float32(config, weights);
        if (weights == DType.F32)
            return new(2e-5, "float32 against float64, per tensor; PyTorch's own float32 differs by 4e-6");
        double rounded = 2 * forward.Relative;
        return config.IsRelu
            ? new(2e-5 + Math.Sqrt(rounded), $"{forward.Reason}; that share of ReLU's units is on in one and off in the other, each with its whole part of the gradient")
            : new(2e-5 + rounded, $"{forward.Reason}, forward and backward");
    }

    /// <summary>Widens a bound where PyTorch's own float32 is further from float64 than the bound allows for: such a model amplifies rounding, whoever rounds.</summary>
    /// <param name="fixture">May hold a quantity in both precisions.</param>
    /// <param name="name">The float32 array; the float64 one is NAME64.</param>
    /// <returns>This bound, or three times PyTorch's distance.</returns>
    public ParityTolerance NotBelow(ParityFixture fixture, string name)
    {
        if (!fixture.Has(name) || !fixture.Has($"{name}64"))
            return this;
        double gap = ParityTable.Distance(fixture.Values($"{name}64"), fixture.Values(name));
        return 3 * gap <= Relative ? this : new(3 * gap, $"ill-conditioned: PyTorch's float32 {name} are {gap:0.0e+00} from its float64; three times that");
    }

    /// <summary>Widens a bound of a path of many steps, as <see cref="NotBelow(ParityFixture, string)"/> does.</summary>
    /// <param name="gap">How far two paths part that differ by rounding alone, over the largest number.</param>
    /// <param name="which">Whose paths, for the reason.</param>
    /// <returns>This bound, or three times the gap.</returns>
    public ParityTolerance NotBelow(double gap, string which) =>
        3 * gap <= Relative ? this : new(3 * gap, $"ill-conditioned: {which} part by {gap:0.0e+00}; three times that");

    /// <summary>How far PyTorch's float32 gradient is from its float64, over the largest number; on the smallest fixture 4e-6.</summary>
    public static double GradientRounding(ParityFixture fixture) =>
        fixture.Has("grad_prompt64") && fixture.Has("grad_prompt") ? ParityTable.Distance(fixture.Values("grad_prompt64"), fixture.Values("grad_prompt")) : 4e-6;

    /// <summary>Puts each number off by up to a share of the largest: what another float32 implementation's rounding does.</summary>
    /// <param name="gradient">f32, changed in place.</param>
    /// <param name="rounding">See <see cref="GradientRounding"/>.</param>
    /// <param name="random">Where the numbers come from.</param>
    public static void Shake(Tensor gradient, double rounding, ref SplitMix64 random)
    {
        float[] values = gradient.ToArray<float>();
        double size = rounding * values.Max(MathF.Abs);
        for (int i = 0; i < values.Length; i++)
            values[i] += (float)(size * (2 * random.NextDouble() - 1));
        gradient.CopyFrom<float>(values);
    }

    // Each weight is off by half a unit of its last place at most; independent errors add as their root, eight matrices a block, and the
    // residual stream's softmax and norm amplify them by a small factor.
    private static double Rounding(int mantissaBits, int blocks) => 4 * Math.Pow(2, -mantissaBits - 1) * Math.Sqrt(8.0 * blocks);
}
