// The report's numbers as CSV and JSON, unrounded. Deliberately no texts beyond names; times stand in a file of their own.
using System.Globalization;
using System.Text;
using System.Text.Json;
using IptNative.Tuning.Experiments;

namespace IptNative.Tuning.Reports;

internal static class ReportTables
{
    private static readonly JsonWriterOptions Pretty = new() { Indented = true, NewLine = "\n", Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private sealed record Table(string Name, IReadOnlyList<string> Columns, IReadOnlyList<IReadOnlyList<object?>> Rows);

    /// <summary>Every file with its text.</summary>
    public static IEnumerable<(string Name, string Text)> All(ExperimentResults results, JobStore store)
    {
        Table[] tables = [Scores(results), Summaries(results), Tasks(results), Stability(results), Coverage(results)];
        foreach (Table table in tables) yield return ($"{table.Name}.csv", Csv(table));
        yield return ("results.json", Json(results, tables));
        yield return ("timings.csv", Csv(Timings(results, store)));
    }

    private static Table Scores(ExperimentResults results) => new("scores", ["question", "setting", "subspace", "d_i", "task", "draw", "seed", "test", "dev", "problem", "job", "hash"],
        [.. results.Scores.Select(s => (IReadOnlyList<object?>)[Name(s.Use.Study), s.Use.Setting, Space(s.Use.DI, s.Use.Method), s.Use.DI, s.Use.Task, s.Use.Draw, s.Use.Seed, s.Score, s.Dev, s.Problem, s.Use.Job, results.Plan[s.Use.Job].Hash])]);

    private static Table Summaries(ExperimentResults results) => new("summaries",
        ["question", "setting", "subspace", "d_i", "group", "tasks", "missing", "e_abs", "e_rel_pt", "e_rel_pt_median", "e_rel_pt_sd_over_seeds", "zero_denominators", "no_denominators", "e_rel_ft", "fine_tuning_tasks"],
        [.. results.Summaries.Select(s => (IReadOnlyList<object?>)[Name(s.Study), s.Setting, Space(s.DI, s.Method), s.DI, s.Group, s.Tasks, s.Missing, s.EAbs, s.ERel, s.ERelMedian, s.ERelDeviation, s.ZeroDenominators, s.NoDenominators,
            s.ERelFineTuning is { } fine ? fine : ReportTexts.NotMeasured, s.FineTuningTasks])]);

    private static Table Tasks(ExperimentResults results)
    {
        HashSet<string> train = [.. results.Plan.Split.Train];
        return new Table("tasks", ["task", "part", "majority", "untuned", "untuned_with_name", "prompt_tuning"], [.. results.Plan.Split.Train.Concat(results.Plan.Split.Test).Select(t =>
        {
            UntunedScores? without = results.Untuned.GetValueOrDefault(t);
            return (IReadOnlyList<object?>)[t, train.Contains(t) ? "train" : "test", without?.Majority, without?.Untuned, without?.WithName, results.Reference(t, "", $"{results.Plan.Config.Data.Draw}")];
        })]);
    }

    private static Table Stability(ExperimentResults results) => new("stability", ["question", "d_i", "runs", "tasks", "mean_sd", "e_abs", "e_rel_pt"],
        [.. results.StabilityRows.Select(s => (IReadOnlyList<object?>)[Name(s.Study), s.DI, s.Runs, s.Tasks, s.Deviation, s.Mean, s.ERel])]);

    private static Table Coverage(ExperimentResults results) => new("coverage", ["part", "task", "there", "why"],
        [.. results.Plan.Split.Parts.SelectMany(p => p.Present.Select(t => (IReadOnlyList<object?>)[p.Name, t, "yes", null]).Concat(p.Missing.Select(m => (IReadOnlyList<object?>)[p.Name, m.Key, "no", m.Value])))]);

    private static Table Timings(ExperimentResults results, JobStore store) => new("timings", ["job", "kind", "seconds", "train_positions", "evaluate_positions"],
        [.. results.Plan.Jobs.Where(j => store.Timings.ContainsKey(j.Hash)).Select(j => (IReadOnlyList<object?>)[j.Key, j.Kind.Name(), store.Timings[j.Hash].Seconds, j.TrainPositions, j.EvaluatePositions])]);

    private static string Csv(Table table)
    {
        var text = new StringBuilder(string.Join(',', table.Columns)).Append('\n');
        foreach (IReadOnlyList<object?> row in table.Rows) text.Append(string.Join(',', row.Select(Field))).Append('\n');
        return text.ToString();
    }

    private static string Field(object? value)
    {
        string text = value switch
        {
            null => "",
            double d => double.IsFinite(d) ? d.ToString("R", CultureInfo.InvariantCulture) : "",
            IFormattable f => f.ToString(null, CultureInfo.InvariantCulture),
            _ => value.ToString() ?? "",
        };
        return text.AsSpan().IndexOfAny(",\"\n\r") < 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
    }

    private static string Json(ExperimentResults results, IEnumerable<Table> tables)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, Pretty))
        {
            json.WriteStartObject();
            json.WriteString("name", results.Plan.Config.Name);
            json.WriteString("split", results.Plan.Split.Name);
            json.WriteBoolean("conclusive", results.Conclusive.IsConclusive);
            json.WriteNumber("tasks_compared", results.Conclusive.Compared);
            json.WriteNumber("tasks_where_prompt_tuning_wins", results.Conclusive.Better);
            json.WriteStartArray("left_out");
            foreach (string note in results.Plan.Notes) json.WriteStringValue(note);
            json.WriteEndArray();
            json.WriteStartObject("settings");
            foreach ((string name, string value) in results.Plan.Config.Settings())
            {
                json.WritePropertyName(name);
                json.WriteRawValue(value);
            }
            json.WriteEndObject();
            foreach (Table table in tables)
            {
                json.WriteStartArray(table.Name);
                foreach (IReadOnlyList<object?> row in table.Rows) WriteRow(json, table.Columns, row);
                json.WriteEndArray();
            }
            json.WriteEndObject();
        }
        return Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length) + "\n";
    }

    private static void WriteRow(Utf8JsonWriter json, IReadOnlyList<string> columns, IReadOnlyList<object?> row)
    {
        json.WriteStartObject();
        for (int i = 0; i < columns.Count; i++)
        {
            switch (row[i])
            {
                case string s: json.WriteString(columns[i], s); break;
                case int n: json.WriteNumber(columns[i], n); break;
                case double d when double.IsFinite(d): json.WriteNumber(columns[i], d); break;
                default: json.WriteNull(columns[i]); break;
            }
        }
        json.WriteEndObject();
    }

    private static string Space(int dI, SubspaceMethod method) => dI > 0 ? method.Name() : "";

    private static string Name(Study study) => study switch
    {
        Study.Untuned => "untuned",
        Study.PromptTuning => "prompt_tuning",
        Study.TrainMsf => "train_msf",
        Study.TestMsf => "test_msf",
        Study.TrainSame => "train_same_ist",
        Study.TrainOther => "train_diff_ist",
        Study.TestIst => "test_ist",
        _ => "ist_initialised_prompt_tuning",
    };
}
