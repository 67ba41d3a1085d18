// One tensor laid out in native memory because its bytes in the file cannot be used in place. Deliberately not: type conversion.
using System.Runtime.InteropServices;

namespace IptNative.Model.Checkpoints;

/// <summary>A contiguous, aligned copy of a strided or unaligned tensor.</summary>
internal sealed unsafe class NativeCopy : IDisposable
{
    // A cache line, and what AVX-512 loads want.
    private const int Alignment = 64;

    private void* _memory;

    private NativeCopy(long bytes) => _memory = NativeMemory.AlignedAlloc(checked((nuint)Math.Max(bytes, 1)), Alignment);

    ~NativeCopy() => Free();

    public nint Address => (nint)_memory;

    /// <summary>Copies elements in row-major order.</summary>
    /// <param name="source">The tensor's first element; every strided element is known to be readable.</param>
    /// <param name="shape">Dimensions.</param>
    /// <param name="strides">Elements to step per dimension.</param>
    /// <param name="elementBytes">1, 2, 4 or 8.</param>
    /// <param name="bytes">Bytes of the result.</param>
    public static NativeCopy Of(nint source, ReadOnlySpan<long> shape, ReadOnlySpan<long> strides, int elementBytes, long bytes)
    {
        var copy = new NativeCopy(bytes);
        // An empty tensor may have huge other dimensions: nothing to walk.
        if (bytes == 0)
            return copy;
        switch (elementBytes)
        {
            case 1:
                Gather((byte*)source, (byte*)copy._memory, shape, strides);
                break;
            case 2:
                Gather((ushort*)source, (ushort*)copy._memory, shape, strides);
                break;
            case 4:
                Gather((uint*)source, (uint*)copy._memory, shape, strides);
                break;
            default:
                Gather((ulong*)source, (ulong*)copy._memory, shape, strides);
                break;
        }
        return copy;
    }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private static T* Gather<T>(T* source, T* target, ReadOnlySpan<long> shape, ReadOnlySpan<long> strides)
        where T : unmanaged
    {
        if (shape.Length == 0)
        {
            *target = *source;
            return target + 1;
        }
        if (shape.Length == 1)
        {
            for (long i = 0; i < shape[0]; i++)
                *target++ = source[i * strides[0]];
            return target;
        }
        for (long i = 0; i < shape[0]; i++)
            target = Gather(source + i * strides[0], target, shape[1..], strides[1..]);
        return target;
    }

    private void Free()
    {
        NativeMemory.AlignedFree(_memory);
        _memory = null;
    }
}
