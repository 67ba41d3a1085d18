// Which settings make a step fit into a given memory and are fastest there; what to change where none does. Nothing is allocated.
using System.Globalization;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Memory;

/// <summary>What the planner may choose; null where it may, a value where the user has.</summary>
/// <param name="Activations">What the forward pass keeps.</param>
/// <param name="Residence">Where the weights are.</param>
/// <param name="Forward">Who computes the forward pass.</param>
/// <param name="MostExamples">Most examples computed at once; 1 or more.</param>
public sealed record MemoryFreedom(Activations? Activations, WeightResidence? Residence, ForwardEngine? Forward, int MostExamples);

/// <summary>Chooses settings.</summary>
public static class MemoryPlanner
{
    // What one pass costs beside its arithmetic, in source rows: below some hundred rows a product reads weights faster than it computes.
    private const double RowsOfOverhead = 192;

    // Streaming reads every block twice a pass; from a cached file that is a tenth, from a disk more.
    private const double StreamingCost = 1.15;

    // A budget is a promise, and a plan is within 10 % of what is measured.
    private const double Margin = 1.1;

    // What .NET holds when the plan is made differs by some MB from run to run (measured: 1 to 3); a budget that a refusal names must do for the next run.
    private const double RunToRun = 5e6;

    /// <summary>The fastest settings that fit, with a tenth to spare.</summary>
    /// <param name="request">Sizes; what is free is overwritten.</param>
    /// <param name="free">What may be chosen.</param>
    /// <param name="budget">Bytes.</param>
    /// <returns>The plan.</returns>
    /// <exception cref="InsufficientMemoryException">Nothing fits; the message names the smallest change that does.</exception>
    public static MemoryPlan Fit(MemoryRequest request, MemoryFreedom free, long budget) =>
        TryFit(request, free, budget) ?? throw new InsufficientMemoryException(Refusal(request, free, budget));

    /// <summary>The fastest settings that fit, where there are some.</summary>
    /// <param name="request">As for <see cref="Fit"/>.</param>
    /// <param name="free">As for <see cref="Fit"/>.</param>
    /// <param name="budget">Bytes.</param>
    /// <returns>Null where nothing fits.</returns>
    public static MemoryPlan? TryFit(MemoryRequest request, MemoryFreedom free, long budget)
    {
        MemoryPlan? best = null;
        double least = double.MaxValue;
        foreach (MemoryPlan plan in Candidates(request, free))
        {
            if (Fits(plan, budget) && Cost(plan) is var cost && cost < least)
                (best, least) = (plan, cost);
        }
        return best;
    }

    /// <summary>Bytes that a plan may take on a device with memory of its own: what is free, or less where the user said so.</summary>
    /// <param name="device">The device.</param>
    /// <param name="budget">What the user said; null: nothing.</param>
    /// <param name="held">Bytes of what is planned that the device holds already.</param>
    /// <returns>Bytes; null where the device does not know.</returns>
    public static long? DeviceBudget(ComputeDevice device, long? budget, long held = 0)
    {
        ArgumentNullException.ThrowIfNull(device);
        return (device.FreeBytes + held, budget) switch
        {
            ({ } free, { } said) => Math.Min(free, said),
            ({ } free, null) => free,
            _ => budget,
        };
    }

    /// <summary>Whether a plan keeps a budget, with a tenth to spare.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="budget">Bytes.</param>
    /// <returns>True where it does.</returns>
    public static bool Fits(MemoryPlan plan, long budget)
    {
        ArgumentNullException.ThrowIfNull(plan);
        return Margin * plan.Total <= budget;
    }

    /// <summary>The leanest settings.</summary>
    /// <param name="request">As for <see cref="Fit"/>.</param>
    /// <param name="free">As for <see cref="Fit"/>.</param>
    /// <returns>The plan of least memory.</returns>
    public static MemoryPlan Leanest(MemoryRequest request, MemoryFreedom free) => Candidates(request, free).MinBy(p => p.Total)!; // Never empty.

    /// <summary>A plan's settings in words.</summary>
    /// <param name="plan">The plan.</param>
    /// <returns>For example: mapped weights, native forward, blocks activations, 4 examples at once: 598 MB.</returns>
    public static string Describe(MemoryPlan plan)
    {
        ArgumentNullException.ThrowIfNull(plan);
        MemoryRequest r = plan.Request;
        return $"{(r.Device is null ? $"{Word(r.Residence)} weights" : $"weights on {r.Device}")}, {Word(r.Forward)} forward, {Word(r.Activations)} activations{(r.Tape == DType.F32 ? "" : $" in {r.Tape.Name()}")}{(r.Spilled ? " on disk" : "")}, {r.Examples} {(r.Examples == 1 ? "example" : "examples")} at once: {ByteSize.Text(plan.Total)}";
    }

    private static IEnumerable<MemoryPlan> Candidates(MemoryRequest request, MemoryFreedom free)
    {
        // A device with memory of its own holds all weights.
        foreach (WeightResidence residence in free.Residence is { } r ? [r] : request.Device is null ? (WeightResidence[])[WeightResidence.Mapped, WeightResidence.Streamed] : [WeightResidence.Resident])
        {
            foreach (ForwardEngine engine in Engines(free, residence))
            {
                foreach (Activations activations in free.Activations is { } a ? [a] : (Activations[])[Activations.Full, Activations.Sublayers, Activations.Blocks])
                {
                    // As even parts of the batch as there are: 8, 4, 3, 2, 1.
                    for (int parts = 1, last = 0; parts <= free.MostExamples; parts++)
                    {
                        int examples = (free.MostExamples + parts - 1) / parts;
                        if (examples == last)
                            continue;
                        last = examples;
                        yield return MemoryPlan.Of(request with { Residence = residence, Forward = engine, Activations = activations, Examples = examples });
                    }
                }
            }
        }
    }

    private static ForwardEngine[] Engines(MemoryFreedom free, WeightResidence residence)
    {
        ForwardEngine engine = free.Forward ?? ForwardEngines.Training;
        return residence == WeightResidence.Streamed && engine == ForwardEngine.Ort && free.Residence is null ? [] : [engine];
    }

    // Of a source row, relative to full activations in large batches.
    private static double Cost(MemoryPlan plan)
    {
        MemoryRequest r = plan.Request;
        double cost = 2 + MemoryPlan.Recomputed(r.Activations);
        cost *= 1 + RowsOfOverhead / ((double)r.Examples * r.Source);
        return r.Residence == WeightResidence.Streamed ? cost * StreamingCost : cost;
    }

    private static string Refusal(MemoryRequest request, MemoryFreedom free, long budget)
    {
        MemoryPlan least = Leanest(request, free);
        if (request.Device is not null)
            return DeviceRefusal(request, free, budget, least);
        string found = $"a step does not fit into {ByteSize.Text(budget)}: {Describe(least)} is the least that these settings allow, and a tenth is kept to spare.";
        // One change first, the one that costs least time; then all that can be changed.
        foreach ((string change, MemoryFreedom? freed) in ((string, MemoryFreedom?)[])
            [
                ("--activations auto", free.Activations is null ? null : free with { Activations = null }),
                ("--forward native", free.Forward == ForwardEngine.Ort ? free with { Forward = ForwardEngine.Native } : null),
                ("--weights streamed", free.Residence is null or WeightResidence.Streamed ? null : free with { Residence = WeightResidence.Streamed, Forward = ForwardEngine.Native }),
                ("--weights streamed --activations blocks", free with { Residence = WeightResidence.Streamed, Forward = ForwardEngine.Native, Activations = Activations.Blocks }),
            ])
        {
            if (freed is not null && TryFit(request, freed, budget) is { } fits)
                return $"{found} Smallest change that fits: {change} ({Describe(fits)}).";
        }
        MemoryPlan lean = Leanest(request, free with { Residence = WeightResidence.Streamed, Forward = ForwardEngine.Native, Activations = Activations.Blocks });
        string shape = request.Weights.IsQuantised ? "" : ", weights exported with --dtype int4";
        return string.Create(CultureInfo.InvariantCulture, $"{found} Smallest change that fits: --memory-budget {Math.Ceiling(Margin * (lean.Total + RunToRun) / 1e6)}MB ({Describe(lean)}); or shorter inputs{shape}.");
    }

    // Weights cannot be streamed there; what helps is to keep less, to round the tape, or narrower weights.
    private static string DeviceRefusal(MemoryRequest request, MemoryFreedom free, long budget, MemoryPlan least)
    {
        string found = $"a step does not fit into {ByteSize.Text(budget)} of {request.Device}: {Describe(least)} is the least that these settings allow, and a tenth is kept to spare.";
        var changes = new List<(string Change, MemoryRequest Request, MemoryFreedom Freed)> { ("--activations auto", request, free with { Activations = null }) };
        // ONNX Runtime's arenas go first; what follows is our own forward pass' alone: a bf16 tape, and codes.
        string native = "";
        if (free.Forward == ForwardEngine.Ort)
        {
            native = "--forward native, ";
            free = free with { Forward = ForwardEngine.Native };
            changes.Add(("--forward native", request, free));
            changes.Add(("--forward native --activations auto", request, free with { Activations = null }));
        }
        changes.Add(($"{native}tape bf16", request with { Tape = DType.BF16 }, free with { Activations = null }));
        foreach (DType format in (DType[])[DType.BF16, DType.I8, DType.U4])
            changes.Add(($"{native}weights exported with --dtype {WeightFormats.Name(format)}", request with { Weights = StoredWeights.Of(request.Weights.Config, format), Tape = DType.BF16 }, free with { Activations = null }));
        foreach ((string change, MemoryRequest smaller, MemoryFreedom freed) in changes)
        {
            if ((smaller.Weights == request.Weights || smaller.Weights.Bytes < request.Weights.Bytes) && TryFit(smaller, freed, budget) is { } fits)
                return $"{found} Smallest change that fits: {change} ({Describe(fits)}).";
        }
        return $"{found} Nothing smaller fits either: use shorter inputs, a device with more memory, or --device cpu, which can stream weights.";
    }

    private static string Word<T>(T value)
        where T : struct, Enum => value.ToString().ToLowerInvariant();
}
