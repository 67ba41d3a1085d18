// ReLU of an ungated feed-forward layer.
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>max(x, 0): the feed-forward activation of T5 v1.0.</summary>
/// <remarks>
/// Forward   y = max(x, 0)
/// Backward  dx = dy where x &gt; 0, else 0 (at 0 as in PyTorch).
/// Shapes    all tensors have the same number of elements; x is kept, nothing else.
/// Source    Raffel et al. 2020; HF transformers modeling_t5.py T5DenseActDense.
/// </remarks>
public static partial class Relu
{
    /// <summary>y = f(x).</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="y">f32 [elements], overwritten; may be <paramref name="x"/> where no Backward follows.</param>
    /// <param name="elements">Number of elements, 0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor x, Tensor y, long elements) =>
        Activation<ReluActivation>.Forward("Relu.Forward", device, x, y, elements);

    /// <summary>dx from dy.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements], Forward's input.</param>
    /// <param name="dy">f32 [elements].</param>
    /// <param name="dx">f32 [elements], overwritten; may be <paramref name="x"/> or <paramref name="dy"/>.</param>
    /// <param name="elements">Number of elements, 0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor x, Tensor dy, Tensor dx, long elements) =>
        Activation<ReluActivation>.Backward("Relu.Backward", device, x, dy, dx, elements);
}
