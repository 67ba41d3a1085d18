// What a GPU's memory leaves of the server's limits, before anything is allocated there. Deliberately not: the counting (Tuning/Memory).
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Memory;

namespace IptNative.Server.Scheduling;

/// <summary>Plans the batch of a device with memory of its own.</summary>
internal static class DevicePlan
{
    /// <summary>The options with as many texts and positions at once as fit; what is less than was asked for is said.</summary>
    /// <param name="device">Holds nothing yet.</param>
    /// <param name="checkpoint">The model.</param>
    /// <param name="options">What was asked for.</param>
    /// <param name="promptRows">Rows of the longest prompt there is; one that comes later may be longer.</param>
    /// <param name="log">Told what was settled on.</param>
    /// <exception cref="InsufficientMemoryException">Not even one of the longest texts fits; the message names what would.</exception>
    public static ServerOptions Fit(ComputeDevice device, Checkpoint checkpoint, ServerOptions options, int promptRows, Action<string> log)
    {
        StoredWeights weights = StoredWeights.Of(checkpoint);
        int longest = options.MaxSourceLength + promptRows;
        var wanted = new EvaluationOptions { BatchSize = options.MaxBatch, MaxBatchPositions = Math.Max(options.MaxBatchPositions, longest) };
        // Each text of a batch may bring a prompt of its own.
        EvaluationOptions fits = AnswerPlanner.Fit(device, weights, wanted, (long)options.MaxBatch * promptRows, longest, options.MaxTokens);
        // A single text at a time is as long as any.
        int positions = fits.BatchSize == 1 ? longest : fits.MaxBatchPositions;
        bool less = fits.BatchSize < wanted.BatchSize || fits.MaxBatchPositions < wanted.MaxBatchPositions;
        log($"computing on {device.Name}{(device.FreeBytes is { } free ? $", {ByteSize.Text(free)} free" : "")}: weights of {ByteSize.Text(weights.Bytes)}, up to {fits.BatchSize} {(fits.BatchSize == 1 ? "text" : "texts")} of {positions} positions together"
            + (less ? $"; --max-batch {options.MaxBatch} and {wanted.MaxBatchPositions} positions do not fit. A smaller --max-source-length or --max-tokens, or weights exported narrower, leave room for more." : "."));
        return options with { MaxBatch = fits.BatchSize, MaxBatchPositions = Math.Min(options.MaxBatchPositions, positions), MaxChoices = Math.Min(options.MaxChoices, fits.BatchSize) };
    }
}
