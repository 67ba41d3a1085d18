// Memory that a sublayer needs while it is computed, taken once for the largest batch and shared by all sublayers: one is at work at a time.
using IptNative.Kernels;
using IptNative.Kernels.Devices;

namespace IptNative.Model.Blocks;

/// <summary>Named scratch tensors that grow to the largest request and are then reused; a training step takes none after its first of that size.</summary>
internal sealed class BlockScratch(ComputeDevice device) : IDisposable
{
    private readonly DeviceBuffer?[] _slots = new DeviceBuffer?[Enum.GetValues<Slot>().Length];

    /// <summary>What a piece of scratch is for; two that are alive together have different names.</summary>
    public enum Slot
    {
        Norm,
        InverseRms,
        Query,
        Key,
        Value,
        Context,
        Gate,
        Up,
        DInner,
        Sublayer0,
        Sublayer1,
        Scores,
    }

    public ComputeDevice Device => device;

    /// <summary>Precision of the linear layers' products; null: the device's. Training takes the device's, generated answers are always float32.</summary>
    public ComputeType? Compute { get; set; }

    /// <summary>Bytes held.</summary>
    public long Bytes
    {
        get
        {
            long bytes = 0;
            foreach (DeviceBuffer? slot in _slots)
                bytes += slot is null ? 0 : slot.Tensor.DType.ByteLength(slot.Tensor.Elements);
            return bytes;
        }
    }

    /// <summary>f32 memory, contents undefined.</summary>
    /// <param name="slot">Its purpose.</param>
    /// <param name="elements">1 or more.</param>
    public Tensor Take(Slot slot, long elements)
    {
        ref DeviceBuffer? held = ref _slots[(int)slot];
        if (held is null || held.Tensor.Elements < elements)
        {
            held?.Dispose();
            held = null;
            held = device.Allocate(DType.F32, elements, $"scratch '{slot}' of a sublayer");
        }
        return held.Tensor.Slice(0, elements);
    }

    public void Dispose()
    {
        foreach (DeviceBuffer? slot in _slots)
            slot?.Dispose();
    }
}
