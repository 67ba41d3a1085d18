// A prompt that clients may name. Deliberately not: where prompts come from (PromptLibrary).
using IptNative.Tuning.Prompts;

namespace IptNative.Server.Prompts;

/// <summary>A named prompt; requests that hold it keep it, whatever happens to its file.</summary>
/// <param name="Name">What clients call it.</param>
/// <param name="Path">Its file or folder; empty for the bare model.</param>
/// <param name="Prompt">Null for the bare model.</param>
/// <param name="Created">When its file was written.</param>
internal sealed record ServedPrompt(string Name, string Path, Prompt? Prompt, DateTimeOffset Created)
{
    // Names are file names and parts of addresses: nothing in them may mean anything to either.
    public static bool IsName(string name) =>
        name.Length is >= 1 and <= 100 && char.IsAsciiLetterOrDigit(name[0])
        && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-') && !name.Contains("..", StringComparison.Ordinal);

    public const string NameRule = "1 to 100 letters, digits, '.', '_' or '-', the first a letter or digit, no '..'";
}
