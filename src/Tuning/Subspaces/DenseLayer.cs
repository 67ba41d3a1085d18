// One linear layer over a few rows, composed of the kernels' matrix product. Deliberately without its weight's gradient: that stays in factors (FactoredAdamW).
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Tuning.Subspaces;

/// <summary>y = x W^T + b, W stored [outputs, inputs] as PyTorch's nn.Linear.</summary>
/// <param name="Weight">f32 [Outputs, Inputs].</param>
/// <param name="Bias">f32 [Outputs], or empty.</param>
/// <param name="Inputs">1 or more.</param>
/// <param name="Outputs">1 or more.</param>
internal readonly record struct DenseLayer(Tensor Weight, Tensor Bias, int Inputs, int Outputs)
{
    /// <summary>y [rows, Outputs] from x [rows, Inputs]; ones: f32 of at least rows.</summary>
    public void Forward(ComputeDevice device, Tensor x, Tensor y, Tensor ones, int rows)
    {
        if (!Bias.IsEmpty)
            Gemm.Run(device, new GemmArgs { Compute = ComputeType.F32, A = ones, B = Bias, C = y, M = rows, N = Outputs, K = 1 });
        Gemm.Run(device, new GemmArgs { Compute = ComputeType.F32, A = x, B = Weight, TransB = true, C = y, M = rows, N = Outputs, K = Inputs, Accumulate = !Bias.IsEmpty });
    }

    /// <summary>dx [rows, Inputs] from dy [rows, Outputs].</summary>
    public void Backward(ComputeDevice device, Tensor dy, Tensor dx, int rows) =>
        Gemm.Run(device, new GemmArgs { Compute = ComputeType.F32, A = dy, B = Weight, C = dx, M = rows, N = Inputs, K = Outputs });
}

/// <summary>The activations by name; each is an op of the kernels.</summary>
internal static class Activation
{
    /// <summary>y = f(x).</summary>
    public static void Forward(ComputeDevice device, SubspaceActivation kind, Tensor x, Tensor y, long elements)
    {
        switch (kind)
        {
            case SubspaceActivation.Identity: Elementwise.Copy(device, x, y, elements); break;
            case SubspaceActivation.Tanh: HyperbolicTangent.Forward(device, x, y, elements); break;
            case SubspaceActivation.Relu: Relu.Forward(device, x, y, elements); break;
            case SubspaceActivation.Gelu: Gelu.Forward(device, x, y, elements); break;
            default: throw Unknown(kind);
        }
    }

    /// <summary>dx from dy; x and y are Forward's.</summary>
    public static void Backward(ComputeDevice device, SubspaceActivation kind, Tensor x, Tensor y, Tensor dy, Tensor dx, long elements)
    {
        switch (kind)
        {
            case SubspaceActivation.Identity: Elementwise.Copy(device, dy, dx, elements); break;
            case SubspaceActivation.Tanh: HyperbolicTangent.Backward(device, y, dy, dx, elements); break;
            case SubspaceActivation.Relu: Relu.Backward(device, x, dy, dx, elements); break;
            case SubspaceActivation.Gelu: Gelu.Backward(device, x, dy, dx, elements); break;
            default: throw Unknown(kind);
        }
    }

    private static ArgumentException Unknown(SubspaceActivation kind) => new($"subspace: found activation {kind}, expected identity, tanh, relu or gelu.");
}

/// <summary>Memory that grows with the largest number of rows seen, so that steps of a run allocate once.</summary>
internal sealed class GrowingTensor(ComputeDevice device, IptNative.Kernels.DType type, string purpose) : IDisposable
{
    private DeviceBuffer? _buffer;

    /// <summary>The first elements; what they held is lost when the memory grows.</summary>
    public Tensor Take(long elements)
    {
        if (_buffer is null || _buffer.Tensor.Elements < elements)
        {
            _buffer?.Dispose();
            _buffer = null;
            _buffer = device.Allocate(type, elements, purpose);
        }
        return _buffer.Tensor.Slice(0, elements);
    }

    public void Dispose() => _buffer?.Dispose();
}
