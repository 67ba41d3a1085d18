// ILGPU.ArrayView: a typed window on device memory. Deliberately not the strided, 2D or page-locked views: no kernel here uses them.
using System.Runtime.CompilerServices;
using ILGPU.Emulation;
using ILGPU.Runtime;

namespace ILGPU;

/// <summary>A piece of device memory, checked at every access.</summary>
/// <typeparam name="T">Element type.</typeparam>
public readonly unsafe struct ArrayView<T>
    where T : unmanaged
{
    private readonly MemoryBlock? _block;
    private readonly nint _address;

    // The whole memory: which allocation is meant shows at each access.
    private readonly DeviceMemory? _space;

    /// <summary>Elements from <paramref name="index"/> on, counted from the buffer's address.</summary>
    /// <exception cref="InvalidOperationException">The range is inside no allocation.</exception>
    public ArrayView(MemoryBuffer source, long index, long length)
    {
        ArgumentNullException.ThrowIfNull(source);
        _address = source.NativePtr + (nint)(index * sizeof(T));
        Length = length;
        if (index == 0 && length == long.MaxValue / sizeof(T) && source.Length == long.MaxValue)
        {
            _space = source.Accelerator.Memory;
            return;
        }
        _block = length == 0 ? null : source.Accelerator.Memory.Find(_address, length * sizeof(T));
    }

    internal ArrayView(MemoryBlock? block, nint address, long length, DeviceMemory? space = null)
    {
        _block = block;
        _space = space;
        _address = address;
        Length = length;
    }

    public long Length { get; }

    public int IntLength => checked((int)Length);

    public bool IsValid => _block is not null || _space is not null;

    public ref T this[int index] => ref this[(long)index];

    public ref T this[long index]
    {
        get
        {
            if ((ulong)index >= (ulong)Length)
                throw new InvalidOperationException($"{EmulatedThread.Describe()} reaches element {index} of a view of {Length} ({typeof(T).Name}).");
            nint at = _address + (nint)(index * sizeof(T));
            if (at % Alignment != 0)
                throw new InvalidOperationException($"{EmulatedThread.Describe()} reads {sizeof(T)} bytes at an address that is no multiple of {Alignment}: a GPU faults here.");
            MemoryBlock block = _space?.Find(at, sizeof(T)) ?? _block!; // not null: a view with elements has a block
            if (block.IsFreed)
                throw new InvalidOperationException($"{EmulatedThread.Describe()} reaches memory that was freed.");
            EmulatedThread.Current?.Log.Add(block, at, sizeof(T));
            return ref Unsafe.AsRef<T>((void*)at);
        }
    }

    public ArrayView<T> SubView(long index, long subViewLength)
    {
        if (index < 0 || subViewLength < 0 || index > Length - subViewLength)
            throw new InvalidOperationException($"{EmulatedThread.Describe()} takes [{index}, {index + subViewLength}) of a view of {Length} ({typeof(T).Name}).");
        return new ArrayView<T>(_block, _address + (nint)(index * sizeof(T)), subViewLength, _space);
    }

    public ArrayView<TOther> Cast<TOther>()
        where TOther : unmanaged => new(_block, _address, (long)((Int128)Length * sizeof(T) / sizeof(TOther)), _space);

    // A struct of four floats is moved by one 16-byte instruction.
    private static int Alignment => sizeof(T) is 1 or 2 or 4 or 8 or 16 ? sizeof(T) : 4;
}
