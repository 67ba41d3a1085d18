// An inspection as a page and as JSON. Deliberately not: finding anything (PromptInspection, PromptComparison).
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using IptNative.Tuning.Reports;

namespace IptNative.Tuning.Inspection;

/// <summary>Writes inspections.</summary>
public static partial class InspectionReport
{
    /// <summary>A page of its own.</summary>
    /// <param name="model">The model's name.</param>
    /// <param name="inspections">Prompts with their names; may be empty where several are compared only.</param>
    /// <param name="comparison">Null where nothing is compared.</param>
    /// <returns>HTML.</returns>
    public static string Html(string model, IReadOnlyList<KeyValuePair<string, PromptInspection>> inspections, PromptComparison? comparison)
    {
        ArgumentNullException.ThrowIfNull(inspections);
        var page = new HtmlPage(inspections.Count == 1 ? $"Prompt {inspections[0].Key}" : $"{inspections.Count} prompts", $"read through the vocabulary of {model}; distances are cosines");
        if (comparison is not null)
            Compare(page, comparison);
        foreach ((string name, PromptInspection inspection) in inspections)
            Inspect(page, name, inspection);
        return page.ToString();
    }

    /// <summary>One object with everything.</summary>
    /// <param name="json">The writer, inside an object.</param>
    /// <param name="inspections">As for <see cref="Html"/>.</param>
    /// <param name="comparison">As for <see cref="Html"/>.</param>
    public static void Write(Utf8JsonWriter json, IReadOnlyList<KeyValuePair<string, PromptInspection>> inspections, PromptComparison? comparison)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(inspections);
        json.WriteStartArray("prompts");
        foreach ((string name, PromptInspection inspection) in inspections)
        {
            json.WriteStartObject();
            json.WriteString("prompt", name);
            json.WriteNumber("tightness", inspection.Tightness);
            json.WriteNumber("random_tightness", inspection.RandomTightness);
            json.WriteNumber("random_deviation", inspection.RandomDeviation);
            json.WriteNumber("shared_nearest", inspection.SharedNearest);
            json.WriteNumber("distinct_neighbours", inspection.DistinctNeighbours);
            json.WriteNumber("vocabulary_norm", inspection.VocabularyNorm);
            json.WriteStartArray("rows");
            foreach (InspectedRow row in inspection.Rows)
                Write(json, row);
            json.WriteEndArray();
            json.WriteStartArray("labels");
            foreach (LabelPersistence label in inspection.Labels)
            {
                json.WriteStartObject();
                json.WriteString("label", label.Label);
                json.WriteStartArray("rows");
                foreach (int row in label.Rows)
                    json.WriteNumberValue(row);
                json.WriteEndArray();
                if (label.InitialRow is { } initial)
                    json.WriteNumber("initial_row", initial);
                if (label.Kept is { } kept)
                    json.WriteBoolean("kept", kept);
                json.WriteEndObject();
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        json.WriteEndArray();
        if (comparison is null)
            return;
        json.WriteStartObject("comparison");
        json.WriteStartArray("names");
        foreach (string name in comparison.Names)
            json.WriteStringValue(name);
        json.WriteEndArray();
        Map(json, "cosines", comparison.Cosines);
        Map(json, "best_matches", comparison.BestMatches);
        Map(json, "axes", [.. comparison.Points.Select(p => (IReadOnlyList<double>)[p.X, p.Y])]);
        json.WriteNumber("share_x", comparison.ShareX);
        json.WriteNumber("share_y", comparison.ShareY);
        json.WriteEndObject();
    }

    private static void Inspect(HtmlPage page, string name, PromptInspection inspection)
    {
        page.Section(name)
            .Tiles(
            [
                ($"{inspection.Rows.Count}", "rows"),
                (Number(inspection.Tightness), $"cosine among a row's neighbours; {Number(inspection.RandomTightness)} ± {Number(inspection.RandomDeviation)} for random vectors"),
                ($"{inspection.SharedNearest.ToString("P0", CultureInfo.InvariantCulture)}", "of the rows share their nearest piece with another row"),
                ($"{inspection.DistinctNeighbours}", "different pieces among all neighbours"),
                (Number(inspection.Rows.Average(r => r.Norm)), $"mean length of a row; {Number(inspection.VocabularyNorm)} of a piece"),
            ]);
        if (inspection.Labels.Count > 0)
        {
            page.Heading("Labels among the neighbours").Table([new("label", false), new("rows", false), new("initialised in row"), new("still there", false)],
                inspection.Labels.Select(l => (IReadOnlyList<string>)[l.Label, l.Rows.Count == 0 ? "none" : string.Join(", ", l.Rows), l.InitialRow is { } row ? $"{row}" : "-", l.Kept switch { true => "yes", false => "no", null => "-" }]));
        }
        bool drift = inspection.Rows[0].Distance is not null;
        var rows = inspection.Rows.Select(r => new ChartPoint(r.Index, r.Norm)).ToArray();
        var figures = new List<(string, string, string)>
        {
            (Charts.Lines(new ChartText($"Lengths of the rows of {name}", "row", "length"), [new ChartSeries("", rows)], reference: inspection.VocabularyNorm, marks: rows.Length <= 40), "Lengths.", "The dashed line is the mean length of a piece's embedding."),
            (Charts.Lines(new ChartText($"Tightness of the rows of {name}", "row", "cosine"), [new ChartSeries("", [.. inspection.Rows.Select(r => new ChartPoint(r.Index, r.Tightness))])], reference: inspection.RandomTightness, marks: rows.Length <= 40), "Tightness.", "Mean cosine among a row's neighbours; the dashed line is that of random vectors."),
        };
        if (drift)
            figures.Add((Charts.Lines(new ChartText($"Drift of the rows of {name}", "row", "distance"), [new ChartSeries("", [.. inspection.Rows.Select(r => new ChartPoint(r.Index, r.Distance!.Value))])], marks: rows.Length <= 40), "Drift.", "Distance of each row from where its training began."));
        page.Figures(figures);
        HtmlColumn[] columns = [new("row"), new("length"), new("tightness"), .. drift ? [new HtmlColumn("drift"), new HtmlColumn("cosine with start")] : Array.Empty<HtmlColumn>(), new("nearest pieces (cosine)", false)];
        page.Heading("Rows").Table(columns, inspection.Rows.Select(r => (IReadOnlyList<string>)
            [$"{r.Index}", Number(r.Norm), Number(r.Tightness), .. drift ? [Number(r.Distance!.Value), Number(r.InitialCosine!.Value)] : Array.Empty<string>(), string.Join("   ", r.Neighbours.Select(n => $"{n.Piece} ({Number(n.Cosine)})"))]));
    }

    private static void Compare(HtmlPage page, PromptComparison comparison)
    {
        // Seeds of a task are one kind of mark: a name that finds no room beside its mark is still told by its colour.
        string[] kinds = [.. comparison.Names.Select(n => Seed().Replace(n, "")).Distinct(StringComparer.Ordinal)];
        page.Section("Compared").Figures(
            (Heat("Cosines of prompts", comparison.Names, comparison.Cosines), "Cosine.", "Each prompt as one long vector; empty where lengths differ."),
            (Heat("Best matching rows", comparison.Names, comparison.BestMatches), "Best matching rows.", "Mean over the rows of a line's prompt of the cosine with the most similar row of the column's, wherever it stands."),
            (Charts.Scatter(new ChartText("Mean rows on their principal axes", $"axis 1 ({comparison.ShareX.ToString("P0", CultureInfo.InvariantCulture)})", $"axis 2 ({comparison.ShareY.ToString("P0", CultureInfo.InvariantCulture)})"), kinds,
                [.. comparison.Names.Zip(comparison.Points, (n, p) => new ScatterPoint(Array.IndexOf(kinds, Seed().Replace(n, "")), p.X, p.Y, n))]), "Principal axes.", "Of the prompts' mean rows; the shares are of the variance."));
    }

    private static string Heat(string title, IReadOnlyList<string> names, IReadOnlyList<IReadOnlyList<double>> values) =>
        Charts.HeatMap(new ChartText(title, "", ""), names, [.. names.Zip(values, KeyValuePair.Create)], percent: false, full: 1);

    private static void Write(Utf8JsonWriter json, InspectedRow row)
    {
        json.WriteStartObject();
        json.WriteNumber("row", row.Index);
        json.WriteNumber("norm", row.Norm);
        json.WriteNumber("tightness", row.Tightness);
        if (row.Distance is { } distance)
            json.WriteNumber("drift", distance);
        if (row.InitialCosine is { } cosine)
            json.WriteNumber("initial_cosine", cosine);
        json.WriteStartArray("neighbours");
        foreach (NearPiece near in row.Neighbours)
        {
            json.WriteStartObject();
            json.WriteNumber("id", near.Id);
            json.WriteString("piece", near.Piece);
            json.WriteNumber("cosine", Math.Round(near.Cosine, 6));
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void Map(Utf8JsonWriter json, string name, IReadOnlyList<IReadOnlyList<double>> values)
    {
        json.WriteStartArray(name);
        foreach (IReadOnlyList<double> row in values)
        {
            json.WriteStartArray();
            foreach (double value in row)
            {
                if (double.IsFinite(value))
                    json.WriteNumberValue(value);
                else
                    json.WriteNullValue();
            }
            json.WriteEndArray();
        }
        json.WriteEndArray();
    }

    [GeneratedRegex(@"-seed\d+$", RegexOptions.CultureInvariant)]
    private static partial Regex Seed();

    private static string Number(double value) => value.ToString("0.000", CultureInfo.InvariantCulture);
}
