// Progress on stderr, only for work that takes over two seconds: a rewritten line on a terminal, plain lines otherwise.
using System.Diagnostics;

namespace IptNative.Cli.Terminal;

/// <summary>Says how far a long piece of work is. Silent for short ones; a clock of its own speaks up even where one step takes minutes.</summary>
internal sealed class ProgressLine : IDisposable
{
    // Shorter work needs no progress; a file or a log gets a line every ten seconds, a terminal five a second.
    private static readonly TimeSpan Quiet = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan PlainInterval = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan LiveInterval = TimeSpan.FromMilliseconds(200);

    private readonly Lock _lock = new();
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly bool _live = !Console.IsErrorRedirected;
    private readonly string _what;
    private readonly Timer _timer;
    private long _done;
    private long _total;
    private string _detail = "";
    private int _width;

    /// <summary>Starts the clock.</summary>
    /// <param name="what">What is being done: "exporting".</param>
    public ProgressLine(string what)
    {
        _what = what;
        _timer = new Timer(_ => Tick(), null, Quiet, _live ? LiveInterval : PlainInterval);
    }

    /// <summary>Reports the units done so far; the next tick of the clock shows them.</summary>
    /// <param name="done">0 to total.</param>
    /// <param name="total">Units of the whole; 0 where nobody knows.</param>
    /// <param name="detail">What is at hand now, or the units' name where there is no total.</param>
    public void Report(long done, long total, string detail = "")
    {
        lock (_lock)
            (_done, _total, _detail) = (done, total, detail);
    }

    /// <summary>Clears the live line, so that a result may be written where it stood.</summary>
    public void Clear()
    {
        lock (_lock)
        {
            if (_width > 0)
                Console.Error.Write("\r" + new string(' ', _width) + "\r");
            _width = 0;
        }
    }

    /// <summary>Stops the clock and clears the live line.</summary>
    public void Dispose()
    {
        using (var stopped = new ManualResetEvent(false))
        {
            // No tick may follow what is printed next.
            if (_timer.Dispose(stopped))
                stopped.WaitOne();
        }
        Clear();
    }

    private void Tick()
    {
        lock (_lock)
        {
            string line = Line(_what, _clock.Elapsed, _done, _total, _detail);
            if (_live)
            {
                Console.Error.Write("\r" + line.PadRight(_width));
                _width = line.Length;
            }
            else
                Console.Error.WriteLine(line);
        }
    }

    internal static string Line(string what, TimeSpan elapsed, long done, long total, string detail)
    {
        if (total <= 0)
            return $"{what}: {(done > 0 ? $"{done} {detail}, " : "")}{elapsed:h\\:mm\\:ss}";
        string left = done > 0 ? $", {elapsed * ((double)(total - done) / done):h\\:mm\\:ss} left" : "";
        return $"{what}: {100.0 * done / total:0} %{left} {detail}".TrimEnd();
    }
}
