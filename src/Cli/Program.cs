// The program's entry: parse, run a command, exit code. No numerics.
using System.CommandLine;
using IptNative.Cli.Commands;
using IptNative.Cli.Terminal;
using IptNative.Kernels.Cpu;
using IptNative.Tuning.Ipt;

namespace IptNative.Cli;

/// <summary>Entry point of <c>iptnative</c>.</summary>
public static class Program
{
    /// <summary>Runs one command.</summary>
    /// <param name="args">The command line.</param>
    /// <returns>0 done, 1 failed, 2 usage, 130 interrupted.</returns>
    public static int Main(string[] args)
    {
        LostPages.EndWith(PageLost, ExitCode.Failed);
        ParseResult parsed = Root().Parse(args);
        return parsed.Errors.Count > 0
            ? ExitCode.Report(ParseErrors.Describe(parsed), ExitCode.Usage)
            : parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
    }

    internal const string PageLost = "iptnative: reading a mapped file; a page of it is gone, expected the file as it was opened: it was truncated or rewritten while it was in use, or its disk failed. "
        + "Export or copy it again and start anew, a run with --resume.\n";

    internal static RootCommand Root()
    {
        var root = new RootCommand("Prompt tuning and Intrinsic Prompt Tuning of a frozen T5: forward in ONNX Runtime, hand-written gradients, no Python.");
        root.Subcommands.Add(TrainCommand.Create());
        root.Subcommands.Add(IptCommand.Create(IptRunner.Create));
        root.Subcommands.Add(GenerateCommand.Create());
        root.Subcommands.Add(EvaluateCommand.Create());
        root.Subcommands.Add(InspectCommand.Create());
        root.Subcommands.Add(PromptsCommand.Create());
        root.Subcommands.Add(TransferCommand.Create());
        root.Subcommands.Add(SweepCommand.Create());
        root.Subcommands.Add(ServeCommand.Create());
        root.Subcommands.Add(TokenizeCommand.Create());
        root.Subcommands.Add(ExportCommand.Create());
        root.Subcommands.Add(ParityCommand.Create());
        root.Subcommands.Add(PlanCommand.Create());
        root.Subcommands.Add(BenchCommand.Create());
        root.Subcommands.Add(ProfileCommand.Create());
        root.Subcommands.Add(DoctorCommand.Create());
        root.WithExamples(
            "iptnative generate --model models/t5-gym-tiny --input \"[clinc150-domain] what is my balance\"",
            "iptnative parity tests/Goldens/t5v11");
        return root;
    }
}
