// Results go to standard output as UTF-8 with '\n', buffered: a line at a time is slow where thousands are written.
using System.Text;

namespace IptNative.Cli.Terminal;

/// <summary>The stream that results are written to.</summary>
internal static class StandardOutput
{
    /// <summary>Opens it; dispose to flush.</summary>
    /// <returns>A writer without byte order mark; on a terminal every line is shown at once.</returns>
    public static TextWriter Open() =>
        new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false), 1 << 16) { NewLine = "\n", AutoFlush = !Console.IsOutputRedirected };
}
