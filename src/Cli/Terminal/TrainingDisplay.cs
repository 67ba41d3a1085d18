// What a training looks like while it runs: a few redrawn lines on a terminal, a plain line now and then otherwise. Always on stderr.
// Deliberately not: what is kept (RunRecorder); nothing here is ever read back.
using System.Globalization;
using System.Text;
using IptNative.Tuning.Runs;

namespace IptNative.Cli.Terminal;

/// <summary>How and where a display is drawn.</summary>
internal sealed record DisplayOptions
{
    /// <summary>Redraw in place; false prints plain lines.</summary>
    public bool Live { get; init; }

    /// <summary>Colours, where live.</summary>
    public bool Color { get; init; }

    /// <summary>The terminal shows more than ASCII.</summary>
    public bool Unicode { get; init; } = true;

    /// <summary>Columns and rows of the terminal, asked again at each drawing.</summary>
    public Func<(int Columns, int Rows)> Size { get; init; } = () => (80, 24);

    /// <summary>Bytes of memory that the process has now.</summary>
    public Func<long> Memory { get; init; } = () => Environment.WorkingSet;

    /// <summary>Time between two plain lines.</summary>
    public TimeSpan PlainInterval { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The clock.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;

    /// <summary>For standard error: live where it is a terminal that understands cursor movements, colours unless NO_COLOR says no (no-color.org).</summary>
    public static DisplayOptions OfConsole()
    {
        bool live = !Console.IsErrorRedirected && Environment.GetEnvironmentVariable("TERM") is not "dumb";
        return new DisplayOptions
        {
            Live = live,
            Color = live && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR")),
            Unicode = Console.OutputEncoding.CodePage == Encoding.UTF8.CodePage,
            Size = () => (Console.WindowWidth, Console.WindowHeight),
        };
    }
}

/// <summary>Shows step, loss, score, speed, memory and time left; several runs side by side as one line a task.</summary>
internal sealed class TrainingDisplay : IRunObserver, IDisposable
{
    private const int MostTaskLines = 8;
    private static readonly TimeSpan LiveInterval = TimeSpan.FromMilliseconds(200);

    // Speed is what the last few seconds were like, not the average since the start: forget by this much a second.
    private const double ForgetPerSecond = 0.2;

    // The trainer's thread draws; an interruption speaks up from another one.
    private readonly Lock _gate = new();
    private readonly TextWriter _output;
    private readonly DisplayOptions _options;
    private RunStart? _start;
    private Run[] _runs = [];
    private TaskGroup[] _tasks = [];
    private long _step;
    private double _stepSeconds;
    private double _tokensPerSecond;
    private double _evalSeconds;
    private long _stepsSeen;
    private TimeSpan? _took;
    private long _began;
    private long _lastDrawn;
    private int _linesDrawn;

    /// <summary>Makes a display.</summary>
    /// <param name="output">Standard error.</param>
    /// <param name="options">How it is drawn.</param>
    public TrainingDisplay(TextWriter output, DisplayOptions options)
    {
        _output = output;
        _options = options;
    }

    /// <inheritdoc/>
    public void Started(RunStart start)
    {
        _start = start;
        _runs = [.. start.Rows.Select(_ => new Run())];
        _tasks = [.. start.Rows.GroupBy(r => r.TaskIndex).OrderBy(g => g.Key).Select(g => new TaskGroup(g.First().Task, [.. g.Select(r => r.Index)]))];
        _step = start.FirstStep;
        _began = _options.Clock.GetTimestamp();
        // The first plain line comes after an interval; a terminal shows at once that something happens.
        _lastDrawn = _began;
        if (_options.Live)
            Draw();
        else if (start.FirstStep > 0)
            _output.WriteLine($"going on after step {start.FirstStep:N0} of {start.Steps:N0}");
    }

    /// <inheritdoc/>
    public void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows)
    {
        _step = report.Step;
        _stepsSeen++;
        double keep = Math.Exp(-ForgetPerSecond * report.Seconds);
        double speed = report.Seconds > 0 ? report.Tokens / report.Seconds : 0;
        (_stepSeconds, _tokensPerSecond) = _stepsSeen == 1
            ? (report.Seconds, speed)
            : (_stepSeconds * keep + report.Seconds * (1 - keep), _tokensPerSecond * keep + speed * (1 - keep));
        foreach (ref readonly RowStep row in rows)
        {
            ref Run run = ref _runs[row.Row];
            (run.Loss, run.Norm, run.Rate) = (row.Loss, row.GradientNorm, row.LearningRate);
        }
        if (IsDue())
            Draw();
    }

    /// <inheritdoc/>
    public void Evaluated(EvalReport report)
    {
        if (report.Split != "dev")
            return;
        ref Run run = ref _runs[report.Row];
        run.Score = report.Score;
        if (report.IsBest)
            (run.Best, run.BestStep) = (report.Score, report.Step);
        _evalSeconds += report.Seconds;
        // All runs of a step are scored one after another: the last of them gives the line.
        if (_options.Live ? IsDue() : IsLastOfStep(report))
            Draw();
    }

    /// <inheritdoc/>
    public void RowEnded(RowFinished row)
    {
        _runs[row.Row].Ended = true;
        if (row.Reason != StopReason.Steps)
            Say($"{_start?.Rows[row.Row].Name}: stopped at step {row.Step:N0} ({Why(row)})");
    }

    /// <inheritdoc/>
    public void Finished(RunFinished report)
    {
        _took = _options.Clock.GetElapsedTime(_began);
        if (_options.Live)
            Draw();
        else
            Say($"trained {_step:N0} steps in {Time(_took.Value)}");
        _linesDrawn = 0;
    }

    /// <summary>Leaves what was drawn last and puts the cursor below it.</summary>
    public void Dispose()
    {
        _linesDrawn = 0;
        _output.Flush();
    }

    /// <summary>Prints a line that stays, above what is redrawn.</summary>
    /// <param name="line">Without line end.</param>
    public void Say(string line)
    {
        lock (_gate)
        {
            Erase();
            _output.WriteLine(line);
            if (_options.Live && _start is not null && _took is null)
                Draw();
            _output.Flush();
        }
    }

    // Nothing is allocated until something is due.
    private bool IsDue() => _start is not null && _options.Clock.GetElapsedTime(_lastDrawn) >= (_options.Live ? LiveInterval : _options.PlainInterval);

    private bool IsLastOfStep(EvalReport report)
    {
        for (int i = report.Row + 1; i < _runs.Length; i++)
        {
            if (!_runs[i].Ended)
                return false;
        }
        return true;
    }

    private void Draw()
    {
        lock (_gate)
            DrawHere();
    }

    private void DrawHere()
    {
        if (_start is null)
            return;
        _lastDrawn = _options.Clock.GetTimestamp();
        if (!_options.Live)
        {
            _output.WriteLine(PlainLine());
            _output.Flush();
            return;
        }
        (int columns, int rows) = _options.Size();
        // Some pseudo terminals have no size.
        (columns, rows) = (columns > 0 ? columns : 80, rows > 0 ? rows : 24);
        var text = new StringBuilder();
        List<string> lines = LiveLines(columns, rows);
        // One write: back to the first line of the last drawing, and over it.
        if (_linesDrawn > 0)
            text.Append(CultureInfo.InvariantCulture, $"\x1b[{_linesDrawn}F\x1b[J");
        foreach (string line in lines)
            text.Append(Fit(line, Math.Max(1, columns - 1))).Append('\n');
        _output.Write(text);
        _output.Flush();
        _linesDrawn = lines.Count;
    }

    private void Erase()
    {
        if (_linesDrawn > 0)
            _output.Write($"\x1b[{_linesDrawn}F\x1b[J");
        _linesDrawn = 0;
    }

    private string PlainLine() =>
        string.Join("  ", new[] { $"step {_step:N0}/{_start!.Steps:N0}", Means(), Speed(), Left() }.Where(p => p.Length > 0));

    private List<string> LiveLines(int columns, int rows)
    {
        double done = (double)_step / _start!.Steps;
        string count = $"{_step:N0}/{_start.Steps:N0}";
        string percent = $"{Math.Floor(100 * done):0} %";
        string left = Left();
        int bar = Math.Clamp(columns - count.Length - percent.Length - left.Length - 11, 0, 40);
        int full = (int)(bar * done);
        string graph = bar < 5 ? "" : $"{Paint("32", new string(_options.Unicode ? '━' : '=', full))}{Paint("90", new string(_options.Unicode ? '─' : '-', bar - full))} ";
        var lines = new List<string> { $"step {graph}{count} {percent}  {left}" };
        lines.Add(string.Join("  ", new[] { Means(), Speed() }.Where(p => p.Length > 0)));
        // One task needs no table; many are shown as far as the window goes.
        int most = Math.Min(MostTaskLines, rows - 5);
        if (_tasks.Length > 1 && most > 1)
        {
            int shown = _tasks.Length <= most ? _tasks.Length : most - 1;
            int width = _tasks.Take(shown).Max(t => t.Name.Length);
            lines.AddRange(_tasks.Take(shown).Select(t => "  " + TaskLine(t, width)));
            if (shown < _tasks.Length)
                lines.Add($"  ... and {_tasks.Length - shown} more tasks");
        }
        return lines;
    }

    private string TaskLine(TaskGroup task, int width)
    {
        var line = new StringBuilder(task.Name.PadRight(width));
        line.Append("  loss ").Append(Number(Mean(task.Runs, r => r.Loss)));
        if (Count(task.Runs, r => r.Score) > 0)
            line.Append("  ").Append(_start!.Metric).Append(' ').Append(WithDeviation(task.Runs, r => r.Score)).Append("  best ").Append(Paint("1", WithDeviation(task.Runs, r => r.Best)));
        if (task.Runs.All(i => _runs[i].Ended))
            line.Append("  done");
        return line.ToString();
    }

    private string Means()
    {
        int[] all = [.. Enumerable.Range(0, _runs.Length)];
        var text = new StringBuilder();
        if (all.Length > 1)
        {
            int ended = _runs.Count(r => r.Ended);
            text.Append(CultureInfo.InvariantCulture, $"{all.Length} runs{(ended > 0 ? $" ({ended} ended)" : "")}  ");
        }
        text.Append("loss ").Append(Number(Mean(all, r => r.Loss)));
        if (all.Length == 1 && Count(all, r => r.Norm) > 0)
            text.Append("  grad ").Append(Number(_runs[0].Norm)).Append("  lr ").Append(Number(_runs[0].Rate));
        if (Count(all, r => r.Score) > 0)
        {
            text.Append("  ").Append(_start!.Metric).Append(' ').Append(Overall(all, r => r.Score));
            text.Append("  best ").Append(Paint("1", Overall(all, r => r.Best)));
            if (all.Length == 1 && _runs[0].BestStep > 0)
                text.Append(CultureInfo.InvariantCulture, $" at {_runs[0].BestStep:N0}");
        }
        return text.ToString();
    }

    private string Speed() => (_stepsSeen > 0 ? $"{_tokensPerSecond:N0} tokens/s  " : "") + $"{_options.Memory() / 1e6:N0} MB";

    // What the steps that are left take at the speed of the last ones, and their evaluations at the average so far.
    private string Left()
    {
        if (_took is { } took)
            return $"{Time(took)} in all";
        if (_stepsSeen == 0 || _step >= _start!.Steps)
            return "";
        double evaluation = _evalSeconds / Math.Max(1, _stepsSeen);
        return $"{Time(TimeSpan.FromSeconds(Math.Min((_start.Steps - _step) * (_stepSeconds + evaluation), TimeSpan.MaxValue.TotalSeconds / 2)))} left";
    }

    private double Mean(int[] runs, Func<Run, double> value)
    {
        double sum = 0;
        int n = 0;
        foreach (int i in runs)
        {
            double v = value(_runs[i]);
            if (double.IsNaN(v))
                continue;
            sum += v;
            n++;
        }
        return n == 0 ? double.NaN : sum / n;
    }

    private int Count(int[] runs, Func<Run, double> value) => runs.Count(i => !double.IsNaN(value(_runs[i])));

    // How far tasks lie apart says nothing about their seeds.
    private string Overall(int[] runs, Func<Run, double> value) => _tasks.Length == 1 ? WithDeviation(runs, value) : Score(Mean(runs, value));

    private string WithDeviation(int[] runs, Func<Run, double> value)
    {
        double mean = Mean(runs, value);
        int n = Count(runs, value);
        if (n < 2)
            return Score(mean);
        double squares = Mean(runs, r => (value(r) - mean) * (value(r) - mean)) * n;
        return $"{Score(mean)} {(_options.Unicode ? "±" : "+-")} {Math.Sqrt(squares / (n - 1)):0.000}";
    }

    private string Paint(string code, string text) => _options.Live && _options.Color && text.Length > 0 ? $"\x1b[{code}m{text}\x1b[0m" : text;

    private static string Why(RowFinished row) => row.Reason == StopReason.Patience
        ? $"no better score since step {row.BestStep:N0}, best {Score(row.BestScore)}"
        : row.Detail ?? "not finite";

    // As in the table at the end.
    private static string Score(double value) => double.IsNaN(value) ? "-" : value.ToString("0.000", CultureInfo.InvariantCulture);

    // Four digits that matter: 2.345, 0.1234, 1.2e-05.
    private static string Number(double value) => double.IsNaN(value) ? "-"
        : value == 0 ? "0"
        : Math.Abs(value) is < 1e-3 or >= 1e5 ? value.ToString("0.0e+00", CultureInfo.InvariantCulture)
        : value.ToString(Math.Abs(value) >= 100 ? "0.0" : Math.Abs(value) >= 1 ? "0.000" : "0.0000", CultureInfo.InvariantCulture);

    private static string Time(TimeSpan time) => time.TotalDays >= 1 ? $"{(long)time.TotalDays} d {time.Hours} h" : time.ToString("h\\:mm\\:ss", CultureInfo.InvariantCulture);

    // Cuts a line to the window, so that it never wraps: a wrapped line would not be redrawn. Colour codes take no columns.
    private static string Fit(string line, int columns)
    {
        int shown = 0;
        for (int i = 0; i < line.Length; i++)
        {
            if (line[i] == '\x1b')
            {
                i = line.IndexOf('m', i);
                continue;
            }
            if (++shown > columns)
                return line[..i] + (line.Contains('\x1b') ? "\x1b[0m" : "");
        }
        return line;
    }

    private sealed record TaskGroup(string Name, int[] Runs);

    private struct Run
    {
        public Run()
        {
        }

        public double Loss = double.NaN;
        public double Norm = double.NaN;
        public double Rate = double.NaN;
        public double Score = double.NaN;
        public double Best = double.NaN;
        public long BestStep;
        public bool Ended;
    }
}
