// Progress on stderr, only for work that takes over two seconds: a rewritten line on a terminal, plain lines otherwise.
using System.Diagnostics;

namespace IptNative.Cli.Terminal;

/// <summary>Says how far a long piece of work is. Silent for short ones.</summary>
/// <param name="what">What is being done: "exporting".</param>
internal sealed class ProgressLine(string what) : IDisposable
{
    // Shorter work needs no progress; a file or a log gets a line every ten seconds, a terminal ten a second.
    private static readonly TimeSpan Quiet = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan PlainInterval = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan LiveInterval = TimeSpan.FromMilliseconds(100);

    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly bool _live = !Console.IsErrorRedirected;
    private TimeSpan _last;
    private int _width;

    /// <summary>Reports the units done so far.</summary>
    /// <param name="done">0 to total.</param>
    /// <param name="total">Units of the whole.</param>
    /// <param name="detail">What is at hand now.</param>
    public void Report(long done, long total, string detail = "")
    {
        TimeSpan now = _clock.Elapsed;
        if (now < Quiet || now - _last < (_live ? LiveInterval : PlainInterval))
            return;
        _last = now;
        string left = done > 0 ? $", {TimeSpan.FromTicks((long)(now.Ticks * ((double)(total - done) / done))):h\\:mm\\:ss} left" : "";
        string line = $"{what}: {100.0 * done / total:0} %{left} {detail}".TrimEnd();
        if (_live)
            Console.Error.Write("\r" + line.PadRight(_width));
        else
            Console.Error.WriteLine(line);
        _width = line.Length;
    }

    /// <summary>Clears the live line.</summary>
    public void Dispose()
    {
        if (_live && _width > 0)
            Console.Error.Write("\r" + new string(' ', _width) + "\r");
    }
}
