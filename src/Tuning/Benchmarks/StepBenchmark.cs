// One prompt-tuning step on random weights of a published shape, timed part by part. Not: comparing with others (bench/), printing.
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Package;
using IptNative.Tuning.Memory;

namespace IptNative.Tuning.Benchmarks;

/// <summary>What to time.</summary>
public sealed record StepBenchmarkOptions
{
    /// <summary>small, base, large, xl or xxl.</summary>
    public string Shape { get; init; } = "base";

    /// <summary>Stored type of the weights.</summary>
    public DType DType { get; init; } = DType.F32;

    /// <summary>What the forward pass keeps; null: everything, or what the budget allows.</summary>
    public Activations? Activations { get; init; }

    /// <summary>Who computes the forward pass; null: <see cref="ForwardEngines.Training"/>.</summary>
    public ForwardEngine? Forward { get; init; }

    /// <summary>Where the weights are; null: mapped, or streamed where the budget asks for it.</summary>
    public WeightResidence? Weights { get; init; }

    /// <summary>Bytes that the process may hold: the fastest settings that fit are taken, the batch cut where needed. Null: as the other options say.</summary>
    public long? MemoryBudget { get; init; }

    /// <summary>Precision of the products' operands.</summary>
    public ComputeType Compute { get; init; } = ComputeType.F32;

    /// <summary>Type of what the forward pass keeps inside sublayers, f32 or bf16.</summary>
    public DType Tape { get; init; } = DType.F32;

    /// <summary>Folder for a file that holds the tape; null keeps it in memory.</summary>
    public string? SpillFolder { get; init; }

    /// <summary>How long the examples are.</summary>
    public SourceLengths Lengths { get; init; } = SourceLengths.Fixed;

    /// <summary>Examples.</summary>
    public int Batch { get; init; } = 8;

    /// <summary>Prompt rows.</summary>
    public int Prompt { get; init; } = 100;

    /// <summary>Source tokens beside the prompt, where all examples are equally long.</summary>
    public int Source { get; init; } = 128;

    /// <summary>Target tokens.</summary>
    public int Target { get; init; } = 8;

    /// <summary>Timed steps, after one that is not.</summary>
    public int Steps { get; init; } = 5;

    /// <summary>CPU threads; 0 takes every core.</summary>
    public int Threads { get; init; }

    /// <summary>Folder for the random weights; removed afterwards.</summary>
    public string WorkFolder { get; init; } = Path.GetTempPath();
}

/// <summary>Medians over the timed steps.</summary>
/// <param name="Options">What was timed.</param>
/// <param name="Plan">The settings and the memory that they were expected to take.</param>
/// <param name="StepSeconds">Whole step.</param>
/// <param name="ForwardSeconds">Embeddings to the decoder's last block.</param>
/// <param name="BackwardSeconds">lm_head and loss to the prompt's gradient.</param>
/// <param name="OptimizerSeconds">Adafactor.</param>
/// <param name="CpuSeconds">Whole step, processor time of all threads: on a shared machine it leaves out waiting for others, but not for memory.</param>
/// <param name="Gflop">10^9 operations of the floor: forward and input gradient, recomputing not counted.</param>
/// <param name="FmaPeak">10^9 operations a second that the device's cores reach on registers alone: the median of measurements between the steps.</param>
/// <param name="PeakBytes">Largest resident memory of the process, mapped weights included.</param>
/// <param name="AllocatedBytes">Managed bytes allocated by the last step on the calling thread.</param>
/// <param name="Loss">Of the last step.</param>
public sealed record StepBenchmarkResult(
    StepBenchmarkOptions Options, MemoryPlan Plan, double StepSeconds, double ForwardSeconds, double BackwardSeconds, double OptimizerSeconds, double CpuSeconds,
    double Gflop, double FmaPeak, long PeakBytes, long AllocatedBytes, double Loss)
{
    /// <summary>Where the step ran: cpu, cuda:0.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>Most bytes taken from the device at once; 0 on the CPU.</summary>
    public long DevicePeakBytes { get; init; }

    /// <summary>10^9 operations a second over the whole step.</summary>
    public double GflopPerSecond => Gflop / StepSeconds;
}

/// <summary>Times prompt-tuning steps.</summary>
public static class StepBenchmark
{
    /// <summary>Makes a random checkpoint, takes the steps and removes the checkpoint.</summary>
    /// <param name="options">What to time.</param>
    /// <param name="cancel">Stops between two steps.</param>
    /// <param name="device">Where the step runs; null: on the CPU's threads that the options name.</param>
    /// <returns>The medians.</returns>
    /// <exception cref="ArgumentException">An unknown shape or an impossible number.</exception>
    /// <exception cref="InsufficientMemoryException">The step does not fit into the budget, or onto the device.</exception>
    /// <exception cref="IOException">No room for the weights.</exception>
    public static StepBenchmarkResult Run(StepBenchmarkOptions options, CancellationToken cancel, ComputeDevice? device = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        StepRig.Check("bench step", options);
        T5Config config = T5Shapes.Named(options.Shape);
        return On(device, options, used =>
        {
            // Before any byte is written: a budget that cannot be kept is refused at once.
            MemoryPlan plan = Plan(options, config, used);
            return OnRandomWeights(options, config, checkpoint => Time(options, plan, checkpoint, used, cancel), cancel);
        });
    }

    /// <summary>Does something on the device that was given, or else on the CPU.</summary>
    internal static T On<T>(ComputeDevice? device, StepBenchmarkOptions options, Func<ComputeDevice, T> work)
    {
        if (device is not null)
            return work(device);
        using var cpu = new CpuDevice(options.Threads, options.Compute);
        return work(cpu);
    }

    /// <summary>Makes a random checkpoint, does something with it and removes it.</summary>
    /// <typeparam name="T">What is found out.</typeparam>
    /// <param name="options">Its type and folder.</param>
    /// <param name="config">Its shape.</param>
    /// <param name="work">What is done.</param>
    /// <param name="cancel">Stops the writing.</param>
    internal static T OnRandomWeights<T>(StepBenchmarkOptions options, T5Config config, Func<Checkpoint, T> work, CancellationToken cancel)
    {
        string folder = Path.Combine(options.WorkFolder, $"iptnative-bench-{Environment.ProcessId}");
        Directory.CreateDirectory(folder);
        try
        {
            RandomPackage.Write(config, folder, options.DType, cancel);
            using Checkpoint checkpoint = Checkpoint.Open(folder, new CheckpointOpenOptions { ReleasePages = true });
            return work(checkpoint);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>The settings of a step and the memory that they will take.</summary>
    /// <param name="options">What to time.</param>
    /// <param name="config">The shape.</param>
    /// <param name="device">Where the step runs; null: on the CPU.</param>
    /// <returns>The plan.</returns>
    /// <exception cref="InsufficientMemoryException">Nothing fits into the budget, or onto the device; the message names the smallest change that does.</exception>
    public static MemoryPlan Plan(StepBenchmarkOptions options, T5Config config, ComputeDevice? device = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        return Plan(options, StoredWeights.Of(config, options.DType), device);
    }

    internal static MemoryPlan Plan(StepBenchmarkOptions options, StoredWeights weights, ComputeDevice? device = null)
    {
        bool host = device is null or CpuDevice;
        WeightResidence residence = options.Weights ?? (host ? WeightResidence.Mapped : WeightResidence.Resident);
        var request = new MemoryRequest
        {
            Weights = weights,
            Residence = residence,
            Forward = options.Forward ?? ForwardEngines.Training,
            Activations = options.Activations ?? Activations.Full,
            Tape = options.Tape,
            Spilled = options.SpillFolder is not null,
            Examples = options.Batch,
            Source = options.Prompt + SourceLengthTable.Of(options.Lengths, options.Batch, options.Source).Max(),
            Target = options.Target,
            LookedUp = (long)options.Batch * (options.Source + options.Target),
            PromptRows = options.Prompt,
            Threads = options.Threads == 0 ? Environment.ProcessorCount : options.Threads,
            Device = host ? null : device!.Name,
            Compute = options.Compute,
        };
        // A device's memory ends where it ends: nothing is swapped. What the user has said stands; the rest is chosen.
        if (!host && MemoryPlanner.DeviceBudget(device!, options.MemoryBudget) is { } room)
            return MemoryPlanner.Fit(request, new MemoryFreedom(options.Activations ?? (options.MemoryBudget is null ? Activations.Full : null), residence, options.Forward, options.Batch), room);
        return options.MemoryBudget is { } budget
            ? MemoryPlanner.Fit(request, new MemoryFreedom(options.Activations, options.Weights, options.Forward, options.Batch), budget)
            : MemoryPlan.Of(request);
    }

    private static StepBenchmarkResult Time(StepBenchmarkOptions options, MemoryPlan plan, Checkpoint checkpoint, ComputeDevice device, CancellationToken cancel)
    {
        using var rig = new StepRig(options, plan, checkpoint, device);
        int steps = options.Steps;
        double[] whole = new double[steps], forward = new double[steps], backward = new double[steps], update = new double[steps], cpu = new double[steps], peak = new double[steps];
        long allocated = 0;
        using var process = Process.GetCurrentProcess();
        for (int step = -1; step < steps; step++)
        {
            cancel.ThrowIfCancellationRequested();
            TimeSpan cpuBefore = CpuTime(process);
            long before = GC.GetAllocatedBytesForCurrentThread(), begin = Stopwatch.GetTimestamp();
            rig.Step();
            double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            double cpuSeconds = (CpuTime(process) - cpuBefore).TotalSeconds;
            if (step < 0)
                continue;
            (whole[step], forward[step], backward[step], update[step], cpu[step]) = (seconds, rig.ForwardSeconds, rig.BackwardSeconds, rig.OptimizerSeconds, cpuSeconds);
            // Right beside each step: on a shared machine only such a pair can be compared.
            peak[step] = FmaPeak.Measure(rig.Device, 0.1);
        }
        process.Refresh();
        return new StepBenchmarkResult(options, plan, Median(whole), Median(forward), Median(backward), Median(update), Median(cpu),
            rig.Flops * 1e-9, Median(peak), process.PeakWorkingSet64, allocated, rig.Loss)
        {
            Device = device.Name,
            DevicePeakBytes = device.PeakBytes,
        };
    }

    private static TimeSpan CpuTime(Process process)
    {
        process.Refresh();
        return process.TotalProcessorTime;
    }

    private static double Median(double[] values)
    {
        double[] sorted = [.. values.Order()];
        int half = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    }
}
