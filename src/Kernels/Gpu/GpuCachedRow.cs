// A row of CachedRows as a kernel reads it: four words, addresses turned into elements of the device's whole memory.
using ILGPU;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Gpu;

/// <summary>Where one row's keys and values lie, in floats from the beginning of the device's memory.</summary>
internal struct GpuCachedRow
{
    public long Keys, Values;
    public long Count, Capacity, First, Source;

    /// <summary>On the device: row <paramref name="index"/> of the list.</summary>
    public static GpuCachedRow Of(ArrayView<long> rows, long index, long shift)
    {
        long at = CachedRows.Words * index, lengths = rows[at + 2], from = rows[at + 3];
        return new GpuCachedRow
        {
            Keys = (rows[at] - shift) >> 2,
            Values = (rows[at + 1] - shift) >> 2,
            // Two 32-bit numbers in a word, none of them negative.
            Count = lengths & 0xFFFF_FFFFL,
            Capacity = lengths >> 32,
            First = from & 0xFFFF_FFFFL,
            Source = from >> 32,
        };
    }
}
