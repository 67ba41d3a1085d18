// The program's entry: parse, run a command, exit code. No numerics.
namespace IptNative.Cli;

/// <summary>Entry point of <c>iptnative</c>.</summary>
public static class Program
{
    /// <summary>Runs one command.</summary>
    /// <param name="args">The command line.</param>
    /// <returns>0 done, 1 failed, 2 usage, 130 interrupted.</returns>
    public static int Main(string[] args) => args.Length == 0 ? 2 : 0;
}
