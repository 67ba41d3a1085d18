// The --threads option, one wording for every command that has it.
using System.CommandLine;

namespace IptNative.Cli.Terminal;

/// <summary>How many CPU threads a command takes.</summary>
internal sealed class ThreadsOption : Option<int>
{
    // A few more than the cores is a fair experiment; thousands only make the machine stand still.
    private static int Most => 4 * Environment.ProcessorCount;

    public ThreadsOption()
        : base("--threads")
    {
        Description = "CPU threads; 0 takes every core.";
        DefaultValueFactory = _ => 0;
    }

    /// <summary>The number asked for.</summary>
    /// <param name="parsed">The command line.</param>
    /// <returns>0 for every core.</returns>
    /// <exception cref="UsageException">It is negative or far above the cores.</exception>
    public int Of(ParseResult parsed) => parsed.GetValue(this) is var threads && threads >= 0 && threads <= Most ? threads
        : throw new UsageException($"--threads is {threads}, expected 0 (every core) to {Most}, four for each of the {Environment.ProcessorCount} cores here.");
}
