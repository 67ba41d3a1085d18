// What memory can move at most: the yardstick for ops that compute little. Not a benchmark of any kernel: the C library's copy takes part, and the better one counts.
using System.Diagnostics;
using System.Runtime.InteropServices;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Devices;

/// <summary>Measures the copying of a device's memory.</summary>
public static class CopyBandwidth
{
    // Twice 128 MB: beyond the last-level cache of anything but the largest servers, and little enough for a laptop.
    private const long Bytes = 128L << 20;
    private const int Pieces = 64;

    // A device's own memory: as much as a copy of some milliseconds takes, at most twice 256 MB and an eighth of what is free; several copies between two
    // waits, so that launches do not count.
    private const long FirstBytes = 1 << 14;
    private const double LongCopy = 5e-3;
    private const int FreeShare = 16;
    private const int CopiesOfDevice = 8;

    /// <summary>Copies and returns the best rate seen.</summary>
    /// <param name="device">Whose memory is measured.</param>
    /// <param name="repeats">Copies of either kind, 1 or more.</param>
    /// <returns>Bytes a second, those read and those written together.</returns>
    /// <exception cref="InsufficientMemoryException">No room for two times 128 MB.</exception>
    public static double Measure(ComputeDevice device, int repeats)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentOutOfRangeException.ThrowIfLessThan(repeats, 1);
        return device is CpuDevice cpu ? OfHost(cpu, repeats) : OfDevice(device, repeats);
    }

    private static double OfDevice(ComputeDevice device, int repeats)
    {
        long most = Math.Min(2 * Bytes, (device.FreeBytes ?? Bytes) / FreeShare), bytes = Math.Max(FirstBytes, most);
        using DeviceBuffer from = device.Allocate(DType.F32, bytes / sizeof(float), "copy bandwidth, source"), to = device.Allocate(DType.F32, bytes / sizeof(float), "copy bandwidth, target");
        long elements = FirstBytes / sizeof(float);
        Copy(1);
        while (Copy(1) < LongCopy && 2 * elements <= from.Tensor.Elements)
            elements *= 2;
        double best = double.MaxValue;
        for (int i = 0; i < repeats; i++)
            best = Math.Min(best, Copy(CopiesOfDevice));
        return 2.0 * sizeof(float) * elements * CopiesOfDevice / best;

        double Copy(int copies)
        {
            long begin = Stopwatch.GetTimestamp();
            for (int copy = 0; copy < copies; copy++)
                Elementwise.Copy(device, from.Tensor.Slice(0, elements), to.Tensor.Slice(0, elements), elements);
            device.Synchronize();
            return Stopwatch.GetElapsedTime(begin).TotalSeconds;
        }
    }

    private static double OfHost(CpuDevice device, int repeats)
    {
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
