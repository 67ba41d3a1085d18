// Gated GELU. The activation itself, shared with Gelu.cs, is in Cpu/Activations.cs.
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>GELU (tanh form) of one projection times another one: the feed-forward layer of T5 v1.1 (HF: gated-gelu).</summary>
/// <remarks>
/// Forward   y = gelu(h0) h1,   gelu(x) = x (1 + tanh u) / 2,   u = sqrt(2/pi) (x + 0.044715 x^3)
/// Backward  dh0 = dy h1 gelu'(h0);   dh1 = dy gelu(h0).   Derivation: docs/derivations/gated_gelu.md.
/// Shapes    h0 = wi_0 x, h1 = wi_1 x, y and their gradients: [rows, F], taken as [elements]; h0 and h1 are kept, nothing else.
/// Source    Shazeer 2020, GLU variants; HF transformers modeling_t5.py T5DenseGatedActDense.
/// </remarks>
public static partial class GatedGelu
{
    /// <summary>y = f(h0) h1.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="h0">f32 [elements], the side with the activation.</param>
    /// <param name="h1">f32 [elements], the linear side.</param>
    /// <param name="y">f32 [elements], overwritten; may be an input where no Backward follows.</param>
    /// <param name="elements">rows * F, 0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor h0, Tensor h1, Tensor y, long elements) =>
        Activation<GeluTanh>.GatedForward("GatedGelu.Forward", device, h0, h1, y, elements);

    /// <summary>dh0 and dh1 from dy.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="h0">f32 [elements], Forward's input.</param>
    /// <param name="h1">f32 [elements], Forward's input.</param>
    /// <param name="dy">f32 [elements].</param>
    /// <param name="dh0">f32 [elements], overwritten; may be any of the inputs but <paramref name="dh1"/>.</param>
    /// <param name="dh1">f32 [elements], overwritten; may be any of the inputs.</param>
    /// <param name="elements">rows * F, 0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor h0, Tensor h1, Tensor dy, Tensor dh0, Tensor dh1, long elements) =>
        Activation<GeluTanh>.GatedBackward("GatedGelu.Backward", device, h0, h1, dy, dh0, dh1, elements);
}
