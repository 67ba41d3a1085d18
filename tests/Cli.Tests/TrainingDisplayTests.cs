using System.Text.RegularExpressions;
using IptNative.Cli.Terminal;
using IptNative.Tuning.Runs;
using Xunit;

namespace IptNative.Cli.Tests;

public sealed partial class TrainingDisplayTests : IDisposable
{
    private readonly StringWriter _output = new() { NewLine = "\n" };
    private readonly ManualClock _clock = new();

    public void Dispose() => _output.Dispose();

    private static RunRow[] Rows(int tasks, int seeds) =>
        [.. Enumerable.Range(0, tasks * seeds).Select(i => new RunRow(i, i / seeds, $"task{i / seeds}", 42 + i % seeds))];

    private TrainingDisplay Display(bool live = false, bool color = false, int columns = 100, int rows = 24, bool unicode = true) => new(_output, new DisplayOptions
    {
        Live = live,
        Color = color,
        Unicode = unicode,
        Size = () => (columns, rows),
        Memory = () => 812_345_678,
        Clock = _clock,
    });

    private string[] Lines() => _output.ToString().TrimEnd('\n').Split('\n');

    // What a terminal shows after all writes: cursor up and erase are undone here as a terminal does them.
    private string[] Screen()
    {
        var lines = new List<string> { "" };
        int row = 0;
        string text = _output.ToString();
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] == '\n')
            {
                if (++row == lines.Count)
                    lines.Add("");
                continue;
            }
            Match up = CursorUp().Match(text, i);
            if (up.Success)
            {
                row -= int.Parse(up.Groups[1].Value);
                lines.RemoveRange(row, lines.Count - row);
                lines.Add("");
                i += up.Length - 1;
                continue;
            }
            lines[row] += text[i];
        }
        return [.. lines.Take(lines.Count - 1)];
    }

    private void Steps(TrainingDisplay display, long from, long to, int runs, double seconds = 0.5)
    {
        for (long step = from; step <= to; step++)
        {
            _clock.Advance(seconds);
            display.Stepped(new StepReport(step, 1000, seconds), [.. Enumerable.Range(0, runs).Select(r => new RowStep(r, 2.0 / step + r, 0.3, 1.25))]);
        }
    }

    [Fact]
    public void PlainLinesComeAtTheInterval()
    {
        using TrainingDisplay display = Display();
        display.Started(new RunStart(Rows(1, 1), 2000, 0, "acc"));
        Steps(display, 1, 45, 1);
        Assert.Equal(
        [
            "step 20/2,000  loss 0.1000  grad 1.250  lr 0.3000  2,000 tokens/s  812 MB  0:16:30 left",
            "step 40/2,000  loss 0.0500  grad 1.250  lr 0.3000  2,000 tokens/s  812 MB  0:16:20 left",
        ], Lines());
    }

    [Fact]
    public void AnEvaluationIsAPlainLineOfAllRuns()
    {
        using TrainingDisplay display = Display();
        display.Started(new RunStart(Rows(1, 2), 2000, 0, "acc"));
        Steps(display, 1, 4, 2);
        display.Evaluated(new EvalReport(0, 4, "dev", 0.5, [], true, double.NaN, 3));
        display.Evaluated(new EvalReport(1, 4, "dev", 0.75, [], true, double.NaN, 3));
        display.Evaluated(new EvalReport(1, 4, "test", 0.1, [], true, double.NaN, 3));
        // Two steps of half a second and 1.5 s of evaluation a step on average are left 1996 times.
        Assert.Equal(["step 4/2,000  2 runs  loss 1.000  acc 0.625 ± 0.177  best 0.625 ± 0.177  2,000 tokens/s  812 MB  1:06:32 left"], Lines());
    }

    [Fact]
    public void LiveLinesAreRedrawnInPlace()
    {
        using TrainingDisplay display = Display(live: true, columns: 80);
        display.Started(new RunStart(Rows(1, 1), 100, 0, "acc"));
        Steps(display, 1, 50, 1);
        display.Evaluated(new EvalReport(0, 50, "dev", 0.5, [], true, double.NaN, 0));
        Steps(display, 51, 51, 1);
        Assert.Equal(
        [
            $"step {new string('━', 20)}{new string('─', 20)} 51/100 51 %  0:00:24 left",
            "loss 0.0392  grad 1.250  lr 0.3000  acc 0.500  best 0.500 at 50  2,000 tokens/s",
        ], Screen());
        Assert.Contains("\x1b[2F\x1b[J", _output.ToString(), StringComparison.Ordinal);
        display.Finished(new RunFinished(51, 26));
        Assert.EndsWith("51/100 51 %  0:00:25 in all", Screen()[0], StringComparison.Ordinal);
    }

    [Fact]
    public void TasksHaveALineEach()
    {
        using TrainingDisplay display = Display(live: true);
        display.Started(new RunStart(Rows(3, 2), 100, 0, "acc"));
        Steps(display, 1, 2, 6);
        for (int i = 0; i < 6; i++)
            display.Evaluated(new EvalReport(i, 2, "dev", 0.1 * i, [], true, double.NaN, 0));
        display.RowEnded(new RowFinished(0, 2, StopReason.Steps, 2, 0));
        display.RowEnded(new RowFinished(1, 2, StopReason.Patience, 2, 0.1));
        Assert.Equal(
        [
            "task0-seed43: stopped at step 2 (no better score since step 2, best 0.100)",
            $"step {new string('─', 40)} 2/100 2 %  0:00:49 left",
            "6 runs (2 ended)  loss 3.500  acc 0.250  best 0.250  2,000 tokens/s  812 MB",
            "  task0  loss 1.500  acc 0.050 ± 0.071  best 0.050 ± 0.071  done",
            "  task1  loss 3.500  acc 0.250 ± 0.071  best 0.250 ± 0.071",
            "  task2  loss 5.500  acc 0.450 ± 0.071  best 0.450 ± 0.071",
        ], Screen());
    }

    [Theory]
    [InlineData(24, 8, 13)]
    [InlineData(10, 5, 16)]
    [InlineData(6, 0, 0)]
    public void ManyTasksAreShownAsFarAsTheWindowGoes(int rows, int lines, int more)
    {
        using TrainingDisplay display = Display(live: true, rows: rows);
        display.Started(new RunStart(Rows(20, 1), 100, 0, "acc"));
        string[] screen = Screen();
        Assert.Equal(2 + lines, screen.Length);
        if (more > 0)
            Assert.Equal($"  ... and {more} more tasks", screen[^1]);
    }

    [Theory]
    [InlineData(20)]
    [InlineData(41)]
    [InlineData(2)]
    public void NoLineIsWiderThanTheWindow(int columns)
    {
        using TrainingDisplay display = Display(live: true, color: true, columns: columns);
        display.Started(new RunStart(Rows(2, 3), 1_000_000, 0, "classification_f1"));
        Steps(display, 1, 3, 6);
        display.Evaluated(new EvalReport(0, 3, "dev", 0.5, [], true, double.NaN, 0));
        Steps(display, 4, 4, 6);
        Assert.All(Screen(), line => Assert.InRange(Code().Replace(line, "").Length, 0, columns - 1));
        // A line that is cut inside a colour ends it.
        Assert.All(Screen().Where(l => l.Contains('\x1b')), line => Assert.EndsWith("\x1b[0m", line[..(line.LastIndexOf("\x1b[0m", StringComparison.Ordinal) + 4)], StringComparison.Ordinal));
    }

    [Fact]
    public void WithoutColourThereIsNone()
    {
        using TrainingDisplay display = Display(live: true, unicode: false);
        display.Started(new RunStart(Rows(2, 2), 10, 0, "acc"));
        Steps(display, 1, 5, 4);
        display.Evaluated(new EvalReport(0, 5, "dev", 0.5, [], true, double.NaN, 0));
        Assert.DoesNotMatch(Code(), _output.ToString());
        Assert.All(_output.ToString(), c => Assert.True(c < 128));
        using TrainingDisplay coloured = Display(live: true, color: true);
        coloured.Started(new RunStart(Rows(2, 2), 10, 5, "acc"));
        Assert.Matches(Code(), _output.ToString());
    }

    [Fact]
    public void GoingOnIsSaid()
    {
        using TrainingDisplay display = Display();
        display.Started(new RunStart(Rows(1, 1), 2000, 1200, "acc"));
        display.RowEnded(new RowFinished(0, 1201, StopReason.NonFinite, 0, double.NaN, "loss of batch 7 is NaN"));
        Assert.Equal(["going on after step 1,200 of 2,000", "task0-seed42: stopped at step 1,201 (loss of batch 7 is NaN)"], Lines());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AStepThatShowsNothingAllocatesNothing(bool live)
    {
        using TrainingDisplay display = Display(live);
        display.Started(new RunStart(Rows(1, 2), 100_000, 0, "acc"));
        RowStep[] rows = [new(0, 0.5, 0.3, 1), new(1, 0.5, 0.3, 1)];
        display.Stepped(new StepReport(1, 100, 0.1), rows);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (long step = 2; step < 1000; step++)
            display.Stepped(new StepReport(step, 100, 0.1), rows);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [GeneratedRegex(@"\G\x1b\[(\d+)F\x1b\[J")]
    private static partial Regex CursorUp();

    [GeneratedRegex(@"\x1b\[\d+m")]
    private static partial Regex Code();

    private sealed class ManualClock : TimeProvider
    {
        private long _ticks;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _ticks;

        public void Advance(double seconds) => _ticks += TimeSpan.FromSeconds(seconds).Ticks;
    }
}
