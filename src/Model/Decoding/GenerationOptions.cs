// What a user may ask of decoding, with Hugging Face's names and defaults. Deliberately not: the token ids, which belong to the checkpoint.
namespace IptNative.Model.Decoding;

/// <summary>When beam search stops looking for better hypotheses (HF: early_stopping).</summary>
public enum EarlyStopping
{
    /// <summary>HF's False: stop when no running beam, scored at its present length, can beat the worst kept hypothesis (a heuristic).</summary>
    False,

    /// <summary>HF's True: stop as soon as num_beams hypotheses are complete.</summary>
    True,

    /// <summary>HF's "never": stop only when no running beam can beat the worst kept hypothesis at any length up to the maximum.</summary>
    Never,
}

/// <summary>Settings of greedy, beam and sampled decoding.</summary>
/// <remarks>Differs from HF: lengths count new tokens (max_new_tokens there), because decoder_start_token_id is nothing a user asked for.</remarks>
public sealed record GenerationOptions
{
    /// <summary>Most tokens to generate per text, the end-of-sequence token included.</summary>
    public int MaxLength { get; init; } = 64;

    /// <summary>Tokens that must come before the end-of-sequence token may.</summary>
    public int MinLength { get; init; }

    /// <summary>Beams per example; 1 is greedy search or sampling.</summary>
    public int NumBeams { get; init; } = 1;

    /// <summary>Exponent of the length that a beam's log probability is divided by; above 0 favours long texts.</summary>
    public double LengthPenalty { get; init; } = 1;

    /// <summary>When beam search ends.</summary>
    public EarlyStopping EarlyStopping { get; init; }

    /// <summary>Counts decoder_start_token_id in the length of hypotheses cut by <see cref="MaxLength"/>, as Hugging Face did before it turned to generated lengths.</summary>
    public bool CountDecoderStart { get; init; }

    /// <summary>Draws tokens instead of taking the most probable one.</summary>
    public bool DoSample { get; init; }

    /// <summary>Divides the logits before sampling; above 0, below 1 sharpens.</summary>
    public double Temperature { get; init; } = 1;

    /// <summary>Samples among this many most probable tokens (ties with the last one stay); 0 is all.</summary>
    public int TopK { get; init; } = 50;

    /// <summary>Samples among the most probable tokens whose mass reaches this; 1 is all.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Seed of sampling.</summary>
    public long Seed { get; init; }

    /// <summary>Texts returned per example: the best hypotheses of beam search, or independent samples.</summary>
    public int NumReturnSequences { get; init; } = 1;

    /// <summary>Returns the log probability of every token, too.</summary>
    public bool ReturnLogProbs { get; init; }

    /// <summary>Checks every value and combination.</summary>
    /// <returns>This object.</returns>
    /// <exception cref="ArgumentException">A value or a combination is impossible; the message names it and what is allowed.</exception>
    public GenerationOptions Validate()
    {
        Require(MaxLength >= 1, "max_length", MaxLength, "at least 1 new token");
        Require(MinLength >= 0 && MinLength < MaxLength, "min_length", MinLength, $"0 to max_length - 1 = {MaxLength - 1}");
        Require(NumBeams is >= 1 and <= MaxBeams, "num_beams", NumBeams, $"1 to {MaxBeams}");
        Require(double.IsFinite(LengthPenalty), "length_penalty", LengthPenalty, "a finite number");
        Require(Enum.IsDefined(EarlyStopping), "early_stopping", (int)EarlyStopping, "false, true or never");
        Require(Temperature > 0 && double.IsFinite(Temperature), "temperature", Temperature, "a finite number above 0 (for the most probable token, do not sample)");
        Require(TopK >= 0, "top_k", TopK, "0 (all tokens) or more");
        Require(TopP is > 0 and <= 1, "top_p", TopP, "above 0 and at most 1 (all tokens)");
        Require(NumReturnSequences is >= 1 and <= MaxBeams, "num_return_sequences", NumReturnSequences, $"1 to {MaxBeams}");
        if (DoSample && NumBeams > 1)
            throw new ArgumentException($"Generation options: sampling with num_beams {NumBeams} was asked for; sampling and beam search exclude each other. Use num_beams 1, or do not sample.");
        if (!DoSample && NumReturnSequences > NumBeams)
            throw new ArgumentException($"Generation options: num_return_sequences is {NumReturnSequences}, num_beams is {NumBeams}; a search returns at most its beams. Raise num_beams, or sample.");
        return this;
    }

    // Keeps batch * beams * vocabulary within int and the candidate list short enough for insertion.
    private const int MaxBeams = 256;

    private static void Require(bool ok, string name, object value, string expected)
    {
        if (!ok) throw new ArgumentException($"Generation options: {name} is {value}; expected {expected}.");
    }
}
