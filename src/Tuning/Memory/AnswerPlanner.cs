// How many answers a device with memory of its own generates at once, and the refusal where not even one fits. Nothing is allocated. Deliberately not: training
// steps (MemoryPlanner), the CPU, whose memory is the system's to give.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Evaluation;

namespace IptNative.Tuning.Memory;

/// <summary>Plans the answers of a device.</summary>
public static class AnswerPlanner
{
    // A text whose length is not known beforehand.
    private const int CommonPositions = 256;

    /// <summary>Refuses a model that the device has no room for, before anything is copied there.</summary>
    /// <param name="device">Where answers are to be generated; the CPU always may.</param>
    /// <param name="weights">The model.</param>
    /// <param name="promptRows">Rows of all prompts.</param>
    /// <exception cref="InsufficientMemoryException">Not even one text fits; the message names what would.</exception>
    public static void Require(ComputeDevice device, StoredWeights weights, long promptRows) =>
        Fit(device, weights, new EvaluationOptions { BatchSize = 1, MaxBatchPositions = 1, MaxTargetLength = 1 }, promptRows, CommonPositions, 1);

    /// <summary>As many answers at once as the device leaves room for.</summary>
    /// <param name="device">Where they are generated; on the CPU the options stay as they are.</param>
    /// <param name="weights">The model, not yet copied there.</param>
    /// <param name="options">What was asked for.</param>
    /// <param name="promptRows">Rows of all prompts.</param>
    /// <param name="longest">Source positions of the longest text, its prompt included.</param>
    /// <param name="tokens">Tokens of the longest answer.</param>
    /// <returns>The options with no more texts and positions than fit.</returns>
    /// <exception cref="InsufficientMemoryException">Not even one text fits; the message names what would.</exception>
    public static EvaluationOptions Fit(ComputeDevice device, StoredWeights weights, EvaluationOptions options, long promptRows, int longest, int tokens)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(weights);
        ArgumentNullException.ThrowIfNull(options);
        if (device is CpuDevice || MemoryPlanner.DeviceBudget(device, null) is not { } free)
            return options;
        var one = new MemoryRequest { Weights = weights, Device = device.Name, Compute = device.Compute, PromptRows = promptRows, AnswerPositions = longest, AnswerTexts = 1, AnswerBeams = options.NumBeams, AnswerTokens = tokens };
        for (int positions = options.MaxBatchPositions, texts = options.BatchSize; texts > 1 && positions > longest; (positions, texts) = (positions / 2, (texts + 1) / 2))
        {
            // A batch's positions count beams, its memory for sources does not.
            if (Fits(one with { AnswerPositions = Math.Max(longest, positions / options.NumBeams), AnswerTexts = texts }))
                return options with { MaxBatchPositions = positions, BatchSize = texts };
        }
        if (Fits(one))
            return options with { BatchSize = 1 };
        MemoryPlan least = MemoryPlan.OfAnswers(one);
        string found = $"an answer does not fit into {ByteSize.Text(free)} of {device.Name}: weights of {ByteSize.Text(weights.Bytes)} and a text of {longest} positions take {ByteSize.Text(least.Total)}, and a tenth is kept to spare.";
        foreach (DType format in (DType[])[DType.BF16, DType.I8, DType.U4])
        {
            StoredWeights narrower = StoredWeights.Of(weights.Config, format);
            if (narrower.Bytes < weights.Bytes && Fits(one with { Weights = narrower }))
                throw new InsufficientMemoryException($"{found} Smallest change that fits: weights exported with --dtype {WeightFormats.Name(format)} ({ByteSize.Text(narrower.Bytes)}).");
        }
        throw new InsufficientMemoryException($"{found} Nothing smaller fits either: use shorter inputs, a device with more memory, or --device cpu.");

        bool Fits(MemoryRequest request) => MemoryPlanner.Fits(MemoryPlan.OfAnswers(request), free);
    }
}
