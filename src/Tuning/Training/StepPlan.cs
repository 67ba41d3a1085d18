// How a training run cuts and computes its steps: chosen once from the memory there is, and remembered with the run, since the cut decides a step's last bits.
using System.Globalization;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Tuning.Memory;

namespace IptNative.Tuning.Training;

/// <summary>A choice.</summary>
/// <param name="Activations">What is kept.</param>
/// <param name="Limit">How much is computed at once.</param>
/// <param name="Weights">Where the weights are.</param>
/// <param name="Forward">Who computes the forward pass.</param>
public sealed record StepPlan(Activations Activations, MicroBatchLimit Limit, WeightResidence Weights, ForwardEngine Forward)
{
    /// <summary>Beyond so many rows a matrix product is as fast as it gets, and activations leave the caches.</summary>
    public const int EnoughPositions = 8192;

    /// <summary>The same for a GPU, which needs more rows to be busy: a guess, not measured.</summary>
    public const int EnoughDevicePositions = 65536;

    /// <summary>Picks what is fastest in a budget, or in half of the free memory.</summary>
    /// <param name="request">Sizes of the longest examples; what is free is overwritten.</param>
    /// <param name="free">What may be chosen; its examples are those of a whole step.</param>
    /// <param name="budget">Bytes that the process may hold; null: half of what is free, which is never refused.</param>
    /// <param name="freeBytes">Free memory.</param>
    /// <returns>The choice, and the table it was made from.</returns>
    /// <exception cref="InsufficientMemoryException">Nothing fits into the budget; the message names the smallest change that does.</exception>
    public static (StepPlan Plan, MemoryPlan Memory) For(MemoryRequest request, MemoryFreedom free, long? budget, long freeBytes)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(free);
        MemoryFreedom enough = free with { MostExamples = Math.Clamp(EnoughPositions / request.Source, 1, free.MostExamples) };
        MemoryPlan memory = budget is { } bytes ? MemoryPlanner.Fit(request, enough, bytes)
            // Nobody asked for less speed: streaming is for those who did.
            : MemoryPlanner.TryFit(request, enough with { Residence = free.Residence ?? WeightResidence.Mapped }, freeBytes / 2)
                ?? MemoryPlanner.TryFit(request, enough, freeBytes / 2) ?? MemoryPlanner.Leanest(request, enough);
        MemoryRequest chosen = memory.Request;
        var limit = new MicroBatchLimit(chosen.Examples, Math.Max(1, (long)chosen.Examples * chosen.Source));
        return (new StepPlan(chosen.Activations, limit, chosen.Residence, chosen.Forward), memory);
    }

    /// <summary>Picks what is fastest on a device with memory of its own.</summary>
    /// <param name="device">The device.</param>
    /// <param name="request">As for <see cref="For"/>, and names the device.</param>
    /// <param name="free">As for <see cref="For"/>.</param>
    /// <param name="budget">Bytes of the device's memory; null: what is free.</param>
    /// <param name="held">Bytes of what is planned that the device holds already: weights, scratch.</param>
    /// <returns>The choice, and the table it was made from.</returns>
    /// <exception cref="InsufficientMemoryException">Nothing fits: refused before anything is allocated; the message names what would fit.</exception>
    public static (StepPlan Plan, MemoryPlan Memory) On(ComputeDevice device, MemoryRequest request, MemoryFreedom free, long? budget, long held = 0)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(free);
        MemoryFreedom enough = free with { MostExamples = Math.Clamp(EnoughDevicePositions / request.Source, 1, free.MostExamples) };
        MemoryPlan memory = MemoryPlanner.Fit(request, enough, MemoryPlanner.DeviceBudget(device, budget, held) ?? long.MaxValue);
        MemoryRequest chosen = memory.Request;
        var limit = new MicroBatchLimit(chosen.Examples, Math.Max(1, (long)chosen.Examples * chosen.Source));
        return (new StepPlan(chosen.Activations, limit, chosen.Residence, chosen.Forward), memory);
    }

    /// <summary>The plan that a checkpoint remembers, unless the user asks for another one now.</summary>
    /// <param name="text">What <see cref="ToText"/> gave.</param>
    /// <param name="free">What the user leaves open now.</param>
    /// <returns>The plan; null where the text is none or the user wants another.</returns>
    public static StepPlan? Remembered(string text, MemoryFreedom free)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(free);
        string[] parts = text.Split(' ');
        if (parts.Length != 5 || !Word(parts[0], out Activations activations) || !Word(parts[3], out WeightResidence weights) || !Word(parts[4], out ForwardEngine forward)
            || !int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int examples) || examples < 1
            || !long.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out long positions) || positions < 1)
            return null;
        bool other = (free.Activations ?? activations) != activations || (free.Residence ?? weights) != weights || (free.Forward ?? forward) != forward || examples > free.MostExamples;
        return other ? null : new StepPlan(activations, new MicroBatchLimit(examples, positions), weights, forward);
    }

    /// <summary>The plan as one line.</summary>
    /// <returns>For <see cref="Remembered"/>.</returns>
    public string ToText() => string.Create(CultureInfo.InvariantCulture, $"{Activations} {Limit.Examples} {Limit.Positions} {Weights} {Forward}");

    /// <summary>Memory that the system could give without swapping.</summary>
    /// <returns>Bytes.</returns>
    public static long FreeBytes()
    {
        long free = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        if (!OperatingSystem.IsLinux())
            return free;
        foreach (string line in File.ReadLines("/proc/meminfo"))
        {
            if (line.StartsWith("MemAvailable:", StringComparison.Ordinal))
                return Math.Min(free, 1024 * long.Parse(line["MemAvailable:".Length..^"kB".Length], CultureInfo.InvariantCulture));
        }
        return free;
    }

    // Names only: Enum.TryParse would take numbers too.
    private static bool Word<T>(string text, out T value)
        where T : struct, Enum => Enum.TryParse(text, out value) && Enum.IsDefined(value) && !char.IsAsciiDigit(text.FirstOrDefault());
}
