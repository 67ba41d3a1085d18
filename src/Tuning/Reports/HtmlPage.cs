// A self-contained report page: style, tables, figures, notes. Deliberately no script, no font and no picture from elsewhere: it opens without a network and prints.
namespace IptNative.Tuning.Reports;

/// <summary>A column of a table.</summary>
/// <param name="Name">Heading.</param>
/// <param name="IsNumber">Aligned right, digits of equal width.</param>
public readonly record struct HtmlColumn(string Name, bool IsNumber = true);

/// <summary>Builds one page from top to bottom.</summary>
public sealed class HtmlPage
{
    // Colours in one place, each with its dark twin; print takes the light ones.
    private const string Light = "--bg:#fff;--fg:#1c2128;--soft:#5b6570;--line:#d6dbe1;--card:#f6f8fa;--accent:#1f6fb4;--warn:#8a4b00;--warnbg:#fff4e0;--good:#1a6b3c;--goodbg:#e8f6ee;"
        + "--c0:#1f6fb4;--c1:#cf5c1b;--c2:#258455;--c3:#9147ad;--c4:#a97a06;--c5:#bf2f57;--c6:#2f8590;--c7:#68717c;--on:#fff";
    private const string Dark = "--bg:#14181d;--fg:#e3e8ee;--soft:#9aa5b1;--line:#343c46;--card:#1c2229;--accent:#6cb2f0;--warn:#f3c078;--warnbg:#33270f;--good:#8fdcb0;--goodbg:#12301f;"
        + "--c0:#6cb2f0;--c1:#f29a5a;--c2:#5fcf95;--c3:#cf94e6;--c4:#e0bb4e;--c5:#f2789a;--c6:#6fc6d1;--c7:#a8b0bd;--on:#10151a";

    // Print opens what is folded away, but for long lists, which the files beside the report have.
    private const string Layout = """
        *{box-sizing:border-box}
        body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
        main{max-width:1180px;margin:0 auto;padding:20px 16px 60px}
        h1{font-size:1.7rem;line-height:1.2;margin:.2em 0 .1em}
        h2{font-size:1.2rem;margin:2.2em 0 .5em;padding-bottom:.25em;border-bottom:1px solid var(--line)}
        h3{font-size:1rem;margin:1.4em 0 .4em}
        p{max-width:76ch;margin:.5em 0}
        .soft,figcaption,summary{color:var(--soft)}
        .note{border-left:4px solid var(--accent);background:var(--card);padding:.6em .9em;margin:1em 0;max-width:86ch}
        .warn{border-color:var(--warn);background:var(--warnbg);color:var(--warn)}
        .good{border-color:var(--good);background:var(--goodbg);color:var(--good)}
        .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:1em 0}
        .tile{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.6em .8em}
        .tile b{display:block;font-size:1.5rem;font-variant-numeric:tabular-nums;line-height:1.25}
        .tile span{font-size:.82rem;color:var(--soft);line-height:1.3;display:block}
        .scroll{overflow-x:auto;margin:.6em 0;border:1px solid var(--line);border-radius:6px}
        table{border-collapse:separate;border-spacing:0;width:100%;font-size:.86rem}
        th,td{padding:.34em .7em;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
        tr:last-child td{border-bottom:0}
        th{background:var(--card);color:var(--soft);font-weight:600}
        th.n,td.n{text-align:right;font-variant-numeric:tabular-nums}
        th:first-child,td:first-child{position:sticky;left:0;background:var(--bg)}
        th:first-child{background:var(--card)}
        td.wrap{white-space:normal;min-width:16em}
        .figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:18px;align-items:start}
        figure{margin:.4em 0;break-inside:avoid}
        figcaption{font-size:.84rem;max-width:60ch}
        figcaption b{color:var(--fg)}
        details{margin:.8em 0}
        summary{cursor:pointer}
        ul{padding-left:1.2em}
        .chart{display:block;width:100%;height:auto;max-width:430px;overflow:visible}
        .chart text{fill:var(--fg);font-size:11px;font-family:inherit}
        .chart .tick{fill:var(--soft);font-variant-numeric:tabular-nums}
        .chart .label{fill:var(--soft)}
        .chart .tiny{font-size:9px}
        .chart .on{fill:var(--on)}
        .grid{stroke:var(--line);stroke-width:.7}
        .axis{stroke:var(--soft);stroke-width:1}
        .reference{stroke:var(--fg);stroke-width:1;stroke-dasharray:5 4}
        .heat{fill:var(--c0)}
        .none{fill:none;stroke:var(--line);stroke-width:.7}
        @media print{
          main{max-width:none;padding:0}
          h2,h3,summary,h2+p{break-after:avoid}
          p,.note{max-width:none;orphans:3;widows:3}
          .tiles{grid-template-columns:repeat(auto-fit,minmax(108px,1fr))}
          .tile,.note,tr{break-inside:avoid}
          .scroll{overflow:visible;border:0}
          .scroll:not(:has(tr:nth-child(14))){break-inside:avoid}
          table{font-size:7pt}
          th,td{padding:.2em .4em;border-bottom:.5pt solid var(--line)}
          th{white-space:normal;vertical-align:bottom}
          th:first-child,td:first-child{position:static;background:none}
          .figures{grid-template-columns:1fr 1fr}
          details:not(:has(tr:nth-child(60)))::details-content{content-visibility:visible;block-size:auto}
          *{print-color-adjust:exact;-webkit-print-color-adjust:exact}
        }
        """;

    private readonly MarkupWriter _body = new();
    private readonly string _title;

    /// <summary>Starts a page.</summary>
    /// <param name="title">Title and first heading.</param>
    /// <param name="subtitle">The line below it.</param>
    public HtmlPage(string title, string subtitle)
    {
        _title = title;
        _body.Text("h1", title).Line();
        _body.Text("p", subtitle, "class", "soft").Line();
    }

    /// <summary>A section's heading.</summary>
    /// <param name="text">The heading.</param>
    /// <returns>This page.</returns>
    public HtmlPage Section(string text) => Write(w => w.Text("h2", text));

    /// <summary>A heading within a section.</summary>
    /// <param name="text">The heading.</param>
    /// <returns>This page.</returns>
    public HtmlPage Heading(string text) => Write(w => w.Text("h3", text));

    /// <summary>A paragraph.</summary>
    /// <param name="text">Its text.</param>
    /// <returns>This page.</returns>
    public HtmlPage Paragraph(string text) => Write(w => w.Text("p", text));

    /// <summary>A paragraph that stands out.</summary>
    /// <param name="text">Its text.</param>
    /// <param name="good">True for good news, false for a warning, null for neither.</param>
    /// <returns>This page.</returns>
    public HtmlPage Note(string text, bool? good = null) => Write(w => w.Text("div", text, "class", good switch { true => "note good", false => "note warn", null => "note" }));

    /// <summary>A list of short texts.</summary>
    /// <param name="items">The texts; nothing is written where there are none.</param>
    /// <returns>This page.</returns>
    public HtmlPage List(IReadOnlyCollection<string> items)
    {
        ArgumentNullException.ThrowIfNull(items);
        return items.Count == 0 ? this : Write(w => w.Element("ul", [], ul =>
        {
            foreach (string item in items) ul.Text("li", item);
        }));
    }

    /// <summary>Large numbers with a line of explanation each.</summary>
    /// <param name="tiles">Number and explanation.</param>
    /// <returns>This page.</returns>
    public HtmlPage Tiles(IEnumerable<(string Number, string Meaning)> tiles) => Write(w => w.Element("div", ["class", "tiles"], grid =>
    {
        foreach ((string number, string meaning) in tiles) grid.Element("div", ["class", "tile"], t => t.Text("b", number).Text("span", meaning));
    }));

    /// <summary>A table that scrolls sideways where the page is narrow; its first column stays.</summary>
    /// <param name="columns">Headings.</param>
    /// <param name="rows">As many texts as columns.</param>
    /// <param name="foldedAs">Title under which the table is folded away; null shows it.</param>
    /// <returns>This page.</returns>
    /// <exception cref="ArgumentException">A row has more or fewer cells than there are columns.</exception>
    public HtmlPage Table(IReadOnlyList<HtmlColumn> columns, IEnumerable<IReadOnlyList<string>> rows, string? foldedAs = null)
    {
        ArgumentNullException.ThrowIfNull(columns);
        ArgumentNullException.ThrowIfNull(rows);
        void Whole(MarkupWriter w) => w.Element("div", ["class", "scroll"], scroll => scroll.Element("table", [], table =>
        {
            table.Element("thead", [], head => head.Element("tr", [], tr =>
            {
                foreach (HtmlColumn c in columns) tr.Text("th", c.Name, "class", c.IsNumber ? "n" : null, "scope", "col");
            })).Line();
            table.Element("tbody", [], body =>
            {
                foreach (IReadOnlyList<string> row in rows)
                {
                    if (row.Count != columns.Count) throw new ArgumentException($"Table row \"{(row.Count > 0 ? row[0] : "")}\": found {row.Count} cells, expected {columns.Count}.", nameof(rows));
                    body.Element("tr", [], tr =>
                    {
                        for (int i = 0; i < row.Count; i++) tr.Text("td", row[i], "class", columns[i].IsNumber ? "n" : row[i].Length > 60 ? "wrap" : null);
                    }).Line();
                }
            });
        }));
        return Write(w =>
        {
            if (foldedAs is null) Whole(w);
            else w.Element("details", [], d => Whole(d.Text("summary", foldedAs)));
        });
    }

    /// <summary>Figures side by side, as many as fit.</summary>
    /// <param name="figures">SVG elements as <see cref="Charts"/> makes them; title and explanation stand below.</param>
    /// <returns>This page.</returns>
    public HtmlPage Figures(params IReadOnlyList<(string Svg, string Title, string Explanation)> figures)
    {
        ArgumentNullException.ThrowIfNull(figures);
        return figures.Count == 0 ? this : Write(w => w.Element("div", ["class", "figures"], grid =>
        {
            foreach ((string svg, string title, string explanation) in figures)
                grid.Element("figure", [], f => f.Raw(svg).Element("figcaption", [], c => c.Text("b", title).Text(" ").Text(explanation))).Line();
        }));
    }

    /// <summary>The whole page.</summary>
    /// <returns>HTML with '\n' line ends.</returns>
    public override string ToString()
    {
        string series = string.Concat(Enumerable.Range(0, ChartFrame.SeriesStyles).Select(i =>
            $".s{i}{{fill:none;stroke:var(--c{i});stroke-width:1.8{(i >= 4 ? ";stroke-dasharray:5 3" : "")}}}.e{i}{{stroke:var(--c{i});stroke-width:1}}.m{i}{{fill:var(--c{i});stroke:var(--bg);stroke-width:.8}}.b{i}{{fill:var(--c{i})}}\n"));
        string style = $":root{{color-scheme:light dark;{Light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{Dark}}}}}\n{Layout.ReplaceLineEndings("\n")}\n{series}";
        return new MarkupWriter().Raw("<!DOCTYPE html>\n").Element("html", ["lang", "en"], html =>
        {
            html.Element("head", [], head => head
                .Element("meta", ["charset", "utf-8"]).Element("meta", ["name", "viewport", "content", "width=device-width,initial-scale=1"])
                .Text("title", _title).Element("style", [], s => s.Raw("\n" + style))).Line();
            html.Element("body", [], body => body.Element("main", [], main => main.Line().Raw(_body.ToString())));
        }).Line().ToString();
    }

    private HtmlPage Write(Action<MarkupWriter> write)
    {
        write(_body);
        _body.Line();
        return this;
    }
}
