// GELU of an ungated feed-forward layer. The exact (erf) form is another function and not here.
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>The Gaussian error linear unit in its tanh form (HF: gelu_new).</summary>
/// <remarks>
/// Forward   y = x (1 + tanh u) / 2,   u = sqrt(2/pi) (x + 0.044715 x^3)
/// Backward  dx = dy f'(x); formula and derivation: docs/derivations/gated_gelu.md.
/// Shapes    all tensors have the same number of elements; x is kept, nothing else.
/// Source    Hendrycks &amp; Gimpel 2016, tanh approximation; HF transformers activations.py NewGELUActivation.
/// </remarks>
public static partial class Gelu
{
    /// <summary>y = f(x).</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="y">f32 [elements], overwritten; may be <paramref name="x"/> where no Backward follows.</param>
    /// <param name="elements">Number of elements, 0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor x, Tensor y, long elements) =>
        Activation<GeluTanh>.Forward("Gelu.Forward", device, x, y, elements);

    /// <summary>dx from dy.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements], Forward's input.</param>
    /// <param name="dy">f32 [elements].</param>
    /// <param name="dx">f32 [elements], overwritten; may be <paramref name="x"/> or <paramref name="dy"/>.</param>
    /// <param name="elements">Number of elements, 0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor x, Tensor dy, Tensor dx, long elements) =>
        Activation<GeluTanh>.Backward("Gelu.Backward", device, x, dy, dx, elements);
}
