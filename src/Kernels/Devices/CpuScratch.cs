// The packing memory of the CPU's matrix product, taken once per device so that no op allocates.
using System.Runtime.InteropServices;

namespace IptNative.Kernels.Devices;

/// <summary>One shared block for the packed operand B, and for each worker one block for A and one panel of B. Untouched pages cost nothing.</summary>
internal sealed unsafe class CpuScratch : IDisposable
{
    private readonly float* _memory;
    private readonly long _perWorker;
    private readonly long _shared;
    private readonly long _panelOffset;
    private bool _freed;

    public CpuScratch(int workers, long sharedFloats, long blockFloats, long panelFloats)
    {
        _shared = Padded(sharedFloats);
        _panelOffset = Padded(blockFloats);
        _perWorker = _panelOffset + Padded(panelFloats);
        _memory = (float*)NativeMemory.AlignedAlloc((nuint)((_shared + workers * _perWorker) * sizeof(float)), CpuDevice.Alignment);
    }

    ~CpuScratch() => Free();

    public float* SharedB => _memory;

    public long FloatsPerWorker => _perWorker;

    public float* BlockOf(int worker) => _memory + _shared + worker * _perWorker;

    public float* PanelOf(int worker) => BlockOf(worker) + _panelOffset;

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    // A spare pair of cache lines keeps one worker's end from another's beginning.
    private static long Padded(long floats) => (floats + 63) / 32 * 32;

    private void Free()
    {
        if (!_freed)
            NativeMemory.AlignedFree(_memory);
        _freed = true;
    }
}
