// Where the keys and values of a step's rows lie, for all of its attentions at once: a device is told in one transfer, not in one for each sublayer.
// Deliberately not: owning that memory, filling it (KeyValueStore), reading it (CachedAttention).
using System.Runtime.CompilerServices;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>What one row attends to.</summary>
/// <param name="Keys">f32 [H*K, Capacity]: transposed, so that the scores of neighbouring keys are neighbouring lanes.</param>
/// <param name="Values">f32 [Capacity, H*K].</param>
/// <param name="Count">Positions that are filled, 1 or more; those that are to be stored included.</param>
/// <param name="Capacity">Positions that there is memory for, a multiple of <see cref="CachedAttention.Granule"/>.</param>
public readonly record struct CachedKeys(Tensor Keys, Tensor Values, int Count, int Capacity);

/// <summary>A list of <see cref="CachedKeys"/> on its way to a device; used again for every step. On the CPU nothing is copied.</summary>
/// <param name="device">Where the rows' memory lies.</param>
/// <param name="inner">H*K, width of a key and of a value.</param>
public sealed unsafe class CachedRows(ComputeDevice device, int inner) : IDisposable
{
    /// <summary>64-bit words of a row on the device.</summary>
    internal const int Words = 4;

    // What a device's 16-byte loads need.
    private const int Alignment = 16;

    private Row[] _rows = [];
    private DeviceBuffer? _there;
    private int _sent;

    /// <summary>A row as kernels read it: on a device the same four words.</summary>
    internal struct Row
    {
        public nint Keys, Values;
        public int Count, Capacity;

        /// <summary>Position of the first key that is stored next, and its row among what is stored.</summary>
        public int First, Source;
    }

    /// <summary>Rows in the list.</summary>
    public int Count { get; private set; }

    /// <summary>The rows on the host; they do not move until the list grows.</summary>
    internal Row* Host => Count == 0 ? null : (Row*)Unsafe.AsPointer(ref _rows[0]);

    /// <summary>i64 [Count, <see cref="Words"/>] on the device.</summary>
    internal Tensor There => _there!.Tensor; // asked for by an op on the device, whose rows were sent

    /// <summary>Takes all rows out.</summary>
    public void Clear() => (Count, _sent) = (0, 0);

    /// <summary>Adds a row.</summary>
    /// <param name="row">Where it lies.</param>
    /// <param name="first">Position of the first key that <see cref="KeyValueStore.Append"/> fills; it fills those up to the row's count. The count where nothing is stored.</param>
    /// <param name="source">Row of that key among those that are stored.</param>
    /// <exception cref="ArgumentException">The row's memory is not what its numbers say.</exception>
    public void Add(in CachedKeys row, int first, int source)
    {
        const string Op = "CachedRows.Add";
        if (row.Count < 1 || row.Count > row.Capacity || row.Capacity % CachedAttention.Granule != 0)
            throw new ArgumentException($"{Op}: row {Count} has {row.Count} positions in room for {row.Capacity}, expected 1 to its capacity, and a multiple of {CachedAttention.Granule} of that.", nameof(row));
        if ((uint)first > (uint)row.Count || source < 0)
            throw new ArgumentException($"{Op}: row {Count} is filled from position {first} with row {source}, expected 0 to its {row.Count} positions, and a row from 0 on.", nameof(first));
        Require.Shape(Op, device, row.Keys, "row.Keys", DType.F32, "[H*K, Capacity]", inner, row.Capacity);
        Require.Shape(Op, device, row.Values, "row.Values", DType.F32, "[Capacity, H*K]", row.Capacity, inner);
        if (device is not CpuDevice && ((row.Keys.Address | row.Values.Address) & (Alignment - 1)) != 0)
            throw new ArgumentException($"{Op}: row {Count} begins at {row.Keys.Address:x} and {row.Values.Address:x} on {device.Name}, expected multiples of {Alignment} bytes.", nameof(row));
        if (Count == _rows.Length)
            Grow();
        _rows[Count++] = new Row { Keys = row.Keys.Address, Values = row.Values.Address, Count = row.Count, Capacity = row.Capacity, First = first, Source = source };
    }

    /// <summary>Tells the device; after the last <see cref="Add"/>.</summary>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    public void Send()
    {
        _sent = Count;
        if (device is CpuDevice || Count == 0)
            return;
        long words = (long)Count * Words;
        if (_there is null || _there.Tensor.Elements < words)
        {
            _there?.Dispose();
            _there = null;
            _there = device.Allocate(DType.I64, (long)_rows.Length * Words, "where keys and values lie");
        }
        device.CopyFromHost(new ReadOnlySpan<byte>(Host, Count * sizeof(Row)), _there.Tensor.Slice(0, words));
    }

    /// <inheritdoc/>
    public void Dispose() => _there?.Dispose();

    /// <summary>Checks a stretch of the list for an op.</summary>
    /// <returns>Its largest capacity and its longest row.</returns>
    internal (int Capacity, int Longest) Range(string op, ComputeDevice on, int first, int count, long width)
    {
        Require.Dim(op, count, "R");
        if (!ReferenceEquals(on, device) || width != inner)
            throw new ArgumentException($"{op}: rows are of width {inner} on {device.Name}, expected {width} on {on.Name}.", nameof(width));
        if (first < 0 || first > _sent - count)
            throw new ArgumentException($"{op}: rows {first} to {first + count - 1} of {_sent} that were sent, expected some of them. Call Send after the last Add.", nameof(first));
        int capacity = 0, longest = 0;
        for (int r = first; r < first + count; r++)
        {
            capacity = Math.Max(capacity, _rows[r].Capacity);
            longest = Math.Max(longest, _rows[r].Count);
        }
        return (capacity, longest);
    }

    // Pinned: kernels read it in place.
    private void Grow()
    {
        Row[] larger = GC.AllocateUninitializedArray<Row>(Math.Max(64, 2 * _rows.Length), pinned: true);
        _rows.AsSpan(0, Count).CopyTo(larger);
        _rows = larger;
    }
}
