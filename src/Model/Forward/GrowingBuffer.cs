// Memory of a device that grows to the largest batch seen and is then used again. Contents are lost when it grows.
using IptNative.Kernels;
using IptNative.Kernels.Devices;

namespace IptNative.Model.Forward;

/// <summary>One reusable piece of device memory.</summary>
internal sealed class GrowingBuffer(ComputeDevice device, DType type, string purpose) : IDisposable
{
    private DeviceBuffer? _buffer;
    private long _elements;

    /// <summary>Bytes held.</summary>
    public long Bytes => type.ByteLength(_elements);

    /// <summary>Memory for <paramref name="elements"/> elements; what was there stays only where it already fitted.</summary>
    public Tensor Take(long elements)
    {
        if (elements > _elements || _buffer is null)
        {
            _buffer?.Dispose();
            _elements = 0;
            _buffer = device.Allocate(type, elements, purpose);
            _elements = elements;
        }
        return _buffer.Tensor.Slice(0, elements);
    }

    public void Dispose() => _buffer?.Dispose();
}
