// What the activations of the feed-forward layer have in common: the check of their tensors, and which device runs them.
// The functions are in Cpu/Activations.cs, the contracts in Gelu.cs, Relu.cs, GatedGelu.cs and GatedRelu.cs.
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Plain and gated application of one function.</summary>
/// <typeparam name="TActivation">The function.</typeparam>
internal static class Activation<TActivation>
    where TActivation : unmanaged, IActivation
{
    /// <summary>y = f(x).</summary>
    public static void Forward(string op, ComputeDevice device, Tensor x, Tensor y, long elements)
    {
        Check(op, device, x, nameof(x), elements);
        Check(op, device, y, nameof(y), elements);
        using OpScope trace = OpTrace.Enter(op, elements);
        switch (device)
        {
            case CpuDevice cpu: CpuActivation<TActivation>.Forward(cpu, x, y); break;
#if ILGPU
            case IlgpuDevice gpu: GpuActivation<TActivation>.Forward(gpu, x, y); break;
#endif
            default: throw Require.NoKernel(op, device);
        }
    }

    /// <summary>dx = dy f'(x).</summary>
    public static void Backward(string op, ComputeDevice device, Tensor x, Tensor dy, Tensor dx, long elements)
    {
        Check(op, device, x, nameof(x), elements);
        Check(op, device, dy, nameof(dy), elements);
        Check(op, device, dx, nameof(dx), elements);
        using OpScope trace = OpTrace.Enter(op, elements);
        switch (device)
        {
            case CpuDevice cpu: CpuActivation<TActivation>.Backward(cpu, x, dy, dx); break;
#if ILGPU
            case IlgpuDevice gpu: GpuActivation<TActivation>.Backward(gpu, x, dy, dx); break;
#endif
            default: throw Require.NoKernel(op, device);
        }
    }

    /// <summary>y = f(h0) h1.</summary>
    public static void GatedForward(string op, ComputeDevice device, Tensor h0, Tensor h1, Tensor y, long elements)
    {
        Check(op, device, h0, nameof(h0), elements);
        Check(op, device, h1, nameof(h1), elements);
        Check(op, device, y, nameof(y), elements);
        using OpScope trace = OpTrace.Enter(op, elements);
        switch (device)
        {
            case CpuDevice cpu: CpuActivation<TActivation>.GatedForward(cpu, h0, h1, y); break;
#if ILGPU
            case IlgpuDevice gpu: GpuActivation<TActivation>.GatedForward(gpu, h0, h1, y); break;
#endif
            default: throw Require.NoKernel(op, device);
        }
    }

    /// <summary>dh0 = dy h1 f'(h0), dh1 = dy f(h0).</summary>
    public static void GatedBackward(string op, ComputeDevice device, Tensor h0, Tensor h1, Tensor dy, Tensor dh0, Tensor dh1, long elements)
    {
        Check(op, device, h0, nameof(h0), elements);
        Check(op, device, h1, nameof(h1), elements);
        Check(op, device, dy, nameof(dy), elements);
        Check(op, device, dh0, nameof(dh0), elements);
        Check(op, device, dh1, nameof(dh1), elements);
        using OpScope trace = OpTrace.Enter(op, elements);
        switch (device)
        {
            case CpuDevice cpu: CpuActivation<TActivation>.GatedBackward(cpu, h0, h1, dy, dh0, dh1); break;
#if ILGPU
            case IlgpuDevice gpu: GpuActivation<TActivation>.GatedBackward(gpu, h0, h1, dy, dh0, dh1); break;
#endif
            default: throw Require.NoKernel(op, device);
        }
    }

    private static void Check(string op, ComputeDevice device, Tensor tensor, string name, long elements) =>
        Require.Shape(op, device, tensor, name, DType.F32, "[elements]", elements);
}
