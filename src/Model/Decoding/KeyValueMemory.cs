// Memory for the keys and values of texts that come and go: blocks in few sizes, kept for the next text. Deliberately not: what lies in them.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Model.Decoding;

/// <summary>Keys and values of one text in every layer: per layer keys [inner, capacity], then values [capacity, inner].</summary>
internal sealed class KeyValueBlock(DeviceBuffer buffer, int capacity, int inner)
{
    public DeviceBuffer Buffer => buffer;

    /// <summary>Positions that there is room for.</summary>
    public int Capacity => capacity;

    /// <summary>f32 [inner, capacity].</summary>
    public Tensor Keys(int layer) => buffer.Tensor.Slice(2L * layer * inner * capacity, (long)inner * capacity);

    /// <summary>f32 [capacity, inner].</summary>
    public Tensor Values(int layer) => buffer.Tensor.Slice((2L * layer + 1) * inner * capacity, (long)inner * capacity);

    /// <summary>What an attention over its first positions reads.</summary>
    public CachedKeys Of(int layer, int count) => new(Keys(layer), Values(layer), count, capacity);
}

/// <summary>Lends blocks and takes them back.</summary>
/// <remarks>A text that joins or leaves costs a lookup. What is given back is kept up to a limit; beyond that it is freed, so that a crowd once does not hold memory for ever. On a device
/// with memory of its own more is kept, until somebody else needs it (<see cref="Trim"/>).</remarks>
internal sealed class KeyValueMemory(ComputeDevice device, int layers, int inner) : IDisposable
{
    private const long MostIdleBytes = 64L << 20;

    // Where taking memory waits for all work on the device: a batch of texts of a large model.
    private const long MostIdleDeviceBytes = 1L << 30;

    private readonly long _mostIdle = device is CpuDevice ? MostIdleBytes : MostIdleDeviceBytes;
    private readonly Dictionary<int, Stack<KeyValueBlock>> _idle = [];
    private long _idleBytes;

    /// <summary>A block for at least so many positions; contents undefined.</summary>
    /// <param name="positions">1 or more.</param>
    /// <exception cref="InsufficientMemoryException">The machine has no room.</exception>
    public KeyValueBlock Rent(int positions)
    {
        int capacity = Capacity(positions);
        if (_idle.TryGetValue(capacity, out Stack<KeyValueBlock>? same) && same.TryPop(out KeyValueBlock? block))
        {
            _idleBytes -= Bytes(capacity);
            return block;
        }
        return new KeyValueBlock(Take(2L * layers * inner * capacity), capacity, inner);
    }

    /// <summary>Positions of the block that is lent for so many: rounded up by a quarter at most, in steps few enough that blocks are found again.</summary>
    public static int Capacity(int positions)
    {
        long step = CachedAttention.Granule;
        while (8 * step < positions)
            step *= 2;
        return checked((int)((positions + step - 1) / step * step));
    }

    public void Return(KeyValueBlock block)
    {
        if (_idleBytes + Bytes(block.Capacity) > _mostIdle)
        {
            block.Buffer.Dispose();
            return;
        }
        if (!_idle.TryGetValue(block.Capacity, out Stack<KeyValueBlock>? same))
            _idle.Add(block.Capacity, same = new Stack<KeyValueBlock>());
        same.Push(block);
        _idleBytes += Bytes(block.Capacity);
    }

    /// <summary>Whether there is something that <see cref="Trim"/> frees.</summary>
    public bool HasIdle => _idleBytes > 0;

    /// <summary>Frees what nobody has borrowed.</summary>
    public void Trim()
    {
        foreach (Stack<KeyValueBlock> blocks in _idle.Values)
        {
            while (blocks.TryPop(out KeyValueBlock? block))
                block.Buffer.Dispose();
        }
        _idleBytes = 0;
    }

    public void Dispose() => Trim();

    private DeviceBuffer Take(long elements)
    {
        const string Purpose = "keys and values of a text";
        try
        {
            return device.Allocate(DType.F32, elements, Purpose);
        }
        catch (InsufficientMemoryException) when (HasIdle)
        {
            // Blocks of other sizes were kept: they are what is in the way.
            Trim();
            return device.Allocate(DType.F32, elements, Purpose);
        }
    }

    private long Bytes(int capacity) => 2L * layers * inner * capacity * sizeof(float);
}
