// The parts that every chart shares: size, axes, grid, legend, marks. Deliberately not the data's own shapes: see Charts.
namespace IptNative.Tuning.Reports;

/// <summary>Draws a chart's frame. All colours are classes of <see cref="HtmlPage"/>'s style, so that a figure follows light, dark and print.</summary>
internal sealed class ChartFrame
{
    // Drawn at a phone's width and set side by side on a desk: text keeps its size on both.
    public const int Width = 360;
    public const int SeriesStyles = 8;
    private const double LegendLine = 16, CharacterWidth = 6.2, MarkWidth = 20, Top = 10;

    private readonly string _title;
    private readonly List<List<(string Name, int Style)>> _legend;

    public ChartFrame(string title, int height, IEnumerable<string> series, double left = 60, double bottom = 40)
        : this(title, height, series.Select((name, i) => (name, i)), left, bottom)
    {
    }

    public ChartFrame(string title, int height, IEnumerable<(string Name, int Style)> series, double left = 60, double bottom = 40)
    {
        _title = title;
        (Left, Right, Bottom, Height) = (left, Width - 12, height - bottom, height);
        _legend = Rows([.. series.Select(s => (s.Name, s.Style % SeriesStyles))], left);
        PlotTop = Top + (_legend.Count * LegendLine) + (_legend.Count > 0 ? 6 : 0);
    }

    public double Left { get; }

    public double Right { get; }

    public double PlotTop { get; }

    public double Bottom { get; }

    public int Height { get; }

    /// <summary>The whole figure.</summary>
    public string Draw(Action<MarkupWriter> content) => new MarkupWriter().Element("svg",
        ["viewBox", $"0 0 {Width} {Height}", "role", "img", "aria-label", _title, "class", "chart", "preserveAspectRatio", "xMidYMid meet"], svg =>
        {
            svg.Text("title", _title);
            DrawLegend(svg);
            content(svg);
        }).ToString();

    public void Axes(MarkupWriter svg, ChartScale x, ChartScale y, string xLabel, string yLabel, Func<double, string>? xText = null, Func<double, string>? yText = null)
    {
        foreach (double tick in y.Ticks)
        {
            Line(svg, "grid", Left, y.At(tick), Right, y.At(tick));
            Text(svg, (yText ?? ChartScale.Label)(tick), Left - 6, y.At(tick) + 4, "end");
        }
        // Labels that would touch are left out; their ticks stay.
        double free = double.NegativeInfinity;
        foreach (double tick in x.Ticks)
        {
            string text = (xText ?? ChartScale.Label)(tick);
            Line(svg, "axis", x.At(tick), Bottom, x.At(tick), Bottom + 4);
            double half = text.Length * CharacterWidth / 2;
            if (x.At(tick) - half < free) continue;
            Text(svg, text, x.At(tick), Bottom + 16, "middle");
            free = x.At(tick) + half + 4;
        }
        Line(svg, "axis", Left, Bottom, Right, Bottom);
        Text(svg, xLabel, (Left + Right) / 2, Height - 6, "middle", "label");
        double middle = (PlotTop + Bottom) / 2;
        svg.Text("text", yLabel, "x", "10", "y", MarkupWriter.Number(middle), "text-anchor", "middle", "class", "label", "transform", $"rotate(-90 10 {MarkupWriter.Number(middle)})");
    }

    public static void Line(MarkupWriter svg, string css, double x1, double y1, double x2, double y2) =>
        svg.Element("line", ["class", css, "x1", MarkupWriter.Number(x1), "y1", MarkupWriter.Number(y1), "x2", MarkupWriter.Number(x2), "y2", MarkupWriter.Number(y2)]);

    public static void Text(MarkupWriter svg, string text, double x, double y, string anchor, string css = "tick") =>
        svg.Text("text", text, "x", MarkupWriter.Number(x), "y", MarkupWriter.Number(y), "text-anchor", anchor, "class", css);

    /// <summary>A mark of a series, told apart by shape as well as by colour; the tip is shown where a pointer rests.</summary>
    public static void Mark(MarkupWriter svg, int style, double x, double y, string? tip, double size = 4)
    {
        string N(double v) => MarkupWriter.Number(v);
        void Tip(MarkupWriter w)
        {
            if (tip is not null) w.Text("title", tip);
        }
        string css = $"m{style % SeriesStyles}";
        switch (style % 4)
        {
            case 0: svg.Element("circle", ["class", css, "cx", N(x), "cy", N(y), "r", N(size)], Tip); break;
            case 1: svg.Element("rect", ["class", css, "x", N(x - size), "y", N(y - size), "width", N(2 * size), "height", N(2 * size)], Tip); break;
            case 2: svg.Element("path", ["class", css, "d", $"M{N(x)} {N(y - (1.3 * size))}L{N(x + (1.2 * size))} {N(y + (0.9 * size))}L{N(x - (1.2 * size))} {N(y + (0.9 * size))}Z"], Tip); break;
            default: svg.Element("path", ["class", css, "d", $"M{N(x)} {N(y - (1.4 * size))}L{N(x + (1.4 * size))} {N(y)}L{N(x)} {N(y + (1.4 * size))}L{N(x - (1.4 * size))} {N(y)}Z"], Tip); break;
        }
    }

    private void DrawLegend(MarkupWriter svg)
    {
        for (int row = 0; row < _legend.Count; row++)
        {
            double x = Left, y = Top + (row * LegendLine) + 6;
            foreach ((string name, int style) in _legend[row])
            {
                Mark(svg, style, x + 6, y, null);
                Text(svg, name, x + MarkWidth - 4, y + 4, "start");
                x += MarkWidth + (name.Length * CharacterWidth) + 8;
            }
        }
    }

    private static List<List<(string Name, int Style)>> Rows(List<(string Name, int Style)> series, double left)
    {
        List<List<(string Name, int Style)>> rows = [];
        if (series.All(s => s.Name.Length == 0)) return rows;
        List<(string Name, int Style)> row = [];
        double x = left;
        foreach ((string name, int style) in series)
        {
            double width = MarkWidth + (name.Length * CharacterWidth) + 8;
            if (row.Count > 0 && x + width > Width)
            {
                rows.Add(row);
                (row, x) = ([], left);
            }
            row.Add((name, style));
            x += width;
        }
        rows.Add(row);
        return rows;
    }
}
