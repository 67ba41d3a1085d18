// Prompts in device memory for tests.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Forward;

namespace IptNative.Model.Tests.Forward;

internal sealed unsafe class PromptMemory : IDisposable
{
    private readonly DeviceBuffer _buffer;

    public PromptMemory(ComputeDevice device, int dModel, float[] values, params int[] lengths)
    {
        _buffer = device.Allocate(DType.F32, values.Length, "prompts");
        _buffer.Tensor.CopyFrom<float>(values);
        Table = new PromptTable(_buffer.Tensor, dModel, lengths);
    }

    public PromptTable Table { get; }

    public static ReadOnlySpan<float> Floats(Tensor tensor) => new((void*)tensor.Address, (int)tensor.Elements);

    public static ReadOnlySpan<int> Ints(Tensor tensor) => new((void*)tensor.Address, (int)tensor.Elements);

    public void Dispose() => _buffer.Dispose();
}
