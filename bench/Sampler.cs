// Timing against the machine's peak, on a machine that may be shared: each pass stands between two measurements of the FMA peak, and passes in which
// the process did not have its cores for itself are told apart by their CPU time. No statistics beyond percentiles.
using System.Diagnostics;
using IptNative.Kernels.Devices;

namespace IptNative.Bench;

/// <summary>One timed pass.</summary>
/// <param name="Seconds">By the clock.</param>
/// <param name="CpuSeconds">Of the process, a thread's share: as the clock would have it if the threads never slept nor were put aside.</param>
/// <param name="Peak">10^9 floating-point operations a second of all threads, the mean of the peaks right before and right after.</param>
/// <param name="ThreadPeak">The same of one thread alone, times the threads: where the cores are shared, two threads seldom run at once, but one does.</param>
internal readonly record struct Sample(double Seconds, double CpuSeconds, double Peak, double ThreadPeak)
{
    // A pass in which a thread was put aside for 3 % of the time or more is another program's measurement too.
    public bool IsUndisturbed => CpuSeconds >= 0.97 * Seconds;
}

/// <summary>What a line of a benchmark came to.</summary>
/// <param name="Milliseconds">Median.</param>
/// <param name="Rate">10^9 floating-point operations a second, median.</param>
/// <param name="Peak">The peaks' median.</param>
/// <param name="Share">Median of each pass's rate over its peak.</param>
/// <param name="Basis">Which passes counted, and by what clock.</param>
internal readonly record struct Summary(double Milliseconds, double Rate, double Peak, double Share, string Basis)
{
    // Fewer undisturbed passes than this say too little.
    private const int Enough = 5;

    public static Summary Of(List<Sample> samples, double flops)
    {
        List<Sample> counted = [.. samples.Where(s => s.IsUndisturbed)];
        string basis = counted.Count == samples.Count ? $"{samples.Count} passes" : $"{counted.Count} undisturbed of {samples.Count} passes";
        if (counted.Count < Enough)
        {
            // Other programs held the cores: what counts is the time that this one had.
            counted = [.. samples.Select(s => s with { Seconds = s.CpuSeconds, Peak = s.ThreadPeak })];
            basis = $"{samples.Count} passes by CPU time";
        }
        return new Summary(
            Median(counted, s => s.Seconds) * 1e3,
            Median(counted, s => flops / s.Seconds) * 1e-9,
            Median(counted, s => s.Peak),
            Median(counted, s => flops / s.Seconds / s.Peak * 1e-9),
            basis);
    }

    /// <summary>A percentile of sorted numbers.</summary>
    public static double At(double[] sorted, double share) => sorted[(int)(share * (sorted.Length - 1) + 0.5)];

    public override string ToString() => $"{Milliseconds,9:f3} ms {Rate,7:f1} GFLOP/s of a peak of {Peak,5:f0}: {Share,6:p1} ({Basis})";

    public void ToLedger(Ledger ledger, string shape, string settings)
    {
        settings = $"{settings}{(settings.Length > 0 ? "; " : "")}{Basis}";
        ledger.Add(shape, settings, "time_p50", Milliseconds, "ms");
        ledger.Add(shape, settings, "rate_p50", Rate, "GFLOP/s");
        ledger.Add(shape, settings, "fma_peak", Peak, "GFLOP/s");
        ledger.Add(shape, settings, "share_of_peak_p50", Share, "1");
    }

    private static double Median(List<Sample> samples, Func<Sample, double> of) => At([.. samples.Select(of).Order()], 0.5);
}

/// <summary>Times passes on a device's threads.</summary>
internal sealed class Sampler(CpuDevice device) : IDisposable
{
    private readonly CpuDevice _one = new(1);

    private const double PeakSeconds = 0.004;

    // Short passes are repeated to this length: clocks and the system's account of CPU time are too coarse for less.
    private const double LeastSeconds = 0.008;

    /// <summary>Warms up and times.</summary>
    public List<Sample> Time(int repeats, Action pass)
    {
        pass();
        long warm = Stopwatch.GetTimestamp();
        pass();
        int passes = Math.Max(1, (int)(LeastSeconds / Stopwatch.GetElapsedTime(warm).TotalSeconds));
        var samples = new List<Sample>(repeats);
        (double All, double One) before = Peaks();
        for (int i = 0; i < repeats; i++)
        {
            TimeSpan cpu = Environment.CpuUsage.TotalTime;
            long begin = Stopwatch.GetTimestamp();
            for (int j = 0; j < passes; j++)
                pass();
            double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
            double used = (Environment.CpuUsage.TotalTime - cpu).TotalSeconds / device.Pool.Workers;
            (double All, double One) after = Peaks();
            samples.Add(new Sample(seconds / passes, used / passes, (before.All + after.All) / 2, (before.One + after.One) / 2));
            before = after;
        }
        return samples;
    }

    public void Dispose() => _one.Dispose();

    private (double All, double One) Peaks() => (FmaPeak.Measure(device, PeakSeconds), FmaPeak.Measure(_one, PeakSeconds) * device.Pool.Workers);
}
