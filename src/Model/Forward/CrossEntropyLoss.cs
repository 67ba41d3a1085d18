// The loss of a scored batch as one number, for evaluation and parity. Deliberately not the training step's loss, which needs groups and a gradient.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Model.Forward;

/// <summary>Token losses of a <see cref="DecodedBatch"/>, in double. Leaves the logits as they are.</summary>
public static class CrossEntropyLoss
{
    /// <summary>Mean cross entropy over the tokens that count (HF: model(...).loss).</summary>
    /// <param name="model">The model that scored the batch.</param>
    /// <param name="decoded">Logits and labels.</param>
    /// <returns>The mean.</returns>
    /// <exception cref="ArgumentException">No label counts: the mean does not exist.</exception>
    public static double Mean(FrozenT5 model, DecodedBatch decoded)
    {
        (double sum, long tokens) = Sum(model, decoded, TokenLoss.Plain);
        return tokens > 0 ? sum / tokens : throw new ArgumentException($"mean loss: all {decoded.Labels.Elements} labels are {T5Batch.Ignore}, expected at least one that counts.", nameof(decoded));
    }

    /// <summary>Label-smoothed loss summed over the tokens that count (Intrinsic Prompt Tuning's released code: smoothing 0.1).</summary>
    /// <param name="model">The model that scored the batch.</param>
    /// <param name="decoded">Logits and labels.</param>
    /// <param name="labelSmoothing">e, 0 to 1: the target is 1 - e on the label plus e / V on every class.</param>
    /// <returns>The sum.</returns>
    public static double LabelSmoothedSum(FrozenT5 model, DecodedBatch decoded, double labelSmoothing) =>
        Sum(model, decoded, TokenLoss.Plain with { LabelSmoothing = labelSmoothing }).Sum;

    private static unsafe (double Sum, long Tokens) Sum(FrozenT5 model, DecodedBatch decoded, TokenLoss options)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(decoded);
        long rows = decoded.Labels.Elements;
        using DeviceBuffer loss = model.Host.Allocate(DType.F64, rows, "token losses");
        CrossEntropy.Forward(model.Host, decoded.Logits, decoded.Labels, loss.Tensor, rows, model.Config.VocabSize, options);
        double sum = 0;
        long tokens = 0;
        for (long i = 0; i < rows; i++)
        {
            sum += ((double*)loss.Tensor.Address)[i];
            tokens += ((int*)decoded.Labels.Address)[i] == options.IgnoreIndex ? 0 : 1;
        }
        return (sum, tokens);
    }
}
