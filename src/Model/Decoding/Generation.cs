// What decoding gives back. Deliberately not: text; ids become text in the tokenizer.
namespace IptNative.Model.Decoding;

/// <summary>Why a text ended.</summary>
public enum FinishReason
{
    /// <summary>The model produced the end-of-sequence token.</summary>
    EndOfSequence,

    /// <summary>The maximum length was reached first.</summary>
    MaxLength,
}

/// <summary>One generated text.</summary>
public sealed record GeneratedSequence
{
    /// <summary>Token ids, without decoder start and without end of sequence.</summary>
    public required int[] Ids { get; init; }

    /// <summary>
    /// Sum of the tokens' log probabilities, end of sequence included; in beam search divided by length^length_penalty.
    /// Always of the model's own distribution: temperature, top-k and top-p choose tokens but do not flatter the score.
    /// </summary>
    public required double Score { get; init; }

    /// <summary>Why it ended.</summary>
    public required FinishReason Finish { get; init; }

    /// <summary>Log probability of each of <see cref="Ids"/>, then of the end-of-sequence token where there is one; null unless asked for.</summary>
    public float[]? TokenLogProbs { get; init; }
}
