// Which activations are kept and how many examples are computed at once, from the memory that is free. Small on purpose: it never refuses.
using System.Globalization;
using IptNative.Model.Backward;
using IptNative.Model.Config;

namespace IptNative.Tuning.Training;

/// <summary>A choice and the reason for it.</summary>
/// <param name="Activations">What is kept.</param>
/// <param name="Limit">How much is computed at once.</param>
/// <param name="BytesPerPosition">Activations and scratch of one source position.</param>
public sealed record ActivationPlan(Activations Activations, MicroBatchLimit Limit, long BytesPerPosition)
{
    // Beyond a few thousand rows a matrix product is as fast as it gets, and activations leave the caches.
    private const long EnoughPositions = 8192;

    // Below this, keeping less in order to compute more at once pays.
    private const long FewPositions = 1024;

    /// <summary>Picks what is fastest in half of the free memory.</summary>
    /// <param name="config">The model.</param>
    /// <param name="wanted">What the user asked for; null picks.</param>
    /// <param name="examples">Most examples of a micro-batch; 0 for no limit.</param>
    /// <param name="freeBytes">Free memory.</param>
    /// <returns>The plan.</returns>
    public static ActivationPlan For(T5Config config, Activations? wanted, int examples, long freeBytes)
    {
        ArgumentNullException.ThrowIfNull(config);
        int most = examples == 0 ? int.MaxValue : examples;
        foreach (Activations activations in (ReadOnlySpan<Activations>)[Activations.Full, Activations.Sublayers, Activations.Blocks])
        {
            if (wanted is { } one && one != activations)
                continue;
            long bytes = Bytes(config, activations), positions = freeBytes / 2 / bytes;
            if (positions >= FewPositions || wanted is not null || activations == Activations.Blocks)
                return new ActivationPlan(activations, new MicroBatchLimit(most, Math.Clamp(positions, 1, EnoughPositions)), bytes);
        }
        throw new ArgumentOutOfRangeException(nameof(wanted));
    }

    /// <summary>The plan that a checkpoint remembers, unless the user asks for another one now: how a step is cut decides its last bits.</summary>
    /// <param name="text">What <see cref="ToText"/> gave.</param>
    /// <param name="config">The model.</param>
    /// <param name="wanted">What the user asks for now; null picks.</param>
    /// <param name="examples">Most examples of a micro-batch now; 0 for no limit.</param>
    /// <returns>The plan; null where the text is none or the user wants another.</returns>
    public static ActivationPlan? Remembered(string text, T5Config config, Activations? wanted, int examples)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(config);
        string[] parts = text.Split(' ');
        if (parts.Length != 2 || !Enum.TryParse(parts[0], out Activations activations) || !Enum.IsDefined(activations)
            || !long.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out long positions) || positions is < 1 or > EnoughPositions)
            return null;
        return wanted is { } other && other != activations ? null
            : new ActivationPlan(activations, new MicroBatchLimit(examples == 0 ? int.MaxValue : examples, positions), Bytes(config, activations));
    }

    /// <summary>The part of the plan that depends on the machine's free memory.</summary>
    /// <returns>For <see cref="Remembered"/>.</returns>
    public string ToText() => string.Create(CultureInfo.InvariantCulture, $"{Activations} {Limit.Positions}");

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

    // Encoder positions decide: targets are a few tokens. Scratch is one sublayer's projections and their gradients.
    private static long Bytes(T5Config c, Activations activations)
    {
        long d = c.DModel, inner = c.InnerDim, ff = (c.IsGated ? 2L : 1) * c.DFf;
        long kept = activations switch
        {
            Activations.Blocks => c.NumLayers * d,
            Activations.Sublayers => c.NumLayers * 2 * d,
            _ => c.NumLayers * (2 * d + 3 * inner + ff) + c.NumDecoderLayers * 2 * inner,
        };
        return sizeof(float) * (kept + 6 * d + 7 * inner + ff + c.DFf);
    }
}
