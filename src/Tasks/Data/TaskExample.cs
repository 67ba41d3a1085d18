// One example as text. Deliberately not token ids: the tokenizer lives with the model.
namespace IptNative.Tasks.Data;

/// <summary>An input text and what counts as right.</summary>
/// <param name="Input">What the model reads, without prompt and task prefix.</param>
/// <param name="Answers">Gold answers, at least one; the first is what training aims at.</param>
public sealed record TaskExample(string Input, IReadOnlyList<string> Answers)
{
    /// <summary>The answer that training aims at.</summary>
    public string Target => Answers[0];

    /// <summary>What examples of one question or passage share (MultiRC, ReCoRD); null where examples stand alone.</summary>
    public string? Group { get; init; }

    /// <summary>The class where it is not the target itself (WSC: whether the referent is right); null elsewhere.</summary>
    public bool? IsPositive { get; init; }
}
