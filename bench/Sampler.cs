// Timing against the machine's peak, on a machine that may be shared: each pass stands between two measurements of the FMA peak, and passes in which
// the process did not have its cores for itself are told apart by their CPU time. No statistics beyond percentiles.
using System.Diagnostics;
using IptNative.Kernels.Devices;

namespace IptNative.Bench;

/// <summary>One timed pass.</summary>
/// <param name="Seconds">By the clock.</param>
/// <param name="Peak">10^9 floating-point operations a second, the mean of the peaks right before and right after.</param>
/// <param name="Busy">CPU seconds of the process over threads times seconds: below 1 the threads slept or were put aside.</param>
internal readonly record struct Sample(double Seconds, double Peak, double Busy);

/// <summary>What a line of a benchmark came to.</summary>
/// <param name="Milliseconds">Median.</param>
/// <param name="Rate">10^9 floating-point operations a second, median.</param>
/// <param name="Peak">The peaks' median.</param>
/// <param name="Share">Median of each pass's rate over its own peak.</param>
/// <param name="Best">The 80th percentile of that.</param>
/// <param name="Used">Passes that counted.</param>
/// <param name="All">Passes timed.</param>
internal readonly record struct Summary(double Milliseconds, double Rate, double Peak, double Share, double Best, int Used, int All)
{
    // Fewer undisturbed passes than this say too little: then all count.
    private const int Enough = 5;

    // A pass in which a thread was put aside for 3 % of the time or more is another program's measurement too.
    private const double Undisturbed = 0.97;

    public static Summary Of(List<Sample> samples, double flops)
    {
        List<Sample> counted = [.. samples.Where(s => s.Busy >= Undisturbed)];
        if (counted.Count < Enough)
            counted = samples;
        double[] shares = Sorted(counted, s => flops / s.Seconds / s.Peak * 1e-9);
        return new Summary(
            At(Sorted(counted, s => s.Seconds), 0.5) * 1e3,
            At(Sorted(counted, s => flops / s.Seconds), 0.5) * 1e-9,
            At(Sorted(counted, s => s.Peak), 0.5),
            At(shares, 0.5),
            At(shares, 0.8),
            counted.Count,
            samples.Count);
    }

    /// <summary>A percentile of sorted numbers.</summary>
    public static double At(double[] sorted, double share) => sorted[(int)(share * (sorted.Length - 1) + 0.5)];

    public override string ToString() =>
        $"{Milliseconds,9:f3} ms {Rate,7:f1} GFLOP/s of a peak of {Peak,5:f0}: {Share,5:p1} (p80 {Best:p1}; {Used} of {All} passes{(Used == All ? "" : ", undisturbed")})";

    public void ToLedger(Ledger ledger, string shape, string settings)
    {
        ledger.Add(shape, settings, "time_p50", Milliseconds, "ms");
        ledger.Add(shape, settings, "rate_p50", Rate, "GFLOP/s");
        ledger.Add(shape, settings, "fma_peak", Peak, "GFLOP/s");
        ledger.Add(shape, settings, "share_of_peak_p50", Share, "1");
    }

    private static double[] Sorted(List<Sample> samples, Func<Sample, double> of) => [.. samples.Select(of).Order()];
}

/// <summary>Times passes on a device's threads.</summary>
internal sealed class Sampler(CpuDevice device)
{
    private const double PeakSeconds = 0.004;

    /// <summary>Warms up and times.</summary>
    public List<Sample> Time(int repeats, Action pass)
    {
        pass();
        pass();
        var samples = new List<Sample>(repeats);
        double before = FmaPeak.Measure(device, PeakSeconds);
        for (int i = 0; i < repeats; i++)
        {
            TimeSpan cpu = Environment.CpuUsage.TotalTime;
            long begin = Stopwatch.GetTimestamp();
            pass();
            double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
            double used = (Environment.CpuUsage.TotalTime - cpu).TotalSeconds;
            double after = FmaPeak.Measure(device, PeakSeconds);
            samples.Add(new Sample(seconds, (before + after) / 2, used / (seconds * device.Pool.Workers)));
            before = after;
        }
        return samples;
    }
}
