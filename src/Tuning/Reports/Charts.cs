// Figures as SVG text: lines with error bars, points, bars, heat maps. Deliberately no interaction and no script.
using System.Globalization;

namespace IptNative.Tuning.Reports;

/// <summary>A point of a line.</summary>
/// <param name="X">Abscissa.</param>
/// <param name="Y">Ordinate; a NaN breaks the line.</param>
/// <param name="Error">Half length of the error bar; NaN or 0 draws none.</param>
public readonly record struct ChartPoint(double X, double Y, double Error = double.NaN);

/// <summary>A named line.</summary>
/// <param name="Name">In the legend.</param>
/// <param name="Points">By ascending X.</param>
/// <param name="Style">Its colour and mark, where it shall keep them from figure to figure; null takes its place among the series.</param>
public sealed record ChartSeries(string Name, IReadOnlyList<ChartPoint> Points, int? Style = null);

/// <summary>A named point of a scatter plot.</summary>
/// <param name="Series">Which of the plot's kinds.</param>
/// <param name="X">Abscissa.</param>
/// <param name="Y">Ordinate.</param>
/// <param name="Name">Shown where a pointer rests, and beside it where there is room.</param>
public sealed record ScatterPoint(int Series, double X, double Y, string Name);

/// <summary>A group of bars.</summary>
/// <param name="Name">Below the group.</param>
/// <param name="Values">One per series; NaN draws none.</param>
public sealed record BarGroup(string Name, IReadOnlyList<double> Values);

/// <summary>Words on a chart.</summary>
/// <param name="Title">Read aloud and shown where a pointer rests.</param>
/// <param name="X">Horizontal axis.</param>
/// <param name="Y">Vertical axis.</param>
public sealed record ChartText(string Title, string X, string Y);

/// <summary>Draws charts. Each is a complete inline SVG element whose style is <see cref="HtmlPage"/>'s.</summary>
public static class Charts
{
    private const int Height = 260;

    /// <summary>Lines with marks and error bars.</summary>
    /// <param name="text">Words.</param>
    /// <param name="series">At least one.</param>
    /// <param name="logAt">Positions of a logarithmic horizontal axis (a list of d_I); null is linear.</param>
    /// <param name="percent">Vertical values are fractions, shown as percentages.</param>
    /// <param name="reference">A dashed horizontal line: what everything is measured against; null draws none.</param>
    /// <param name="marks">False for curves of many points.</param>
    /// <param name="names">Names of the horizontal positions 0, 1, 2, ...: what has no order is not joined by lines, and the series stand beside each other. Null is a numeric axis.</param>
    /// <param name="xText">How a number of the horizontal axis is written; null for its digits.</param>
    /// <returns>The SVG element.</returns>
    public static string Lines(ChartText text, IReadOnlyList<ChartSeries> series, IReadOnlyList<double>? logAt = null, bool percent = false, double? reference = null, bool marks = true,
        IReadOnlyList<string>? names = null, Func<double, string>? xText = null)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(series);
        var frame = new ChartFrame(text.Title, Height, series.Select((s, i) => (s.Name, s.Style ?? i)));
        ChartPoint[] all = [.. series.SelectMany(s => s.Points).Where(p => double.IsFinite(p.Y))];
        if (names is not null)
            xText = at => names[(int)at];
        Func<double, string> say = xText ?? ChartScale.Label;
        ChartScale x = names is { Count: > 0 } ? ChartScale.Places(names.Count, frame.Left, frame.Right)
            : logAt is { Count: > 0 } ? ChartScale.LogAt(logAt, frame.Left, frame.Right) : ChartScale.Linear(all.Select(p => p.X), frame.Left, frame.Right);
        // A share is not below zero, whatever its deviation is.
        double Low(ChartPoint p, double error) => percent && p.Y >= 0 ? Math.Max(0, p.Y - error) : p.Y - error;
        IEnumerable<double> heights = all.SelectMany(p => double.IsFinite(p.Error) ? new[] { Low(p, p.Error), p.Y + p.Error } : [p.Y]);
        ChartScale y = ChartScale.Linear(reference is { } r ? heights.Append(r) : heights, frame.Bottom, frame.PlotTop, fromZero: percent);
        return frame.Draw(svg =>
        {
            frame.Axes(svg, x, y, text.X, text.Y, xText, percent ? Percent : null);
            if (reference is { } level) ChartFrame.Line(svg, "reference", frame.Left, y.At(level), frame.Right, y.At(level));
            for (int i = 0; i < series.Count; i++)
            {
                int style = (series[i].Style ?? i) % ChartFrame.SeriesStyles;
                double beside = names is null ? 0 : (i - ((series.Count - 1) / 2.0)) * Math.Min(12, 0.7 * (frame.Right - frame.Left) / names.Count / series.Count);
                if (names is null)
                    svg.Element("path", ["class", $"s{style}", "d", Path(series[i].Points, x, y)]);
                foreach (ChartPoint p in series[i].Points.Where(p => double.IsFinite(p.Y)))
                {
                    (double px, double error) = (x.At(p.X) + beside, double.IsFinite(p.Error) ? p.Error : 0);
                    if (error > 0)
                    {
                        ChartFrame.Line(svg, $"e{style}", px, y.At(Low(p, error)), px, y.At(p.Y + error));
                        ChartFrame.Line(svg, $"e{style}", px - 3, y.At(Low(p, error)), px + 3, y.At(Low(p, error)));
                        ChartFrame.Line(svg, $"e{style}", px - 3, y.At(p.Y + error), px + 3, y.At(p.Y + error));
                    }
                    if (marks) ChartFrame.Mark(svg, style, px, y.At(p.Y), $"{(series[i].Name.Length > 0 ? $"{series[i].Name}, " : "")}{text.X} {say(p.X)}: {Value(p.Y, percent)}{(error > 0 ? $" ± {Value(error, percent)}" : "")}");
                }
            }
        });
    }

    /// <summary>Named points.</summary>
    /// <param name="text">Words.</param>
    /// <param name="kinds">Names of the kinds of point, for the legend.</param>
    /// <param name="points">The points.</param>
    /// <returns>The SVG element.</returns>
    public static string Scatter(ChartText text, IReadOnlyList<string> kinds, IReadOnlyList<ScatterPoint> points)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(kinds);
        ArgumentNullException.ThrowIfNull(points);
        var frame = new ChartFrame(text.Title, 330, kinds);
        ChartScale x = ChartScale.Linear(points.Select(p => p.X), frame.Left, frame.Right), y = ChartScale.Linear(points.Select(p => p.Y), frame.Bottom, frame.PlotTop);
        return frame.Draw(svg =>
        {
            frame.Axes(svg, x, y, text.X, text.Y);
            List<(double X, double Y, double Width)> taken = [.. points.Select(p => (x.At(p.X) - 5, y.At(p.Y), 10.0))];
            foreach (ScatterPoint p in points)
            {
                (double px, double py) = (x.At(p.X), y.At(p.Y));
                ChartFrame.Mark(svg, p.Series, px, py, p.Name);
                // A name is written where it covers nothing; the others are found with the pointer and in the table.
                double width = p.Name.Length * 4.7;
                bool Free(double left) => left > frame.Left && left + width < ChartFrame.Width && !taken.Any(t => Math.Abs(t.Y - py) < 9 && left < t.X + t.Width && t.X < left + width);
                if (!(Free(px + 7) || Free(px - 7 - width))) continue;
                bool right = Free(px + 7);
                taken.Add((right ? px + 7 : px - 7 - width, py, width));
                ChartFrame.Text(svg, p.Name, right ? px + 7 : px - 7, py + 3, right ? "start" : "end", "tiny");
            }
        });
    }

    /// <summary>Groups of vertical bars from zero.</summary>
    /// <param name="text">Words.</param>
    /// <param name="series">Names of the bars of a group.</param>
    /// <param name="groups">The groups.</param>
    /// <param name="percent">Values are fractions, shown as percentages.</param>
    /// <returns>The SVG element.</returns>
    public static string Bars(ChartText text, IReadOnlyList<string> series, IReadOnlyList<BarGroup> groups, bool percent = false)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(series);
        ArgumentNullException.ThrowIfNull(groups);
        var frame = new ChartFrame(text.Title, Height, series);
        ChartScale y = ChartScale.Linear(groups.SelectMany(g => g.Values), frame.Bottom, frame.PlotTop, fromZero: true);
        // The groups carry their own names.
        ChartScale x = ChartScale.Linear([0, 1], frame.Left, frame.Right).WithoutTicks();
        double slot = (frame.Right - frame.Left) / Math.Max(1, groups.Count), bar = Math.Min(22, slot * 0.8 / Math.Max(1, series.Count));
        return frame.Draw(svg =>
        {
            frame.Axes(svg, x, y, text.X, text.Y, yText: percent ? Percent : null);
            for (int g = 0; g < groups.Count; g++)
            {
                double middle = frame.Left + ((g + 0.5) * slot);
                for (int i = 0; i < groups[g].Values.Count; i++)
                {
                    double value = groups[g].Values[i];
                    if (!double.IsFinite(value)) continue;
                    double left = middle + ((i - (groups[g].Values.Count / 2.0)) * bar), top = Math.Min(y.At(value), y.At(0));
                    svg.Element("rect", ["class", $"b{i % ChartFrame.SeriesStyles}", "x", MarkupWriter.Number(left + 0.5), "y", MarkupWriter.Number(top), "width", MarkupWriter.Number(bar - 1), "height", MarkupWriter.Number(Math.Abs(y.At(value) - y.At(0)))],
                        w => w.Text("title", $"{groups[g].Name}, {series[i]}: {Value(value, percent)}"));
                }
                ChartFrame.Text(svg, groups[g].Name, middle, frame.Bottom + 16, "middle");
            }
        });
    }

    /// <summary>A table of values as coloured cells, each with its number.</summary>
    /// <param name="text">Words; the axes' words are left out where they are empty.</param>
    /// <param name="columns">Names of the columns.</param>
    /// <param name="rows">Name and one value per column; NaN leaves the cell empty.</param>
    /// <param name="percent">Values are fractions, shown as percentages.</param>
    /// <param name="full">The value of the strongest colour; larger ones have it too.</param>
    /// <returns>The SVG element.</returns>
    public static string HeatMap(ChartText text, IReadOnlyList<string> columns, IReadOnlyList<KeyValuePair<string, IReadOnlyList<double>>> rows, bool percent, double full)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(columns);
        ArgumentNullException.ThrowIfNull(rows);
        const double Row = 17, NameWidth = 5.1;
        double left = Math.Clamp(rows.Select(r => r.Key.Length).DefaultIfEmpty(0).Max() * NameWidth, 40, 170) + 8, head = 12 + (columns.Select(c => c.Length).DefaultIfEmpty(0).Max() * NameWidth);
        var frame = new ChartFrame(text.Title, (int)(head + (rows.Count * Row) + 14), Array.Empty<string>(), left, 10);
        double cell = (frame.Right - left) / Math.Max(1, columns.Count);
        return frame.Draw(svg =>
        {
            for (int c = 0; c < columns.Count; c++)
            {
                string x = MarkupWriter.Number(left + ((c + 0.5) * cell) + 3), y = MarkupWriter.Number(head - 6);
                svg.Text("text", columns[c], "x", x, "y", y, "class", "tiny", "transform", $"rotate(-90 {x} {y})");
            }
            for (int r = 0; r < rows.Count; r++)
            {
                double y = head + (r * Row);
                string name = rows[r].Key.Length * NameWidth > left ? string.Concat(rows[r].Key.AsSpan(0, (int)(left / NameWidth) - 1), "…") : rows[r].Key;
                ChartFrame.Text(svg, name, left - 5, y + 12, "end", "tiny");
                for (int c = 0; c < rows[r].Value.Count; c++)
                {
                    double value = rows[r].Value[c];
                    (double x, bool known) = (left + (c * cell), double.IsFinite(value));
                    double share = known ? Math.Clamp(value / full, 0, 1) : 0;
                    svg.Element("rect", ["class", known ? "heat" : "none", "x", MarkupWriter.Number(x + 0.5), "y", MarkupWriter.Number(y + 0.5), "width", MarkupWriter.Number(cell - 1), "height", MarkupWriter.Number(Row - 1),
                        "style", known ? $"fill-opacity:{MarkupWriter.Number(0.06 + (0.94 * share))}" : null], w => w.Text("title", $"{rows[r].Key}, {columns[c]}: {(known ? Value(value, percent) : "no value")}"));
                    if (known && cell >= 26) ChartFrame.Text(svg, percent ? (100 * value).ToString("0", CultureInfo.InvariantCulture) : ChartScale.Label(Math.Round(value, 2)), x + (cell / 2), y + 12, "middle", share > 0.55 ? "tiny on" : "tiny");
                }
            }
        });
    }

    internal static string Percent(double fraction) => $"{ChartScale.Label(Math.Round(100 * fraction, 4))} %";

    private static string Value(double value, bool percent) => percent
        ? (100 * value).ToString("0.0", CultureInfo.InvariantCulture) + " %"
        : value.ToString("0.####", CultureInfo.InvariantCulture);

    private static string Path(IReadOnlyList<ChartPoint> points, ChartScale x, ChartScale y)
    {
        var path = new System.Text.StringBuilder();
        bool pen = false;
        foreach (ChartPoint p in points)
        {
            if (double.IsFinite(p.Y)) path.Append(pen ? 'L' : 'M').Append(MarkupWriter.Number(x.At(p.X))).Append(' ').Append(MarkupWriter.Number(y.At(p.Y)));
            pen = double.IsFinite(p.Y);
        }
        return path.ToString();
    }
}
