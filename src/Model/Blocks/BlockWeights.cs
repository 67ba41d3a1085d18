// A checkpoint's weights as tensors of a device. On the CPU they are the mapped bytes themselves; nothing is copied but the norms of a narrow checkpoint.
// Any other device has one copy of its own (DeviceWeights).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;

namespace IptNative.Model.Blocks;

/// <summary>Weights by Hugging Face name for the ops.</summary>
internal sealed class BlockWeights : IDisposable
{
    private readonly Checkpoint _checkpoint;
    private readonly DeviceWeights? _copies;
    private readonly List<DeviceBuffer> _widened = [];

    /// <summary>Looks at a checkpoint's weights from a device.</summary>
    /// <param name="device">Where ops run.</param>
    /// <param name="checkpoint">Outlives this object.</param>
    public BlockWeights(ComputeDevice device, Checkpoint checkpoint)
    {
        Device = device;
        _copies = device is CpuDevice ? null : new DeviceWeights(device, checkpoint);
        _checkpoint = checkpoint;
    }

    public ComputeDevice Device { get; }

    /// <summary>Bytes of weights that the device has a copy of; 0 on the CPU.</summary>
    public long CopiedBytes => _copies?.Bytes ?? 0;

    public T5Config Config => _checkpoint.Config;

    /// <summary>A matrix as it is stored, codes with their scales too; the GEMM widens it while packing.</summary>
    /// <param name="name">HF path.</param>
    public Tensor Matrix(string name)
    {
        if (_copies is not null)
            return _copies.Of(name);
        Weight weight = _checkpoint[name];
        return new Tensor(Device, weight.Address, weight.DType, weight.Shape.Elements) { Scales = weight.Scales };
    }

    /// <summary>A norm's weight or a bias table: read element by element, so it is widened to f32 once where it is stored narrow (a few KB).</summary>
    /// <param name="name">HF path.</param>
    public Tensor Vector(string name)
    {
        Tensor stored = Matrix(name);
        if (stored.DType == DType.F32)
            return stored;
        DeviceBuffer wide = Device.Allocate(DType.F32, stored.Elements, name);
        _widened.Add(wide);
        Conversion.ToF32(Device, stored, wide.Tensor, stored.Elements);
        return wide.Tensor;
    }

    /// <summary>Reads every mapped weight into memory, so that no step waits for the disk.</summary>
    /// <exception cref="IOException">The file was truncated since it was opened.</exception>
    public void ReadAll()
    {
        foreach (T5Parameter parameter in T5Parameters.Of(Config))
        {
            Weight weight = _checkpoint[parameter.Name];
            if (_checkpoint.IsMapped(weight) && !FilePages.Read(weight.Address, weight.ByteLength))
                throw new IOException($"{_checkpoint.Location}: reading '{parameter.Name}'; the file was truncated since it was opened. Export or copy it again.");
        }
    }

    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _widened)
            buffer.Dispose();
        _copies?.Dispose();
    }
}
