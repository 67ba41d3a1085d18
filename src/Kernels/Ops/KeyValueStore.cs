// Filling the memory that CachedAttention reads, and copying it for a text that goes on in two ways. Deliberately not: lending that memory.
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Keys and values of new positions into each row's own memory (HF: DynamicCache.update).</summary>
/// <remarks>
/// Shapes    k, v: [R, H*K], a row a position; a row's keys are kept as [H*K, capacity], its values as [capacity, H*K]. Numbers are moved, never changed.
/// </remarks>
public static unsafe partial class KeyValueStore
{
    /// <summary>Stores positions: of each row those from its first to its count, from the rows of k and v from its source on.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="k">f32 [R, H*K].</param>
    /// <param name="v">f32 [R, H*K].</param>
    /// <param name="rows">Where to, sent to the device.</param>
    /// <param name="first">The first of them.</param>
    /// <param name="count">How many, 1 or more.</param>
    /// <param name="inner">H*K, 1 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a row is filled from positions that are not there.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Append(ComputeDevice device, Tensor k, Tensor v, CachedRows rows, int first, int count, int inner)
    {
        const string Op = "KeyValueStore.Append";
        ArgumentNullException.ThrowIfNull(rows);
        Require.Dim(Op, inner, nameof(inner));
        rows.Range(Op, device, first, count, inner);
        long positions = k.Elements / inner;
        int longest = 0;
        for (int r = first; r < first + count; r++)
        {
            CachedRows.Row row = rows.Host[r];
            int added = row.Count - row.First;
            if (row.Source > positions - added)
                throw new ArgumentException($"{Op}: row {r} takes positions {row.Source} to {row.Source + added - 1}, expected some of the {positions} that k has.", nameof(rows));
            longest = Math.Max(longest, added);
        }
        Require.Shape(Op, device, k, nameof(k), DType.F32, "[R, H*K]", positions, inner);
        Require.Shape(Op, device, v, nameof(v), DType.F32, "[R, H*K]", positions, inner);
        switch (device)
        {
            case CpuDevice:
                for (int r = first; r < first + count; r++)
                    AppendHere(rows.Host[r], (float*)k.Address, (float*)v.Address, inner);
                break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Append(gpu, k, v, rows, first, count, longest, inner); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>Copies the first positions of a block, in every layer, into another one's.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="from">f32 [layers, 2, H*K, capacity]: keys [H*K, capacity], then values [capacity, H*K].</param>
    /// <param name="fromCapacity">Its capacity, a multiple of <see cref="CachedAttention.Granule"/>.</param>
    /// <param name="to">The same with another capacity; what lies behind the positions is undefined.</param>
    /// <param name="toCapacity">Its capacity.</param>
    /// <param name="layers">1 or more.</param>
    /// <param name="inner">H*K, 1 or more.</param>
    /// <param name="positions">1 to the smaller capacity.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or the positions do not fit.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Copy(ComputeDevice device, Tensor from, int fromCapacity, Tensor to, int toCapacity, int layers, int inner, int positions)
    {
        const string Op = "KeyValueStore.Copy";
        Require.Dim(Op, layers, nameof(layers));
        Require.Dim(Op, inner, nameof(inner));
        Require.Dim(Op, positions, nameof(positions));
        if (fromCapacity % CachedAttention.Granule != 0 || toCapacity % CachedAttention.Granule != 0 || positions > Math.Min(fromCapacity, toCapacity))
            throw new ArgumentException($"{Op}: found {positions} positions, room for {fromCapacity} and for {toCapacity}, expected no more than either, and multiples of {CachedAttention.Granule}.", nameof(positions));
        Require.Shape(Op, device, from, nameof(from), DType.F32, "[layers, 2, H*K, capacity]", layers, 2, inner, fromCapacity);
        Require.Shape(Op, device, to, nameof(to), DType.F32, "[layers, 2, H*K, capacity]", layers, 2, inner, toCapacity);
        switch (device)
        {
            case CpuDevice: CopyHere((float*)from.Address, fromCapacity, (float*)to.Address, toCapacity, layers, inner, positions); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Copy(gpu, from, fromCapacity, to, toCapacity, layers, inner, positions); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    // Keys lie transposed: a position is a column.
    private static void AppendHere(CachedRows.Row row, float* k, float* v, int inner)
    {
        int added = row.Count - row.First;
        float* keys = (float*)row.Keys + row.First, made = k + (long)row.Source * inner;
        // A few columns at a time: each is a cache line of its own, and a neighbour's position writes to it next.
        const int Columns = 16;
        for (int first = 0; first < inner; first += Columns)
        {
            int end = Math.Min(first + Columns, inner);
            for (int p = 0; p < added; p++)
            {
                for (int i = first; i < end; i++)
                    keys[(long)i * row.Capacity + p] = made[(long)p * inner + i];
            }
        }
        new ReadOnlySpan<float>(v + (long)row.Source * inner, added * inner).CopyTo(new Span<float>((float*)row.Values + (long)row.First * inner, added * inner));
    }

    private static void CopyHere(float* from, int fromCapacity, float* to, int toCapacity, int layers, int inner, int positions)
    {
        for (int layer = 0; layer < layers; layer++, from += 2L * inner * fromCapacity, to += 2L * inner * toCapacity)
        {
            for (int i = 0; i < inner; i++)
                new ReadOnlySpan<float>(from + (long)i * fromCapacity, positions).CopyTo(new Span<float>(to + (long)i * toCapacity, positions));
            new ReadOnlySpan<float>(from + (long)inner * fromCapacity, positions * inner).CopyTo(new Span<float>(to + (long)inner * toCapacity, positions * inner));
        }
    }
}
