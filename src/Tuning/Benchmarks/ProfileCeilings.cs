// What this device can do at best, measured: the yardsticks of `profile`. No kernel of a model is timed here.
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Tuning.Benchmarks;

/// <summary>A device's own limits; the best of several measurements, since whatever else runs on the machine only takes away.</summary>
/// <param name="CopyBytesPerSecond">Copying memory too large for any cache, bytes read and written.</param>
/// <param name="FmaFlopsPerSecond">float32 fused multiply-adds on registers; in a profile the median of measurements beside the steps, each the best of a tenth of a second.</param>
/// <param name="BF16FlopsPerSecond">The bf16 machine code on a product of friendly size; 0 where there is none.</param>
/// <param name="LaunchSeconds">An op on one element, from call to return.</param>
public sealed record ProfileCeilings(double CopyBytesPerSecond, double FmaFlopsPerSecond, double BF16FlopsPerSecond, double LaunchSeconds)
{
    private const int Repeats = 7;
    private const int LaunchRepeats = 2000;
    private const int ProductRepeats = 40;
    // A square whose operands fit the second-level caches by blocks, a multiple of every tile.
    private const int ProductSize = 1152;

    /// <summary>Measures; about a second and a half.</summary>
    /// <param name="device">The device.</param>
    /// <param name="cancel">Stops between two measurements.</param>
    /// <exception cref="InsufficientMemoryException">No room for the copy.</exception>
    public static ProfileCeilings Measure(CpuDevice device, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(device);
        double copy = CopyBandwidth.Measure(device, Repeats);
        cancel.ThrowIfCancellationRequested();
        double launch = Launch(device);
        cancel.ThrowIfCancellationRequested();
        double bf16 = MachineCodeStatus.Current.IsActive ? Product(device) : 0;
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

    private static double Launch(CpuDevice device)
    {
        using DeviceBuffer one = device.Allocate(DType.F32, 1, "launch latency");
        double[] seconds = new double[LaunchRepeats];
        for (int i = 0; i < seconds.Length; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            Elementwise.Fill(device, one.Tensor, 1, i);
            seconds[i] = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        }
        Array.Sort(seconds);
        return seconds[seconds.Length / 2];
    }

    private static double Product(CpuDevice device)
    {
        long elements = (long)ProductSize * ProductSize;
        using DeviceBuffer a = device.Allocate(DType.F32, elements, "product, A"), b = device.Allocate(DType.BF16, elements, "product, B"), c = device.Allocate(DType.F32, elements, "product, C");
        Elementwise.Fill(device, a.Tensor, elements, 0.5f);
        Conversion.FromF32(device, a.Tensor, b.Tensor, elements);
        double best = double.MaxValue;
        for (int i = 0; i < ProductRepeats; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            Gemm.Run(device, new GemmArgs { A = a.Tensor, B = b.Tensor, C = c.Tensor, M = ProductSize, N = ProductSize, K = ProductSize, TransB = true, Compute = ComputeType.BF16 });
            best = Math.Min(best, Stopwatch.GetElapsedTime(begin).TotalSeconds);
        }
        return 2.0 * elements * ProductSize / best;
    }
}
