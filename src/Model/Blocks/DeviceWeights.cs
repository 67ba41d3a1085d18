// The weights that a device with memory of its own computes with: copied there once, byte for byte as they are stored. The mapped file is only read, and
// its pages are given back behind the copy: the host then holds none of them.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;

namespace IptNative.Model.Blocks;

/// <summary>One copy of each weight on a device, made when first asked for.</summary>
internal sealed unsafe class DeviceWeights(ComputeDevice device, Checkpoint checkpoint) : IDisposable
{
    // What a copy hands over at once: a span holds 2 GB.
    private const int Chunk = 1 << 28;

    private readonly Dictionary<string, Tensor> _tensors = [];
    private readonly List<DeviceBuffer> _buffers = [];

    /// <summary>Bytes on the device.</summary>
    public long Bytes { get; private set; }

    /// <summary>A weight on the device, its scales too.</summary>
    /// <param name="name">HF path; a tied head is the embedding and is not copied again.</param>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    /// <exception cref="IOException">The file was truncated since it was opened.</exception>
    public Tensor Of(string name)
    {
        if (_tensors.TryGetValue(name, out Tensor tensor))
            return tensor;
        Weight weight = checkpoint[name];
        bool mapped = checkpoint.IsMapped(weight);
        // Asked before touching pages that may be gone.
        if (mapped && !FilePages.Read(weight.Address, weight.ByteLength))
            throw new IOException($"{checkpoint.Location}: copying '{name}' to {device.Name}; the file was truncated since it was opened. Export or copy it again.");
        tensor = Copy(weight.Address, weight.DType, weight.Shape.Elements, name);
        if (weight.Scales.IsPresent)
            tensor = tensor with { Scales = Copy(weight.Scales, weight.Shape.Elements, name) };
        if (mapped)
            FilePages.Forget(weight.Address, weight.ByteLength);
        _tensors.Add(name, tensor);
        return tensor;
    }

    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _buffers)
            buffer.Dispose();
    }

    private BlockScales Copy(BlockScales scales, long elements, string name)
    {
        long rows = elements / scales.RowLength;
        return scales with
        {
            Address = Copy(scales.Address, DType.F32, rows * scales.PerRow, $"scales of {name}").Address,
            ZeroPoints = scales.ZeroPoints == 0 ? 0 : Copy(scales.ZeroPoints, DType.U8, rows * scales.ZeroPointBytesPerRow, $"zero points of {name}").Address,
        };
    }

    private Tensor Copy(nint from, DType type, long elements, string purpose)
    {
        DeviceBuffer buffer = device.Allocate(type, elements, purpose);
        _buffers.Add(buffer);
        long bytes = type.ByteLength(elements);
        var raw = new Tensor(device, buffer.Tensor.Address, DType.U8, bytes);
        for (long start = 0; start < bytes; start += Chunk)
        {
            int n = (int)Math.Min(Chunk, bytes - start);
            device.CopyFromHost(new ReadOnlySpan<byte>((void*)(from + (nint)start), n), raw.Slice(start, n));
        }
        Bytes += bytes;
        return buffer.Tensor;
    }
}
