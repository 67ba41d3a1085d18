// The prompts of a run: length and first values. Deliberately not the drawing of them.
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Runs;

/// <summary>What a prompt starts from.</summary>
public enum PromptInit
{
    /// <summary>Uniform random numbers.</summary>
    Uniform,

    /// <summary>Embeddings of frequent pieces of the vocabulary, without replacement.</summary>
    Vocab,

    /// <summary>One row per label, the rest from the vocabulary.</summary>
    ClassLabel,

    /// <summary>The embeddings of a text.</summary>
    Text,

    /// <summary>A saved prompt.</summary>
    File,
}

/// <summary>Options of the prompts.</summary>
public sealed record PromptConfig
{
    private static readonly (string, PromptInit)[] Inits =
        [("uniform", PromptInit.Uniform), ("vocab", PromptInit.Vocab), ("class_label", PromptInit.ClassLabel), ("text", PromptInit.Text), ("file", PromptInit.File)];

    /// <summary>Virtual tokens.</summary>
    public int Length { get; init; } = 100;

    /// <summary>What the prompts start from.</summary>
    public PromptInit Init { get; init; } = PromptInit.ClassLabel;

    /// <summary>The text for <see cref="PromptInit.Text"/>.</summary>
    public string? InitText { get; init; }

    /// <summary>The saved prompt for <see cref="PromptInit.File"/>.</summary>
    public string? InitFile { get; init; }

    /// <summary>Uniform draws from minus this to this.</summary>
    public double UniformRange { get; init; } = 0.5;

    /// <summary>Vocabulary draws from the first so many pieces, which are the most frequent.</summary>
    public int VocabPieces { get; init; } = 5000;

    /// <summary>Where the virtual tokens stand; null puts them first. Its number of virtual tokens has to be <see cref="Length"/>.</summary>
    public string? Template { get; init; }

    internal PromptConfig Visit(OptionVisitor v) => new()
    {
        Length = v.Int("length", Length, 1, "Virtual tokens of a prompt."),
        Init = v.Choice("init", Init, Inits, "What the prompts start from."),
        InitText = v.Text("init_text", InitText, "The text of init 'text'."),
        InitFile = v.FilePath("init_file", InitFile, "The saved prompt of init 'file': a PEFT folder or .npy file."),
        UniformRange = v.Number("uniform_range", UniformRange, NumberRange.Above(0), "Init 'uniform' draws from minus this to this."),
        VocabPieces = v.Int("vocab_pieces", VocabPieces, 1, "Init 'vocab' draws from the first so many pieces of the vocabulary."),
        Template = v.Text("template", Template, "Where virtual tokens, input and answer stand: \"[P:3] {text} [P:3] It was [slot]\"; null puts the prompt first. 'length' has to be the number of its virtual tokens."),
    };

    internal void Validate()
    {
        if (Template is not null && PromptTemplate.Parse(Template).Rows is var rows && rows != Length)
            throw new ArgumentException($"prompt.template has {rows} virtual tokens and prompt.length is {Length}, expected the same number: \"length\": {rows}.");
        if (Init == PromptInit.Text && string.IsNullOrWhiteSpace(InitText))
            throw new ArgumentException("prompt.init is \"text\" without prompt.init_text, expected the text to start from.");
        if (Init != PromptInit.Text && InitText is not null)
            throw new ArgumentException("prompt.init_text is given, but prompt.init is another, expected \"init\": \"text\" or no text.");
        if (Init == PromptInit.File && InitFile is null)
            throw new ArgumentException("prompt.init is \"file\" without prompt.init_file, expected a PEFT folder or a .npy file.");
        if (Init != PromptInit.File && InitFile is not null)
            throw new ArgumentException("prompt.init_file is given, but prompt.init is another, expected \"init\": \"file\" or no file.");
    }
}
