// Examples below a command's help, and the path of a command for messages.
using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace IptNative.Cli.Terminal;

/// <summary>Additions to the parser's help.</summary>
internal static class Help
{
    /// <summary>Prints <paramref name="examples"/> at the end of <c>--help</c>.</summary>
    /// <param name="command">A command.</param>
    /// <param name="examples">Whole command lines.</param>
    public static void WithExamples(this Command command, params string[] examples)
    {
        HelpOption? help = command.Options.OfType<HelpOption>().FirstOrDefault();
        if (help is null)
        {
            help = new HelpOption();
            command.Options.Add(help);
        }
        help.Action = new ActionWithExamples((SynchronousCommandLineAction)help.Action!, examples);
    }

    /// <summary>The words that lead to a command: iptnative generate.</summary>
    /// <param name="command">A command.</param>
    public static IEnumerable<string> Path(this Command command) =>
        command.Parents.OfType<Command>().FirstOrDefault() is { } parent ? parent.Path().Append(command.Name) : ["iptnative"];

    private sealed class ActionWithExamples(SynchronousCommandLineAction inner, string[] examples) : SynchronousCommandLineAction
    {
        // Who asks for help need not give the required options.
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            int code = inner.Invoke(parseResult);
            TextWriter output = parseResult.InvocationConfiguration.Output;
            output.WriteLine("Examples:");
            foreach (string example in examples)
                output.WriteLine($"  {example}");
            output.WriteLine();
            return code;
        }
    }
}
