// Where the rows of ragged batches begin, on the device. Every sublayer of a pass asks for the same few lists: each is brought there once, not once a call.
using System.Runtime.InteropServices;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Gpu;

/// <summary>The lists that were asked for last, found by what they say.</summary>
internal sealed class StagedOffsets(IlgpuDevice device) : IDisposable
{
    // Sources and targets of a step, and of the one before: an op asks for two at a time.
    private const int Kept = 4;

    // Of a batch of a few examples; longer ones get their own.
    private const int FewOffsets = 64;

    private readonly List[] _lists = new List[Kept];
    private long _asked;

    private struct List
    {
        public int[] Values;
        public int Count;
        public long AskedAt;
        public DeviceBuffer? There;
    }

    /// <summary>i32 [offsets.Length] on the device, valid until two other lists have been asked for.</summary>
    public Tensor Of(ReadOnlySpan<int> offsets)
    {
        int oldest = 0;
        for (int i = 0; i < Kept; i++)
        {
            ref List list = ref _lists[i];
            if (list.Count == offsets.Length && offsets.SequenceEqual(list.Values.AsSpan(0, list.Count)))
            {
                list.AskedAt = ++_asked;
                return list.There!.Tensor.Slice(0, list.Count); // a list that is not empty is there
            }
            if (list.AskedAt < _lists[oldest].AskedAt)
                oldest = i;
        }
        ref List taken = ref _lists[oldest];
        if (taken.There is null || taken.There.Tensor.Elements < offsets.Length)
        {
            // Kernels in flight may still read the old one.
            device.Synchronize();
            taken.There?.Dispose();
            (taken.There, taken.Count) = (null, 0);
            int room = Math.Max(FewOffsets, (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)offsets.Length));
            taken.There = device.Allocate(DType.I32, room, "offsets of ragged rows");
            taken.Values = new int[room];
        }
        // In order with the kernels: those before have read what was there.
        device.Upload(MemoryMarshal.AsBytes(offsets), taken.There.Tensor.Address);
        offsets.CopyTo(taken.Values);
        (taken.Count, taken.AskedAt) = (offsets.Length, ++_asked);
        return taken.There.Tensor.Slice(0, offsets.Length);
    }

    public void Dispose()
    {
        foreach (List list in _lists)
            list.There?.Dispose();
    }
}
