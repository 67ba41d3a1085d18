// Random numbers in a device's memory: speed does not depend on them, as long as they are ordinary.
using IptNative.Kernels;
using IptNative.Kernels.Devices;

namespace IptNative.Bench;

internal sealed unsafe class NativeNumbers(CpuDevice device) : IDisposable
{
    private readonly List<DeviceBuffer> _buffers = [];

    /// <summary>Numbers between -1/2 and 1/2.</summary>
    public Tensor Take(long elements, DType type = DType.F32)
    {
        DeviceBuffer buffer = device.Allocate(type, elements, "benchmark data");
        _buffers.Add(buffer);
        Tensor tensor = buffer.Tensor;
        uint state = (uint)_buffers.Count;
        for (long i = 0; i < elements; i++)
        {
            state = state * 1664525 + 1013904223;
            float value = (state >> 8) / (float)(1 << 24) - 0.5f;
            switch (type)
            {
                case DType.F32:
                    ((float*)tensor.Address)[i] = value;
                    break;
                case DType.BF16:
                    ((ushort*)tensor.Address)[i] = (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16);
                    break;
                case DType.F16:
                    ((ushort*)tensor.Address)[i] = BitConverter.HalfToUInt16Bits((Half)value);
                    break;
                default:
                    throw new ArgumentException($"NativeNumbers: found {type}, expected f32, bf16 or f16.", nameof(type));
            }
        }
        return tensor;
    }

    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _buffers)
            buffer.Dispose();
    }
}
