// Clipping by the norm of all gradients of a run together. Deliberately not across runs: each keeps its own norm.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Optimizers;

/// <summary>torch.nn.utils.clip_grad_norm_.</summary>
public static class GradientClipping
{
    // torch's guard against a division by 0; part of the recipe.
    private const double NormEpsilon = 1e-6;

    /// <summary>What multiplies the gradients: maxNorm / (norm + 1e-6) where that is below 1, else 1; 1 where the norm is not finite.</summary>
    internal static double Coefficient(double norm, double maxNorm) => double.IsFinite(norm) ? Math.Min(1, maxNorm / (norm + NormEpsilon)) : 1;

    internal static void RequireMaxNorm(double maxNorm, string who)
    {
        if (!(maxNorm > 0))
            throw new ArgumentOutOfRangeException(nameof(maxNorm), $"{who}: found a largest norm of {maxNorm}, expected a number above 0.");
    }

    /// <summary>The 2-norm of all gradients together.</summary>
    /// <param name="device">Where they lie.</param>
    /// <param name="parameters">Whose gradients.</param>
    /// <returns>0 or more; NaN or infinite where a gradient is.</returns>
    public static double Norm(ComputeDevice device, ReadOnlySpan<Parameter> parameters)
    {
        double sum = 0;
        foreach (ref readonly Parameter parameter in parameters)
            sum += Reductions.Dot(device, parameter.Gradient, parameter.Gradient, parameter.Gradient.Elements);
        return Math.Sqrt(sum);
    }

    /// <summary>Scales all gradients by maxNorm / (norm + 1e-6) where that is below 1; allocates nothing.</summary>
    /// <param name="device">Where they lie.</param>
    /// <param name="parameters">Whose gradients; scaled in place.</param>
    /// <param name="maxNorm">Above 0; infinity only measures.</param>
    /// <returns>The norm before clipping. Where it is not finite nothing is scaled: the caller must stop.</returns>
    /// <exception cref="ArgumentOutOfRangeException">No positive norm given.</exception>
    public static double Clip(ComputeDevice device, ReadOnlySpan<Parameter> parameters, double maxNorm)
    {
        RequireMaxNorm(maxNorm, "GradientClipping.Clip");
        double norm = Norm(device, parameters);
        double coefficient = Coefficient(norm, maxNorm);
        if (coefficient < 1)
        {
            foreach (ref readonly Parameter parameter in parameters)
                Elementwise.Scale(device, parameter.Gradient, parameter.Gradient, parameter.Gradient.Elements, (float)coefficient);
        }
        return norm;
    }
}
