// What this device can do at best, measured: the yardsticks of `profile`. No kernel of a model is timed here.
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Tuning.Benchmarks;

/// <summary>A device's own limits; the best of several measurements, since whatever else runs on the machine only takes away.</summary>
/// <param name="CopyBytesPerSecond">Copying memory too large for any cache, bytes read and written.</param>
/// <param name="FmaFlopsPerSecond">float32 fused multiply-adds on registers; in a profile the median of measurements beside the steps, each the best of a tenth of a second.</param>
/// <param name="BF16FlopsPerSecond">A product of friendly size with bf16 compute: the CPU's bf16 machine code, a GPU's tensor cores (tf32 where the weights are f32); 0 where there is none.</param>
/// <param name="LaunchSeconds">An op on one element, from call to return; on a GPU until it is done.</param>
public sealed record ProfileCeilings(double CopyBytesPerSecond, double FmaFlopsPerSecond, double BF16FlopsPerSecond, double LaunchSeconds)
{
    private const int Repeats = 7;
    private const int LaunchRepeats = 2000;
    private const int ProductRepeats = 40;
    // A square whose operands fit the second-level caches by blocks, a multiple of every tile.
    private const int ProductSize = 1152;

    // A GPU has more to keep busy: the square doubles as long as its product takes less than some milliseconds.
    private const int FirstDeviceProductSize = 64;
    private const int DeviceProductSize = 4096;
    private const double LongProduct = 2e-3;
    private const int DeviceProductRepeats = 5;
    private const int DeviceLaunchRepeats = 100;

    /// <summary>Measures; about a second and a half.</summary>
    /// <param name="device">The device.</param>
    /// <param name="weights">Stored type of the matrices that products read.</param>
    /// <param name="cancel">Stops between two measurements.</param>
    /// <exception cref="InsufficientMemoryException">No room for the copy.</exception>
    public static ProfileCeilings Measure(ComputeDevice device, DType weights, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(device);
        double copy = CopyBandwidth.Measure(device, Repeats);
        cancel.ThrowIfCancellationRequested();
        double launch = Launch(device);
        cancel.ThrowIfCancellationRequested();
        double bf16 = device is not CpuDevice ? ProductOf(device, weights == DType.F32 ? DType.F32 : DType.BF16)
            : MachineCodeStatus.Current.IsActive ? Product(device, DType.BF16, ProductSize, ProductRepeats) : 0;
        cancel.ThrowIfCancellationRequested();
        return new ProfileCeilings(copy, FmaPeak.Measure(device, 0.4) * 1e9, bf16, launch);
    }

    /// <summary>The same with another measurement of the peaks taken into account.</summary>
    /// <param name="other">Of the same device.</param>
    public ProfileCeilings Best(ProfileCeilings other)
    {
        ArgumentNullException.ThrowIfNull(other);
        return new ProfileCeilings(Math.Max(CopyBytesPerSecond, other.CopyBytesPerSecond), Math.Max(FmaFlopsPerSecond, other.FmaFlopsPerSecond),
            Math.Max(BF16FlopsPerSecond, other.BF16FlopsPerSecond), Math.Min(LaunchSeconds, other.LaunchSeconds));
    }

    /// <summary>The least time that an op can take, and what holds it back.</summary>
    /// <param name="cost">Its floor.</param>
    /// <param name="bf16">A product of bf16 operands.</param>
    /// <returns>Seconds; memory, compute or launch.</returns>
    public (double Seconds, string Bound) Floor(in OpCost cost, bool bf16)
    {
        double memory = cost.Bytes / CopyBytesPerSecond;
        double compute = cost.Flops / (bf16 && BF16FlopsPerSecond > 0 ? BF16FlopsPerSecond : FmaFlopsPerSecond);
        return LaunchSeconds >= memory && LaunchSeconds >= compute ? (LaunchSeconds, "launch") : memory >= compute ? (memory, "memory") : (compute, "compute");
    }

    private static double ProductOf(ComputeDevice device, DType weights)
    {
        double best = 0;
        for (int size = FirstDeviceProductSize; size <= DeviceProductSize; size *= 2)
        {
            // Three matrices of it, and half of what is free for all else.
            if (device.FreeBytes is { } free && 6L * sizeof(float) * size * size > free)
                break;
            double rate = Product(device, weights, size, DeviceProductRepeats);
            best = Math.Max(best, rate);
            if (2.0 * size * size * size / rate > LongProduct)
                break;
        }
        return best;
    }

    private static double Launch(ComputeDevice device)
    {
        using DeviceBuffer one = device.Allocate(DType.F32, 1, "launch latency");
        double[] seconds = new double[device is CpuDevice ? LaunchRepeats : DeviceLaunchRepeats];
        for (int i = 0; i < seconds.Length; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            Elementwise.Fill(device, one.Tensor, 1, i);
            device.Synchronize();
            seconds[i] = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        }
        Array.Sort(seconds);
        return seconds[seconds.Length / 2];
    }

    private static double Product(ComputeDevice device, DType weights, int size, int repeats)
    {
        long elements = (long)size * size;
        using DeviceBuffer a = device.Allocate(DType.F32, elements, "product, A"), b = device.Allocate(weights, elements, "product, B"), c = device.Allocate(DType.F32, elements, "product, C");
        Elementwise.Fill(device, a.Tensor, elements, 0.5f);
        if (weights == DType.F32)
            Elementwise.Fill(device, b.Tensor, elements, 0.5f);
        else
            Conversion.FromF32(device, a.Tensor, b.Tensor, elements);
        double best = double.MaxValue;
        for (int i = 0; i < repeats; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            Gemm.Run(device, new GemmArgs { A = a.Tensor, B = b.Tensor, C = c.Tensor, M = size, N = size, K = size, TransB = true, Compute = ComputeType.BF16 });
            device.Synchronize();
            best = Math.Min(best, Stopwatch.GetElapsedTime(begin).TotalSeconds);
        }
        return 2.0 * elements * size / best;
    }
}
