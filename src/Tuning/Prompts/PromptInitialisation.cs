// What a prompt starts from, as a run asks for it. Deliberately not the work: see PromptInitialiser.
namespace IptNative.Tuning.Prompts;

/// <summary>Kinds of starting point.</summary>
public enum PromptInitialisationKind
{
    /// <summary>Every number uniform in [-range, range].</summary>
    RandomUniform,

    /// <summary>Embeddings of random pieces among the most frequent ones, each at most once.</summary>
    SampledVocabulary,

    /// <summary>One row per label, the mean of its pieces' embeddings; the other rows (all of them where a task has no labels) as <see cref="SampledVocabulary"/>.</summary>
    ClassLabel,

    /// <summary>Embeddings of a text's pieces.</summary>
    Text,

    /// <summary>A prompt that was saved.</summary>
    File,
}

/// <summary>A starting point.</summary>
public sealed record PromptInitialisation
{
    /// <summary>Which kind.</summary>
    public PromptInitialisationKind Kind { get; init; } = PromptInitialisationKind.SampledVocabulary;

    /// <summary>P, the number of rows, 1 or more; null takes the text's or the file's length and is refused for the other kinds.</summary>
    public int? Length { get; init; }

    /// <summary>Half the width of the uniform distribution, above 0. Lester et al. 2021: 0.5.</summary>
    public float Range { get; init; } = 0.5f;

    /// <summary>How many of the most frequent pieces are sampled from, 1 or more. Lester et al. 2021: 5,000.</summary>
    public int VocabularySize { get; init; } = 5000;

    /// <summary>Label texts, for <see cref="PromptInitialisationKind.ClassLabel"/>.</summary>
    public IReadOnlyList<string> Labels { get; init; } = [];

    /// <summary>The text, for <see cref="PromptInitialisationKind.Text"/>.</summary>
    public string? Text { get; init; }

    /// <summary>PEFT folder, .npy, .safetensors or .pt, for <see cref="PromptInitialisationKind.File"/>.</summary>
    public string? Path { get; init; }
}

/// <summary>A fresh prompt and what is odd about it.</summary>
/// <param name="Prompt">The prompt.</param>
/// <param name="Notes">Sentences for a command to print; mostly none.</param>
public sealed record InitialPrompt(Prompt Prompt, IReadOnlyList<string> Notes);
