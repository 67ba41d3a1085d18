// What a profile found: ceilings, a row for each op and shape, the step's shares, one step's events. Numbers only; how they are shown: ProfileTimeline, the CLI.
using IptNative.Kernels.Devices;
using IptNative.Tuning.Memory;

namespace IptNative.Tuning.Benchmarks;

/// <summary>One op at one shape of the step.</summary>
/// <param name="Op">Class and method.</param>
/// <param name="Shape">Its dimensions.</param>
/// <param name="CallsPerStep">How often a step calls it.</param>
/// <param name="P20">Seconds of a call: a fifth of the calls were faster.</param>
/// <param name="P50">The median.</param>
/// <param name="P80">A fifth were slower.</param>
/// <param name="Bytes">What a call has to move at least; 0 where it was not counted.</param>
/// <param name="Flops">What a call has to compute at least; 0 where it was not counted.</param>
/// <param name="Bound">The ceiling that binds: memory, compute, launch; none where nothing was counted.</param>
/// <param name="Reached">Least time by that ceiling over the median; above 1 where caches served what was counted as memory. 0 where nothing was counted.</param>
/// <param name="Share">Of the steps' time.</param>
public sealed record ProfileRow(
    string Op, string Shape, int CallsPerStep, double P20, double P50, double P80, double Bytes, double Flops, string Bound, double Reached, double Share)
{
    /// <summary>10^9 bytes a second at the median.</summary>
    public double GBPerSecond => Bytes / P50 * 1e-9;

    /// <summary>10^9 operations a second at the median.</summary>
    public double GflopPerSecond => Flops / P50 * 1e-9;
}

/// <summary>All matrix products of a step together.</summary>
/// <param name="Share">Of the steps' time.</param>
/// <param name="GflopPerSecond">Over all of their time.</param>
/// <param name="Peak">10^9 operations a second of the ceiling.</param>
public sealed record ProfileProducts(double Share, double GflopPerSecond, double Peak)
{
    /// <summary>Part of the peak.</summary>
    public double Reached => Peak > 0 ? GflopPerSecond / Peak : 0;
}

/// <summary>A bar of the timeline.</summary>
/// <param name="Name">Op, region or phase.</param>
/// <param name="Shape">Of an op; empty for a region.</param>
/// <param name="Begin">Seconds from the step's beginning.</param>
/// <param name="Seconds">How long.</param>
/// <param name="Depth">0 is the step.</param>
/// <param name="IsOp">False for a region, whose time is that of what is inside.</param>
public readonly record struct ProfileBar(string Name, string Shape, double Begin, double Seconds, int Depth, bool IsOp);

/// <summary>What a profile found.</summary>
public sealed record ProfileResult
{
    /// <summary>What was profiled.</summary>
    public required StepBenchmarkOptions Options { get; init; }

    /// <summary>The checkpoint's folder, or the shape's name.</summary>
    public required string Model { get; init; }

    /// <summary>The settings.</summary>
    public required MemoryPlan Plan { get; init; }

    /// <summary>The device: cpu, cuda:0.</summary>
    public required string Device { get; init; }

    /// <summary>The CPU's threads that compute; 0 on another device.</summary>
    public required int Threads { get; init; }

    /// <summary>The yardsticks.</summary>
    public required ProfileCeilings Ceilings { get; init; }

    /// <summary>Seconds of a step, median.</summary>
    public required double StepSeconds { get; init; }

    /// <summary>Seconds of a step while nothing is recorded, median: what the recording costs can be seen.</summary>
    public required double UnrecordedSeconds { get; init; }

    /// <summary>Part of the steps' time that lies in no op: packing the batch, checks, the recording itself.</summary>
    public required double BetweenOps { get; init; }

    /// <summary>By share, largest first.</summary>
    public required IReadOnlyList<ProfileRow> Rows { get; init; }

    /// <summary>The matrix products.</summary>
    public required ProfileProducts Products { get; init; }

    /// <summary>The step's products by NVIDIA's library and by our kernels, where that was asked for.</summary>
    public IReadOnlyList<ProductMeasurement> ProductChoices { get; init; } = [];

    /// <summary>The step nearest to the median, in order of beginning.</summary>
    public required IReadOnlyList<ProfileBar> Timeline { get; init; }

    /// <summary>The rows under half of their ceiling.</summary>
    public IEnumerable<ProfileRow> UnderHalf => Rows.Where(r => r.Bound != ProfileRunner.NoBound && r.Reached < 0.5);
}
