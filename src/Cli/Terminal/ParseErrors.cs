// What is wrong with a command line, in our words: the parser's own name .NET types and list every word after the first mistake.
using System.CommandLine;
using System.CommandLine.Parsing;
using IptNative.Model.Checkpoints;

namespace IptNative.Cli.Terminal;

/// <summary>Turns the parser's errors into one message.</summary>
internal static class ParseErrors
{
    /// <summary>The message for a command line that has errors.</summary>
    /// <param name="parsed">With at least one error.</param>
    /// <returns>What was found, what was expected, where the help is.</returns>
    public static string Describe(ParseResult parsed)
    {
        Command command = parsed.CommandResult.Command;
        string path = string.Join(' ', command.Path());
        string what = parsed.UnmatchedTokens is [string first, ..] ? Unmatched(command, first)
            : command.Subcommands.Count > 0 ? $"no command was given, expected {Commands(command)}."
            // Mistakes of one kind all at once: all options that are missing, but not what follows from another mistake.
            : string.Join($"{Environment.NewLine}iptnative: ", parsed.Errors.Select(Message).Distinct());
        return $"{what}{Environment.NewLine}See: {path} --help";
    }

    private static string Unmatched(Command command, string token)
    {
        if (command.Subcommands.Count > 0 && !token.StartsWith('-'))
            return $"there is no command '{token}'; {Nearest(command.Subcommands.Select(c => c.Name), token)}expected {Commands(command)}.";
        if (!token.StartsWith('-'))
            return $"{command.Name}: found '{token}', which belongs to no option. Texts and paths with blanks need quotation marks.";
        IEnumerable<string> names = command.Options.SelectMany(o => o.Aliases.Append(o.Name)).Where(name => name.StartsWith("--", StringComparison.Ordinal));
        return $"{command.Name}: there is no option '{token}'{(Nearest(names, token) is { Length: > 0 } near ? $"; {near.TrimEnd(',', ' ')}" : "")}.";
    }

    private static string Nearest(IEnumerable<string> names, string wanted) =>
        NearestName.Of([.. names], wanted, atMost: Math.Max(2, wanted.Length / 3)) is { } name ? $"the nearest is '{name}', " : "";

    private static string Commands(Command command) => string.Join(", ", command.Subcommands.Select(c => c.Name));

    private static string Message(ParseError error) => error.SymbolResult switch
    {
        OptionResult { Tokens: [Token value] } option when Expected(option.Option.ValueType) is { } expected =>
            $"{option.Option.Name} is '{value.Value}', expected {expected}.",
        OptionResult { Tokens: [Token value] } option when error.Message.Contains('\n', StringComparison.Ordinal) =>
            $"{option.Option.Name} is '{value.Value}', expected {string.Join(", ", error.Message.Split('\n')[1..].Select(line => line.Trim().Trim('\'')))}.",
        ArgumentResult { Parent: OptionResult { Tokens: [Token value] } option } when Expected(option.Option.ValueType) is { } expected =>
            $"{option.Option.Name} is '{value.Value}', expected {expected}.",
        ArgumentResult { Tokens.Count: 0, Parent: CommandResult } argument => $"the {argument.Argument.Name} is missing: {argument.Argument.Description}",
        _ => error.Message.ReplaceLineEndings(" ").Replace("\t", "", StringComparison.Ordinal),
    };

    private static string? Expected(Type type) => Type.GetTypeCode(Nullable.GetUnderlyingType(type) ?? type) switch
    {
        TypeCode.Int32 or TypeCode.Int64 => "a whole number",
        TypeCode.Single or TypeCode.Double => "a number",
        _ => null,
    };
}
