// One prompt-tuning step on random weights of a published shape, timed part by part. Not: comparing with others (bench/), printing.
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Model.Onnx.Package;
using IptNative.Optimizers;

namespace IptNative.Tuning.Benchmarks;

/// <summary>What to time.</summary>
public sealed record StepBenchmarkOptions
{
    /// <summary>small, base, large, xl or xxl.</summary>
    public string Shape { get; init; } = "base";

    /// <summary>Stored type of the weights.</summary>
    public DType DType { get; init; } = DType.F32;

    /// <summary>What the forward pass keeps.</summary>
    public Activations Activations { get; init; } = Activations.Full;

    /// <summary>Who computes the forward pass; null: <see cref="ForwardEngines.Choose"/>.</summary>
    public ForwardEngine? Forward { get; init; }

    /// <summary>Where the weights are.</summary>
    public WeightResidence Weights { get; init; } = WeightResidence.Mapped;

    /// <summary>Precision of the products' operands.</summary>
    public ComputeType Compute { get; init; } = ComputeType.F32;

    /// <summary>Type of what the forward pass keeps inside sublayers, f32 or bf16.</summary>
    public DType Tape { get; init; } = DType.F32;

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
/// <param name="Forward">Who computed the forward pass.</param>
/// <param name="StepSeconds">Whole step.</param>
/// <param name="ForwardSeconds">Embeddings to the decoder's last block.</param>
/// <param name="BackwardSeconds">lm_head and loss to the prompt's gradient.</param>
/// <param name="OptimizerSeconds">Adafactor.</param>
/// <param name="CpuSeconds">Whole step, processor time of all threads: on a shared machine it leaves out waiting for others, but not for memory.</param>
/// <param name="Gflop">10^9 operations of the floor: forward and input gradient, recomputing not counted.</param>
/// <param name="FmaPeak">10^9 operations a second that the cores reach on registers alone: the median of measurements between the steps.</param>
/// <param name="PeakBytes">Largest resident memory of the process, mapped weights included.</param>
/// <param name="AllocatedBytes">Managed bytes allocated by the last step on the calling thread.</param>
/// <param name="Loss">Of the last step.</param>
public sealed record StepBenchmarkResult(
    StepBenchmarkOptions Options, ForwardEngine Forward, double StepSeconds, double ForwardSeconds, double BackwardSeconds, double OptimizerSeconds, double CpuSeconds,
    double Gflop, double FmaPeak, long PeakBytes, long AllocatedBytes, double Loss)
{
    /// <summary>10^9 operations a second over the whole step.</summary>
    public double GflopPerSecond => Gflop / StepSeconds;
}

/// <summary>Times prompt-tuning steps.</summary>
public static class StepBenchmark
{
    /// <summary>Makes a random checkpoint, takes the steps and removes the checkpoint.</summary>
    /// <param name="options">What to time.</param>
    /// <param name="cancel">Stops between two steps.</param>
    /// <returns>The medians.</returns>
    /// <exception cref="ArgumentException">An unknown shape or an impossible number.</exception>
    /// <exception cref="IOException">No room for the weights.</exception>
    public static StepBenchmarkResult Run(StepBenchmarkOptions options, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(options);
        foreach ((string name, int value) in ((string, int)[])[("batch", options.Batch), ("prompt", options.Prompt), ("source", options.Source), ("target", options.Target), ("steps", options.Steps)])
        {
            if (value < 1)
                throw new ArgumentException($"bench step: found {name} {value}, expected 1 or more.", nameof(options));
        }
        T5Config config = T5Shapes.Named(options.Shape);
        string folder = Path.Combine(options.WorkFolder, $"iptnative-bench-{Environment.ProcessId}");
        Directory.CreateDirectory(folder);
        try
        {
            RandomPackage.Write(config, folder, options.DType, cancel);
            using Checkpoint checkpoint = Checkpoint.Open(folder, new CheckpointOpenOptions { ReleasePages = true });
            return Time(options, checkpoint, cancel);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static StepBenchmarkResult Time(StepBenchmarkOptions options, Checkpoint checkpoint, CancellationToken cancel)
    {
        T5Config config = checkpoint.Config;
        ForwardEngine engine = options.Forward ?? ForwardEngines.Choose(checkpoint, options.Weights, options.Compute, options.Tape).Engine;
        using var device = new CpuDevice(options.Threads, options.Compute);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device, Threads = options.Threads, AllowSpinning = false });
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Activations = options.Activations, Tape = options.Tape, Forward = engine, Weights = options.Weights });
        long elements = (long)options.Prompt * config.DModel;
        using DeviceBuffer prompt = device.Allocate(DType.F32, elements, "prompt");
        using DeviceBuffer gradient = device.Allocate(DType.F32, elements, "prompt gradient");
        var random = new Random(0);
        float[] start = new float[elements];
        for (int i = 0; i < start.Length; i++)
            start[i] = random.NextSingle() - 0.5f;
        prompt.Tensor.CopyFrom<float>(start);
        var table = new PromptTable(prompt.Tensor, config.DModel, options.Prompt);
        using var adafactor = new Adafactor(device, [new Parameter("prompt", new TensorShape(options.Prompt, config.DModel), prompt.Tensor, gradient.Tensor)], new AdafactorOptions());
        var batch = new T5Batch();
        int[] lengths = SourceLengthTable.Of(options.Lengths, options.Batch, options.Source);
        for (int b = 0; b < options.Batch; b++)
            batch.Add(Ids(lengths[b]), Ids(options.Target), prompt: 0);
        int[] groups = new int[options.Batch];
        double[] weights = [1.0 / (options.Batch * options.Target)], loss = [0];

        int steps = options.Steps;
        double[] whole = new double[steps], forward = new double[steps], backward = new double[steps], update = new double[steps], cpu = new double[steps], peak = new double[steps];
        long allocated = 0;
        using var process = Process.GetCurrentProcess();
        for (int step = -1; step < steps; step++)
        {
            cancel.ThrowIfCancellationRequested();
            TimeSpan cpuBefore = CpuTime(process);
            long before = GC.GetAllocatedBytesForCurrentThread(), begin = Stopwatch.GetTimestamp();
            Elementwise.Fill(device, gradient.Tensor, elements, 0);
            loss[0] = 0;
            pass.Run(batch, table, groups, weights, loss, gradient.Tensor);
            long updateBegin = Stopwatch.GetTimestamp();
            adafactor.Step(0.3);
            double updateSeconds = Stopwatch.GetElapsedTime(updateBegin).TotalSeconds, seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            double cpuSeconds = (CpuTime(process) - cpuBefore).TotalSeconds;
            if (step < 0)
                continue;
            (whole[step], forward[step], backward[step], update[step], cpu[step]) = (seconds, pass.ForwardSeconds, pass.BackwardSeconds, updateSeconds, cpuSeconds);
            // Right beside each step: on a shared machine only such a pair can be compared.
            peak[step] = FmaPeak.Measure(device, 0.1);
        }
        double flops = 0;
        foreach (int length in lengths)
        {
            var one = new T5Flops(config, 1, options.Prompt + length, options.Target);
            flops += one.Forward + one.InputGradient;
        }
        process.Refresh();
        return new StepBenchmarkResult(options, engine, Median(whole), Median(forward), Median(backward), Median(update), Median(cpu),
            flops * 1e-9, Median(peak), process.PeakWorkingSet64, allocated, loss[0]);

        int[] Ids(int count)
        {
            int[] ids = new int[count];
            for (int i = 0; i < count; i++)
                ids[i] = random.Next(3, config.VocabSize - 100);
            return ids;
        }
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
