// How packing reads a stored matrix: one struct per element type, expanding to float on the way. Deliberately not: packing itself (Packing.cs).
// A block-quantised format fits as another struct that holds codes and scales: row and column are given so that it finds the block, and
// packing asks for groups of 1, 4 or 16 that start at multiples of their size from the matrix' corner, so a group never straddles a block of 16 or more.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

/// <summary>A row-major matrix of any stored type, read as float.</summary>
/// <typeparam name="TSelf">The implementing struct.</typeparam>
internal interface IPackSource<TSelf>
    where TSelf : unmanaged, IPackSource<TSelf>
{
    /// <summary>The matrix that begins <paramref name="elements"/> further: a batch entry.</summary>
    TSelf At(long elements);

    /// <summary>The matrix that begins at row <paramref name="row"/>.</summary>
    TSelf Row(long row);

    /// <summary>As many neighbours of a row as <typeparamref name="V"/> has lanes.</summary>
    V Load<V>(long row, long column)
        where V : unmanaged, ISimd<V>;

    /// <summary>Asks for the line of an element that is read soon; it need not exist.</summary>
    void Prefetch(long row, long column);
}

/// <summary>Stored floats.</summary>
internal readonly unsafe struct F32Source(float* data, long ld) : IPackSource<F32Source>
{
    public F32Source At(long elements) => new(data + elements, ld);

    public F32Source Row(long row) => new(data + row * ld, ld);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public V Load<V>(long row, long column)
        where V : unmanaged, ISimd<V> => V.Load(data + row * ld + column);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Prefetch(long row, long column)
    {
        if (Sse.IsSupported)
            Sse.Prefetch0(data + row * ld + column);
    }
}

/// <summary>Stored bfloat16.</summary>
internal readonly unsafe struct BF16Source(ushort* data, long ld) : IPackSource<BF16Source>
{
    public BF16Source At(long elements) => new(data + elements, ld);

    public BF16Source Row(long row) => new(data + row * ld, ld);

    /// <summary>The stored bits, for packing that needs no float.</summary>
    public ushort* Bits(long row, long column) => data + row * ld + column;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public V Load<V>(long row, long column)
        where V : unmanaged, ISimd<V> => V.LoadBF16(data + row * ld + column);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Prefetch(long row, long column)
    {
        if (Sse.IsSupported)
            Sse.Prefetch0(data + row * ld + column);
    }
}

/// <summary>Stored binary16.</summary>
internal readonly unsafe struct F16Source(ushort* data, long ld) : IPackSource<F16Source>
{
    public F16Source At(long elements) => new(data + elements, ld);

    public F16Source Row(long row) => new(data + row * ld, ld);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public V Load<V>(long row, long column)
        where V : unmanaged, ISimd<V> => V.LoadF16(data + row * ld + column);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Prefetch(long row, long column)
    {
        if (Sse.IsSupported)
            Sse.Prefetch0(data + row * ld + column);
    }
}
