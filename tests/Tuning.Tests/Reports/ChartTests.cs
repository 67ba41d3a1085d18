using System.Xml.Linq;
using IptNative.Tuning.Reports;
using Xunit;

namespace IptNative.Tuning.Tests.Reports;

public sealed class ChartTests
{
    private static readonly ChartText Words = new("a < b & \"c\"", "x", "y");

    private static XElement Svg(string text) => XElement.Parse(text); // throws unless it is well-formed

    private static double Attribute(XElement e, string name) => (double)e.Attribute(name)!; // every mark has it

    [Fact]
    public void TextIsEscapedEverywhere()
    {
        XElement svg = Svg(Charts.Scatter(Words, ["<script>", "b"], [new(0, 1, 2, "</svg>"), new(1, 3, 1, "x\u0001")]));
        Assert.Equal("a < b & \"c\"", (string?)svg.Attribute("aria-label"));
        Assert.Contains(svg.Descendants("text"), t => t.Value == "<script>");
        string page = new HtmlPage("<i>", "&").Paragraph("<script>alert(1)</script>").Table([new("<b>", false)], [["\"<"]]).ToString();
        Assert.DoesNotContain("<script", page, StringComparison.Ordinal);
        Assert.Contains("&lt;script&gt;alert(1)&lt;/script&gt;", page, StringComparison.Ordinal);
    }

    [Fact]
    public void PointsStandWhereTheirNumbersSay()
    {
        XElement svg = Svg(Charts.Lines(Words, [new ChartSeries("a", [new(1, 0), new(10, 50, 25), new(100, 100)])], logAt: [1, 10, 100]));
        XElement[] marks = [.. svg.Elements("circle").Where(c => c.Elements("title").Any())];
        Assert.Equal(3, marks.Length);
        // Equal steps on a logarithmic axis; the middle value is in the middle. Two decimals are written, so 0.02 covers the rounding of three numbers.
        Assert.Equal(Attribute(marks[2], "cx") - Attribute(marks[1], "cx"), Attribute(marks[1], "cx") - Attribute(marks[0], "cx"), 0.02);
        Assert.Equal((Attribute(marks[0], "cy") + Attribute(marks[2], "cy")) / 2, Attribute(marks[1], "cy"), 0.02);
        XElement bar = svg.Elements("line").First(l => (string?)l.Attribute("class") == "e0");
        Assert.Equal((Attribute(marks[0], "cy") - Attribute(marks[2], "cy")) / 2, Math.Abs(Attribute(bar, "y1") - Attribute(bar, "y2")), 0.02);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(7)]
    public void NothingAndNanDrawAnEmptyFrame(int count)
    {
        ChartPoint[] points = [.. Enumerable.Range(0, count).Select(i => new ChartPoint(i, i % 2 == 0 ? double.NaN : 3))];
        foreach (string text in (string[])
            [
                Charts.Lines(Words, [new ChartSeries("a", points)], percent: true, reference: 1),
                Charts.Scatter(Words, ["k"], [.. points.Select(p => new ScatterPoint(0, p.X, 0, "n"))]),
                Charts.Bars(Words, ["s"], [.. points.Select(p => new BarGroup("g", [p.Y]))], percent: true),
                Charts.HeatMap(Words, ["c"], [.. points.Select(p => KeyValuePair.Create<string, IReadOnlyList<double>>("r", [p.Y]))], percent: true, full: 1),
            ])
        {
            Svg(text);
            Assert.DoesNotContain("NaN", text, StringComparison.Ordinal);
            Assert.DoesNotContain("∞", text, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void TheProjectionFindsThePlaneOfItsPoints()
    {
        // Points on two orthogonal lines of five dimensions: 3 u and 1 v.
        float[] u = [0.6f, 0, 0.8f, 0, 0], v = [0, 0, 0, 1, 0];
        float[][] points = [.. new[] { (3.0, 0.0), (-3.0, 0.0), (0.0, 1.0), (0.0, -1.0) }.Select(p => u.Zip(v, (a, b) => (float)((p.Item1 * a) + (p.Item2 * b))).ToArray())];
        (IReadOnlyList<(double X, double Y)> found, double shareX, double shareY) = PrincipalAxes.Project(points);
        // Float coordinates of size 3: a millionth is eight of their roundings. Which end of an axis is its positive one is open where both are as far out.
        double signX = Math.Sign(found[0].X), signY = Math.Sign(found[2].Y);
        (double X, double Y)[] expected = [(3, 0), (-3, 0), (0, 1), (0, -1)];
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i].X, signX * found[i].X, 1e-6);
            Assert.Equal(expected[i].Y, signY * found[i].Y, 1e-6);
        }
        Assert.Equal(0.9, shareX, 1e-6);
        Assert.Equal(0.1, shareY, 1e-6);
        // Two points have one direction, and equal ones none.
        Assert.All(PrincipalAxes.Project([points[0], points[2]]).Points, p => Assert.Equal(0, p.Y));
        Assert.Equal((0.0, 0.0), (PrincipalAxes.Project([u, u, u]).ShareX, PrincipalAxes.Project([u, u, u]).Points[1].X));
    }

    [Fact]
    public void ThePageNeedsNoNetwork()
    {
        string page = new HtmlPage("t", "s").Section("x").Figures((Charts.Bars(Words, ["a"], [new BarGroup("g", [1])]), "f", "e")).ToString();
        Assert.DoesNotContain("http", page, StringComparison.Ordinal);
        Assert.DoesNotContain("src=", page, StringComparison.Ordinal);
        Assert.DoesNotContain("@import", page, StringComparison.Ordinal);
        Assert.Contains("prefers-color-scheme:dark", page, StringComparison.Ordinal);
    }

    [Fact]
    public void ARowOfAnotherLengthIsRefused()
    {
        ArgumentException e = Assert.Throws<ArgumentException>(() => new HtmlPage("t", "s").Table([new("a")], [["1", "2"]]));
        Assert.Contains("found 2 cells, expected 1", e.Message, StringComparison.Ordinal);
    }
}
