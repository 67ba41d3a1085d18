// Results go to standard output as UTF-8 with '\n', buffered: a line at a time is slow where thousands are written.
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace IptNative.Cli.Terminal;

/// <summary>The stream that results are written to.</summary>
internal static class StandardOutput
{
    /// <summary>Opens it; dispose to flush.</summary>
    /// <returns>A writer without byte order mark; on a terminal every line is shown at once.</returns>
    /// <remarks>Writing throws where the reader of a pipe has gone: work whose results nobody reads ends.</remarks>
    public static TextWriter Open() =>
        new StreamWriter(Pipe() ?? Console.OpenStandardOutput(), new UTF8Encoding(false), 1 << 16) { NewLine = "\n", AutoFlush = !Console.IsOutputRedirected };

    // On Unix the console's stream swallows EPIPE, and an endless input would be answered for ever. A file stream does not; but in a regular file it
    // keeps a position of its own, which would not be that of other programs that write to the same file.
    private static FileStream? Pipe()
    {
        if (OperatingSystem.IsWindows() || !Console.IsOutputRedirected)
            return null;
        var stream = new FileStream(new SafeFileHandle(1, ownsHandle: false), FileAccess.Write, bufferSize: 0);
        if (!stream.CanSeek)
            return stream;
        stream.Dispose();
        return null;
    }
}
