// `profile`: steps with a recorder listening, every op at the shapes that the step gives it, held against the device's measured ceilings.
// Deliberately inside the step and not one by one: an op's speed depends on what the one before it left in the caches.
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Tuning.Memory;

namespace IptNative.Tuning.Benchmarks;

/// <summary>Profiles prompt-tuning steps.</summary>
public static class ProfileRunner
{
    /// <summary>The <see cref="ProfileRow.Bound"/> of an op whose work is not counted.</summary>
    public const string NoBound = "none";

    private const string StepName = "step";
    // Pairs of a recorded and an unrecorded step are compared, so both see the same machine.
    private const int WarmUp = 1;

    /// <summary>Takes the steps.</summary>
    /// <param name="options">What is computed; its shape is used where no folder is given.</param>
    /// <param name="modelFolder">A checkpoint; null: random weights of the shape, removed afterwards.</param>
    /// <param name="cancel">Stops between two steps.</param>
    /// <param name="device">Where the steps run; null: on the CPU's threads that the options name.</param>
    /// <param name="measureProducts">Time the step's products by the library and by our kernels, too; needs a device that has both.</param>
    /// <returns>The rows and one step's timeline.</returns>
    /// <exception cref="ArgumentException">An unknown shape or an impossible number.</exception>
    /// <exception cref="InvalidDataException">The checkpoint cannot be read.</exception>
    /// <exception cref="IOException">No room for the weights.</exception>
    /// <exception cref="InsufficientMemoryException">The step does not fit onto the device.</exception>
    public static ProfileResult Run(StepBenchmarkOptions options, string? modelFolder, CancellationToken cancel, ComputeDevice? device = null, bool measureProducts = false)
    {
        ArgumentNullException.ThrowIfNull(options);
        StepRig.Check("profile", options);
        // Before minutes are spent.
        if (measureProducts && (device is null || !ProductTuning.HasChoice(device)))
            throw new NotSupportedException($"profile --products: found {device?.Name ?? "cpu"}, which has one way to multiply, expected a GPU with cuBLAS: --device cuda. See 'iptnative doctor'.");
        return StepBenchmark.On(device, options, used =>
        {
            if (modelFolder is null)
            {
                T5Config config = T5Shapes.Named(options.Shape);
                MemoryPlan plan = StepBenchmark.Plan(options, config, used);
                return StepBenchmark.OnRandomWeights(options, config, checkpoint => Record(options, plan, checkpoint, $"T5 v1.1 {options.Shape}", used, measureProducts, cancel), cancel);
            }
            using Checkpoint checkpoint = Checkpoint.Open(modelFolder);
            return Record(options, StepBenchmark.Plan(options, StoredWeights.Of(checkpoint), used), checkpoint, modelFolder, used, measureProducts, cancel);
        });
    }

    private static ProfileResult Record(StepBenchmarkOptions options, MemoryPlan plan, Checkpoint checkpoint, string model, ComputeDevice device, bool measureProducts, CancellationToken cancel)
    {
        using var rig = new StepRig(options, plan, checkpoint, device);
        for (int i = 0; i < WarmUp; i++)
            rig.Step();
        DType weights = checkpoint[T5Parameters.Of(checkpoint.Config).First(p => p.Shape.Rank == 2 && p.Name != T5Parameters.Shared).Name].DType;
        var ceilings = ProfileCeilings.Measure(device, weights, cancel);
        using var recorder = new OpRecorder(rig.Device);
        var calls = new Dictionary<(string Op, string Shape), Calls>();
        var timelines = new List<List<ProfileBar>>();
        double[] recorded = new double[options.Steps], unrecorded = new double[options.Steps], peaks = new double[options.Steps];
        for (int step = 0; step < options.Steps; step++)
        {
            cancel.ThrowIfCancellationRequested();
            long begin = Stopwatch.GetTimestamp();
            rig.Step();
            unrecorded[step] = Stopwatch.GetElapsedTime(begin).TotalSeconds;

            recorder.Clear();
            long end;
            OpTrace.Start(recorder);
            try
            {
                begin = Stopwatch.GetTimestamp();
                rig.Step();
                end = Stopwatch.GetTimestamp();
            }
            finally
            {
                OpTrace.Stop();
            }
            if (recorder.Dropped > 0)
                throw new NotSupportedException($"profile: a step has {recorder.Count + recorder.Dropped} ops and regions, the recorder holds {recorder.Count}. Profile a smaller batch.");
            recorded[step] = Seconds(begin, end);
            Collect(recorder.Events, calls);
            timelines.Add(Bars(recorder.Events, begin, end, rig));
            // Right beside each step, as `bench step` does: on a machine that others use, or whose clock moves, only such a pair can be compared.
            peaks[step] = FmaPeak.Measure(rig.Device, 0.1) * 1e9;
        }

        // Once more: the best of a busy machine comes seldom.
        ceilings = ceilings.Best(ProfileCeilings.Measure(device, weights, cancel)) with { FmaFlopsPerSecond = Percentile(peaks, 0.5) };

        double total = recorded.Sum();
        bool bf16 = options.Compute == ComputeType.BF16;
        List<ProfileRow> rows = [.. calls.Select(c => Row(c.Key.Op, c.Key.Shape, c.Value, ceilings, bf16, options.Steps, total)).OrderByDescending(r => r.Share)];
        List<Calls> products = [.. calls.Where(c => ProfileCosts.IsProduct(c.Key.Op)).Select(c => c.Value)];
        double productSeconds = products.Sum(p => p.Seconds.Sum()), productFlops = products.Sum(p => p.Cost!.Value.Flops * p.Seconds.Count);
        double median = Percentile(recorded, 0.5);
        int typical = Enumerable.Range(0, recorded.Length).MinBy(i => Math.Abs(recorded[i] - median));
        return new ProfileResult
        {
            Options = options,
            Model = model,
            Plan = plan,
            Device = rig.Device.Name,
            Threads = (device as CpuDevice)?.Pool.Workers ?? 0,
            Ceilings = ceilings,
            StepSeconds = median,
            UnrecordedSeconds = Percentile(unrecorded, 0.5),
            BetweenOps = 1 - rows.Sum(r => r.Share),
            Rows = rows,
            Products = new ProfileProducts(
                productSeconds / total,
                productSeconds > 0 ? productFlops / productSeconds * 1e-9 : 0,
                1e-9 * (bf16 && ceilings.BF16FlopsPerSecond > 0 ? ceilings.BF16FlopsPerSecond : ceilings.FmaFlopsPerSecond)),
            Timeline = timelines[typical],
            ProductChoices = measureProducts ? ProductTuning.Measure(device, Shapes(recorder.Events, weights, options.Compute), cancel) : [],
        };
    }

    // The step's products, each shape once; codes with scales are never the library's.
    private static List<ProductShape> Shapes(ReadOnlySpan<OpEvent> events, DType weights, ComputeType compute)
    {
        var shapes = new HashSet<ProductShape>();
        foreach (ref readonly OpEvent e in events)
        {
            if (ProfileCosts.IsProduct(e.Name) && Math.Abs(e.Detail) is var bits and >= 16)
                shapes.Add(new ProductShape((int)e.D0, (int)e.D1, (int)e.D2, (int)e.D3, e.Name.Contains("A^T", StringComparison.Ordinal), e.Name.Contains("B^T", StringComparison.Ordinal), bits == 32 ? DType.F32 : weights is DType.F16 ? DType.F16 : DType.BF16, compute));
        }
        return [.. shapes];
    }

    /// <summary>The calls of one op at one shape.</summary>
    private sealed class Calls(OpCost? cost)
    {
        public OpCost? Cost => cost;

        public List<double> Seconds { get; } = [];
    }

    // An op inside an op is part of the outer one's time.
    private static void Collect(ReadOnlySpan<OpEvent> events, Dictionary<(string, string), Calls> calls)
    {
        long outerEnd = long.MinValue;
        foreach (ref readonly OpEvent e in events)
        {
            if (e.IsRegion || e.Begin < outerEnd)
                continue;
            outerEnd = e.End;
            OpCost? cost = ProfileCosts.Of(e);
            var key = (e.Name, Shape(e, cost));
            if (!calls.TryGetValue(key, out Calls? held))
                calls.Add(key, held = new Calls(cost));
            held.Seconds.Add(Seconds(e.Begin, e.End));
        }
    }

    private static ProfileRow Row(string op, string shape, Calls calls, ProfileCeilings ceilings, bool bf16, int steps, double total)
    {
        double[] seconds = [.. calls.Seconds.Order()];
        double p50 = Percentile(seconds, 0.5);
        (double floor, string bound) = calls.Cost is { } cost ? ceilings.Floor(cost, bf16 && ProfileCosts.IsProduct(op)) : (0, NoBound);
        return new ProfileRow(op, shape, seconds.Length / steps, Percentile(seconds, 0.2), p50, Percentile(seconds, 0.8),
            calls.Cost?.Bytes ?? 0, calls.Cost?.Flops ?? 0, bound, floor / p50, seconds.Sum() / total);
    }

    // Regions as recorded; in each pass over a part of the batch, where the backward pass begins is known by how long it took.
    private static List<ProfileBar> Bars(ReadOnlySpan<OpEvent> events, long begin, long end, StepRig rig)
    {
        var bars = new List<ProfileBar> { new(StepName, "", 0, Seconds(begin, end), 0, false) };
        int part = 0, inPass = 0;
        long passEnd = long.MinValue, backward = long.MinValue;
        foreach (ref readonly OpEvent e in events)
        {
            bool isPass = e.IsRegion && e.Name == StepRig.PassRegion;
            if (isPass)
            {
                passEnd = e.End;
                // The op or region that holds that moment's beginning decides: a bar must not cross the border.
                backward = Border(events, e, e.End - (long)(rig.PartBackwardSeconds[part++] * Stopwatch.Frequency));
            }
            inPass = e.Begin < passEnd && !isPass ? 1 : 0;
            bars.Add(new ProfileBar(e.Name, e.IsRegion ? "" : Shape(e, ProfileCosts.Of(e)), Seconds(begin, e.Begin), Seconds(e.Begin, e.End), e.Depth + 1 + inPass, !e.IsRegion));
            if (isPass)
            {
                bars.Add(new ProfileBar("forward", "", Seconds(begin, e.Begin), Seconds(e.Begin, backward), e.Depth + 2, false));
                bars.Add(new ProfileBar("backward", "", Seconds(begin, backward), Seconds(backward, e.End), e.Depth + 2, false));
            }
        }
        return bars;
    }

    private static long Border(ReadOnlySpan<OpEvent> events, in OpEvent pass, long estimate)
    {
        long border = pass.Begin;
        foreach (ref readonly OpEvent e in events)
        {
            if (e.Depth == pass.Depth + 1 && e.Begin >= pass.Begin && e.End <= pass.End && (e.Begin + e.End) / 2 < estimate)
                border = Math.Max(border, e.End);
        }
        return border;
    }

    private static string Shape(in OpEvent e, OpCost? cost) => cost?.Shape ?? $"[{string.Join(", ", ((long[])[e.D0, e.D1, e.D2]).Where(d => d > 0))}]";

    private static double Seconds(long begin, long end) => (end - begin) / (double)Stopwatch.Frequency;

    private static double Percentile(IEnumerable<double> values, double part)
    {
        double[] sorted = [.. values.Order()];
        double at = part * (sorted.Length - 1);
        int below = (int)at;
        return below + 1 < sorted.Length ? sorted[below] + (at - below) * (sorted[below + 1] - sorted[below]) : sorted[below];
    }
}
