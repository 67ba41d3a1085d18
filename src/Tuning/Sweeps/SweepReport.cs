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
        var page = new HtmlPage($"Sweep {plan.Name}", $"{table.Done} of {table.Points} points are done; {Subtitle(plan)}");
        if (table.Done < table.Points)
            page.Note($"{table.Points - table.Done} points are missing. Start the sweep again, or wait for its other shards.", good: false);
        foreach ((string heading, (string, string, string)[] figures) in new SweepFigures(plan, table).Sections())
            page.Section(heading).Figures(figures);
        return page.Section("Table").Table([.. plan.Axes.Select(a => new HtmlColumn(a, IsNumber: false)), new("task", false), new("split", false), new("mean"), new("deviation"), new("seeds")],
            table.Scores.Select(s => (IReadOnlyList<string>)[.. s.Values, s.Task, s.Split, Short(s.Mean), Short(s.Deviation), $"{s.Runs}"])).ToString();
    }

    private static string Subtitle(SweepPlan plan)
    {
        string crossed = string.Join(", ", plan.Axes.Except(plan.Ablated)), single = string.Join(", ", plan.Ablated);
        return single.Length == 0 ? $"every combination of {crossed}" : $"one at a time: {single}{(crossed.Length > 0 ? $"; for every {crossed}" : "")}";
    }

    private static string Short(double value) => double.IsFinite(value) ? value.ToString("0.000", CultureInfo.InvariantCulture) : "-";

    private static string Number(double value) => double.IsFinite(value) ? value.ToString("R", CultureInfo.InvariantCulture) : "";

    private static string Field(string text) => text.AsSpan().IndexOfAny(",\"\n\r") < 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
