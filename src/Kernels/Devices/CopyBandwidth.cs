// What memory can move at most: the yardstick for ops that compute little. Not a benchmark of any kernel: the C library's copy takes part, and the better one counts.
using System.Diagnostics;
using System.Runtime.InteropServices;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Devices;

/// <summary>Measures the copying of memory by a CPU device's threads together.</summary>
public static class CopyBandwidth
{
    // Twice 128 MB: beyond the last-level cache of anything but the largest servers, and little enough for a laptop.
    private const long Bytes = 128L << 20;
    private const int Pieces = 64;

    /// <summary>Copies and returns the best rate seen.</summary>
    /// <param name="device">Whose threads are measured.</param>
    /// <param name="repeats">Copies of either kind, 1 or more.</param>
    /// <returns>Bytes a second, those read and those written together.</returns>
    /// <exception cref="InsufficientMemoryException">No room for two times 128 MB.</exception>
    public static double Measure(CpuDevice device, int repeats)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentOutOfRangeException.ThrowIfLessThan(repeats, 1);
        using DeviceBuffer from = device.Allocate(DType.F32, Bytes / sizeof(float), "copy bandwidth, source");
        using DeviceBuffer to = device.Allocate(DType.F32, Bytes / sizeof(float), "copy bandwidth, target");
        Elementwise.Fill(device, from.Tensor, from.Tensor.Elements, 1);
        Elementwise.Fill(device, to.Tensor, to.Tensor.Elements, 0);
        double best = double.MaxValue;
        var library = new LibraryCopy { From = from.Tensor.Address, To = to.Tensor.Address };
        for (int i = 0; i < repeats; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            Elementwise.Copy(device, from.Tensor, to.Tensor, from.Tensor.Elements);
            best = Math.Min(best, Stopwatch.GetElapsedTime(begin).TotalSeconds);
            begin = Stopwatch.GetTimestamp();
            device.Pool.Run(Pieces, ref library);
            best = Math.Min(best, Stopwatch.GetElapsedTime(begin).TotalSeconds);
        }
        return 2.0 * Bytes / best;
    }

    // Passes the caches by where that is faster.
    private unsafe struct LibraryCopy : IParallelBody
    {
        public nint From, To;

        public readonly void Invoke(int task, int worker)
        {
            nint offset = (nint)(task * (Bytes / Pieces));
            NativeMemory.Copy((void*)(From + offset), (void*)(To + offset), (nuint)(Bytes / Pieces));
        }
    }
}
