// report.html of an experiment, and the same numbers beside it. Deliberately without times and dates: a stopped and continued experiment gives the same bytes.
using System.Text;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Experiments;

namespace IptNative.Tuning.Reports;

/// <summary>Writes an experiment's report.</summary>
public static class ExperimentReport
{
    /// <summary>Name of the page.</summary>
    public const string FileName = "report.html";

    private static readonly HtmlColumn[] SummaryColumns =
        [new("question", false), new("d_I"), new("tasks"), new("E_abs %"), new("E_rel^PT %"), new("median %"), new("PT = 0"), new("no score"), new("E_rel^FT %")];

    /// <summary>Writes report.html, results.json, scores.csv, summaries.csv, tasks.csv, stability.csv, coverage.csv, and timings.csv apart from them.</summary>
    /// <param name="folder">Exists.</param>
    /// <param name="results">The numbers.</param>
    /// <param name="store">Curves, intrinsic vectors, times.</param>
    /// <param name="data">The tasks.</param>
    /// <returns>Path of the page.</returns>
    /// <exception cref="IOException">A file cannot be written.</exception>
    public static string Write(string folder, ExperimentResults results, JobStore store, ExperimentData data)
    {
        ArgumentNullException.ThrowIfNull(results);
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(data);
        void File(string name, string text) => AtomicFile.Write(Path.Combine(folder, name), stream => stream.Write(Encoding.UTF8.GetBytes(text)));
        foreach ((string name, string text) in ReportTables.All(results, store)) File(name, text);
        File(FileName, Page(results, store, data).ToString());
        return Path.Combine(folder, FileName);
    }

    private static HtmlPage Page(ExperimentResults results, JobStore store, ExperimentData data)
    {
        ExperimentPlan plan = results.Plan;
        var figures = new ReportFigures(results, store, data);
        var page = new HtmlPage($"Intrinsic Prompt Tuning: {plan.Config.Name}",
            $"{ReportTexts.Count(plan.Split.Train.Count, "training task")}, {ReportTexts.Count(plan.Split.Test.Count, "held-out task")} ({plan.Split.Name} split), prompt length {plan.Config.PromptLength}, "
            + $"d_I {string.Join(", ", plan.Config.DI)}, {ReportTexts.Count(plan.Config.Seeds.Count, "seed")}, {ReportTexts.Count(plan.Jobs.Count, "job")}.");
        Verdict(page, results);
        Tiles(page, results);
        page.Section("Challenges by dimension").Figures([.. figures.Dimensions()]);
        Summaries(page, results, ExperimentResults.AllTasks, null);
        foreach ((string group, _) in results.Groups.Skip(1)) Summaries(page, results, group, $"Group: {group}");
        page.Section("What it is compared with").Figures([figures.Absolute(), .. figures.Baselines()]);
        Optional(page, "Where tasks lie in the subspace", [.. figures.TaskScatter()]);
        Optional(page, "What is varied", [.. figures.Ablations()]);
        AblationTable(page, results);
        StabilityTable(page, results);
        page.Section("Task by task").Figures(figures.PerTask());
        TaskTable(page, results, data);
        Optional(page, "Loss curves", [.. figures.Curves()]);
        Coverage(page, plan);
        Problems(page, results);
        page.Section("How it is measured").Paragraph(ReportTexts.Rules)
            .Paragraph(plan.Config.Challenges.OtherDataReference
                ? "The unseen-data challenge is measured against prompt tuning on the same other draw."
                : "The unseen-data challenge is measured against prompt tuning on the first draw, not on the other one: its ratios mix the method with the difference between two draws.")
            .Paragraph($"E_rel^FT is against fine-tuning scores, which this program does not make: {(results.HasFineTuning ? "those of the file that the experiment names." : "not measured here. The option fine_tuning_scores takes a CSV file of task,score.")}");
        page.Table([new("option", false), new("value", false)], plan.Config.Settings().Select(s => (IReadOnlyList<string>)[s.Name, s.Json]), "All options that decide a result");
        return page;
    }

    private static void Verdict(HtmlPage page, ExperimentResults results)
    {
        (int compared, int better) = results.Conclusive;
        int open = results.Scores.Count(s => s.Problem is not null);
        if (results.Conclusive.IsConclusive)
            page.Note($"Prompt tuning beats both the majority label and the untuned model on {better} of {compared} tasks, so ratios to it mean something.", good: true);
        else
            page.Note($"INCONCLUSIVE: prompt tuning beats both the majority label and the untuned model on {better} of {ReportTexts.Count(compared, "task")}, more than half are expected. Ratios to it say little here: give prompt tuning more steps, another learning rate, or a larger model.", good: false);
        if (open > 0) page.Note($"{ReportTexts.Count(open, "score")} of {results.Scores.Count} {(open == 1 ? "is" : "are")} missing; the section \"Missing scores\" says which and why.", good: false);
    }

    private static void Tiles(HtmlPage page, ExperimentResults results)
    {
        int dI = results.Plan.Config.AblationDI;
        List<(string, string)> tiles = [];
        foreach (Study study in (Study[])[Study.TrainMsf, Study.TrainSame, Study.TrainOther, Study.TestIst, Study.StageTwo])
        {
            if (results.Summaries.FirstOrDefault(s => s.Study == study && s.Setting.Length == 0 && s.Method == SubspaceMethod.Msf && s.DI == dI && s.Group == ExperimentResults.AllTasks) is { } row && double.IsFinite(row.ERel))
                tiles.Add(($"{ReportTexts.Percent(row.ERel)} %", $"E_rel of {study.Name()} at d_I {dI}: {study.Explain()}"));
        }
        if (tiles.Count > 0) page.Tiles(tiles);
    }

    private static void Summaries(HtmlPage page, ExperimentResults results, string group, string? foldedAs)
    {
        Summary[] rows = [.. results.Summaries.Where(s => s.Setting.Length == 0 && s.Group == group).OrderBy(s => s.Study).ThenBy(s => s.Method).ThenBy(s => s.DI)];
        if (rows.Length > 0) page.Table(SummaryColumns, rows.Select(s => Row(s)), foldedAs);
    }

    private static IReadOnlyList<string> Row(Summary s) =>
    [
        s.Method == SubspaceMethod.Msf ? s.Study.Name() : $"{s.Study.Name()}, {s.Method.Label()}", ReportTexts.Dimension(s.DI), $"{s.Tasks}", ReportTexts.Percent(s.EAbs),
        ReportTexts.WithDeviation(s.ERel, s.ERelDeviation), ReportTexts.Percent(s.ERelMedian), $"{s.ZeroDenominators}", $"{s.Missing}",
        s.ERelFineTuning is { } fine ? $"{ReportTexts.Percent(fine)} ({s.FineTuningTasks})" : ReportTexts.NotMeasured,
    ];

    private static void Optional(HtmlPage page, string title, IReadOnlyList<(string, string, string)> figures)
    {
        if (figures.Count > 0) page.Section(title).Figures(figures);
    }

    private static void AblationTable(HtmlPage page, ExperimentResults results)
    {
        Summary[] rows = [.. results.Summaries.Where(s => s.Setting.Length > 0 && s.Group == ExperimentResults.AllTasks)];
        if (rows.Length == 0) return;
        page.Table([new("setting", false), .. SummaryColumns], rows.Select(s => (IReadOnlyList<string>)[s.Setting, .. Row(s)]), "Numbers of the ablations");
    }

    private static void StabilityTable(HtmlPage page, ExperimentResults results)
    {
        if (results.StabilityRows.Count == 0) return;
        page.Section("Stability").Paragraph("The paper's table 4: the standard deviation of a held-out task's test score over runs that differ in their seed only, mean over tasks.");
        page.Table([new("method", false), new("d_I"), new("runs"), new("tasks"), new("standard deviation, points"), new("E_abs %"), new("E_rel^PT %")],
            results.StabilityRows.Select(s => (IReadOnlyList<string>)[s.Study == Study.TestIst ? "IST" : s.Study.Name(), ReportTexts.Dimension(s.DI), $"{s.Runs}", $"{s.Tasks}",
                double.IsFinite(s.Deviation) ? (100 * s.Deviation).ToString("0.00") : ReportTexts.None, ReportTexts.Percent(s.Mean), ReportTexts.Percent(s.ERel)]));
    }

    private static void TaskTable(HtmlPage page, ExperimentResults results, ExperimentData data)
    {
        int dI = results.Plan.Config.AblationDI;
        HtmlColumn[] columns = [new("task", false), new("part", false), new("type", false), new("metric", false), new("majority"), new("untuned"), new("untuned + name"), new("prompt tuning"), new($"MSF d_I {dI}"), new($"IST same"), new("IST other data"), new("IST unseen task"), new("from IST")];
        IReadOnlyList<string> Row(string task, string part)
        {
            string Score(Study study) => ReportTexts.Percent(results.Of(study, "", SubspaceMethod.Msf, dI, task).Score);
            UntunedScores? without = results.Untuned.GetValueOrDefault(task);
            return [task, part, data.Task(task).IsClassification ? "cls" : "non-cls", data.Task(task).Metric, ReportTexts.Percent(without?.Majority ?? double.NaN), ReportTexts.Percent(without?.Untuned ?? double.NaN), ReportTexts.Percent(without?.WithName ?? double.NaN),
                ReportTexts.Percent(results.Reference(task, "", $"{results.Plan.Config.Data.Draw}")), Score(part == "held out" ? Study.TestMsf : Study.TrainMsf), Score(Study.TrainSame), Score(Study.TrainOther), Score(Study.TestIst), Score(Study.StageTwo)];
        }
        page.Table(columns, [.. results.Plan.Split.Train.Select(t => Row(t, "trained on")), .. results.Plan.Split.Test.Select(t => Row(t, "held out"))]);
    }

    private static void Coverage(HtmlPage page, ExperimentPlan plan)
    {
        page.Section("Coverage of the paper's tasks").Paragraph(plan.Split.Name == "explicit"
            ? "The split is the experiment's own. For orientation: how much of the paper's random split it uses."
            : $"Tasks of the paper's {plan.Split.Name} split for which there is data. What is missing is not in any number above.");
        page.Table([new("part", false), new("there"), new("of"), new("%")], plan.Split.Parts.Select(p => (IReadOnlyList<string>)[p.Name, $"{p.Present.Count}", $"{p.Wanted}", ReportTexts.Percent((double)p.Present.Count / Math.Max(1, p.Wanted))]));
        page.Table([new("missing task", false), new("part", false), new("why", false)], plan.Split.Parts.SelectMany(p => p.Missing.Select(m => (IReadOnlyList<string>)[m.Key, p.Name, m.Value])), "Missing tasks");
    }

    private static void Problems(HtmlPage page, ExperimentResults results)
    {
        ScoredUse[] missing = [.. results.Scores.Where(s => s.Problem is not null).DistinctBy(s => s.Use.Job)];
        if (missing.Length > 0)
            page.Section("Missing scores").Table([new("job", false), new("why", false)], missing.Select(s => (IReadOnlyList<string>)[s.Use.Job, s.Problem ?? ""]));
        if (results.Plan.Notes.Count > 0) page.Section("Left out").List([.. results.Plan.Notes]);
    }
}
