// Working memory of ops whose needs depend on their sizes: one block per worker, grown when an op asks for more than any did before.
// Deliberately not the packing memory of the matrix product (CpuScratch.cs), whose size is known from the start.
using System.Runtime.InteropServices;

namespace IptNative.Kernels.Devices;

/// <summary>Native memory for each worker of a pool; kept from op to op, so that none allocates twice. Used under the pool's gate.</summary>
internal sealed unsafe class WorkerMemory(int workers) : IDisposable
{
    private float* _memory;
    private long _perWorker;

    ~WorkerMemory() => Free();

    /// <summary>Makes sure of the size; what the memory held is lost.</summary>
    /// <param name="floats">For each worker, 1 or more.</param>
    /// <param name="purpose">Named when memory runs out.</param>
    /// <param name="perWorker">Floats from one worker's memory to the next one's.</param>
    /// <returns>Worker 0's memory.</returns>
    /// <exception cref="InsufficientMemoryException">The machine has no room.</exception>
    public float* Take(long floats, string purpose, out long perWorker)
    {
        if (floats > _perWorker)
        {
            Free();
            // A spare pair of cache lines keeps one worker's end from another's beginning.
            long padded = (floats + 63) / 32 * 32;
            _memory = Allocate(padded * workers, purpose);
            _perWorker = padded;
        }
        perWorker = _perWorker;
        return _memory;
    }

    /// <summary>Takes memory of the caller's own; free it by <see cref="NativeMemory.AlignedFree"/>.</summary>
    public static float* Allocate(long floats, string purpose)
    {
        long bytes = checked(floats * sizeof(float));
        try
        {
            return (float*)NativeMemory.AlignedAlloc((nuint)bytes, CpuDevice.Alignment);
        }
        catch (OutOfMemoryException e)
        {
            throw new InsufficientMemoryException($"{purpose}: taking {bytes} bytes of host memory failed. Use shorter inputs or fewer threads.", e);
        }
    }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        NativeMemory.AlignedFree(_memory);
        _memory = null;
        _perWorker = 0;
    }
}
