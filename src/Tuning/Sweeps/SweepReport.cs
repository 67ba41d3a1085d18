// A sweep's table as a file for spreadsheets and as a page with figures. Deliberately not: where the scores come from.
using System.Globalization;
using System.Text;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Reports;

namespace IptNative.Tuning.Sweeps;

/// <summary>Writes sweep.csv and sweep.html.</summary>
internal static class SweepReport
{
    public static void Write(SweepPlan plan, SweepTable table)
    {
        Save(Path.Combine(plan.Folder, "sweep.csv"), Csv(table));
        Save(Path.Combine(plan.Folder, "sweep.html"), Html(plan, table));
    }

    private static void Save(string path, string text) => AtomicFile.Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(text)));

    private static string Csv(SweepTable table)
    {
        var text = new StringBuilder(string.Join(',', table.Axes.Select(Field).Concat(["task", "split", "mean", "standard_deviation", "runs", "point"]))).Append('\n');
        foreach (SweepScore s in table.Scores)
            text.Append(string.Join(',', s.Values.Select(Field).Concat([Field(s.Task), s.Split, Number(s.Mean), Number(s.Deviation), s.Runs.ToString(CultureInfo.InvariantCulture), Field(s.Point)]))).Append('\n');
        return text.ToString();
    }

    private static string Html(SweepPlan plan, SweepTable table)
    {
        var page = new HtmlPage($"Sweep {plan.Name}", $"{table.Done} of {table.Points} points are done; axes: {string.Join(", ", plan.Axes)}");
        if (table.Done < table.Points)
            page.Note($"{table.Points - table.Done} points are missing. Start the sweep again, or wait for its other shards.", good: false);
        if (plan.X is { } x)
        {
            int axis = plan.Axes.Index().First(a => a.Item == x).Index;
            // Lester et al. 2021, figure 3: one picture per task, a line per setting of the other axes, mean and deviation over the seeds.
            page.Section($"Scores by {x}").Figures([.. table.Scores.GroupBy(s => s.Task).Select(task =>
            {
                ChartSeries[] lines = [.. task.GroupBy(s => string.Join(", ", s.Values.Where((_, i) => i != axis))).Select(g =>
                    new ChartSeries(g.Key.Length == 0 ? task.Key : g.Key, [.. g.Select(s => new ChartPoint(double.Parse(s.Values[axis], CultureInfo.InvariantCulture), s.Mean, s.Deviation)).OrderBy(p => p.X)]))];
                double[] at = [.. lines.SelectMany(l => l.Points.Select(p => p.X)).Distinct().Order()];
                return (Charts.Lines(new ChartText($"{task.Key} by {x}", x, "score"), lines, logAt: at.All(v => v > 0) ? at : null, percent: true), task.Key, $"Mean and standard deviation of {task.Max(s => s.Runs)} seeds.");
            })]);
        }
        else if (table.Scores.Count > 0)
        {
            string[] tasks = [.. table.Scores.Select(s => s.Task).Distinct()];
            page.Section("Scores").Figures((Charts.Bars(new ChartText("Scores", "point", "score"), tasks,
                [.. table.Scores.GroupBy(s => s.Point).Select(p => new BarGroup(string.Join(", ", p.First().Values), [.. tasks.Select(t => p.FirstOrDefault(s => s.Task == t)?.Mean ?? double.NaN)]))], percent: true), "Scores", "by the values of the axes."));
        }
        return page.Section("Table").Table([.. plan.Axes.Select(a => new HtmlColumn(a, IsNumber: false)), new("task", false), new("split", false), new("mean"), new("deviation"), new("seeds")],
            table.Scores.Select(s => (IReadOnlyList<string>)[.. s.Values, s.Task, s.Split, Short(s.Mean), Short(s.Deviation), $"{s.Runs}"])).ToString();
    }

    private static string Short(double value) => double.IsFinite(value) ? value.ToString("0.000", CultureInfo.InvariantCulture) : "-";

    private static string Number(double value) => double.IsFinite(value) ? value.ToString("R", CultureInfo.InvariantCulture) : "";

    private static string Field(string text) => text.AsSpan().IndexOfAny(",\"\n\r") < 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
