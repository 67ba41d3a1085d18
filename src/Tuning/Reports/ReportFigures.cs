// An experiment's figures: the paper's 3 to 6, and the curves. Deliberately not their place on the page: ExperimentReport.
using IptNative.Tuning.Experiments;

namespace IptNative.Tuning.Reports;

/// <summary>Makes the figures that an experiment has numbers for; the others are left out.</summary>
internal sealed class ReportFigures(ExperimentResults results, JobStore store, ExperimentData data)
{
    private const int CurvePoints = 60;

    private readonly ExperimentPlan _plan = results.Plan;

    private int DI => _plan.Config.AblationDI;

    /// <summary>E_rel against d_I, one line per challenge.</summary>
    public IEnumerable<(string, string, string)> Dimensions()
    {
        Study[] challenges = [Study.TrainMsf, Study.TrainSame, Study.TrainOther, Study.TestIst, Study.TestMsf];
        foreach ((string group, _) in results.Groups)
        {
            ChartSeries[] series = [.. challenges.Select(c => Line(c.Name(), s => s.Study == c && s.Method == SubspaceMethod.Msf && s.Group == group) with { Style = Style(c) }).Where(s => s.Points.Count > 0)];
            if (series.Length == 0) continue;
            string title = group == ExperimentResults.AllTasks ? "E_rel against d_I, all tasks" : $"E_rel against d_I, {group}";
            yield return (Charts.Lines(new ChartText(title, "d_I (log scale)", "E_rel against prompt tuning"), series, Dimensions(series), percent: true, reference: 1), $"{title}.",
                group == ExperimentResults.AllTasks ? "The paper's figure 3. Dashed at 100 %: prompt tuning itself. Bars: ± one standard deviation over seeds." : "");
        }
    }

    /// <summary>IST in MSF's subspace and in the baselines'.</summary>
    public IEnumerable<(string, string, string)> Baselines()
    {
        foreach (Study study in (Study[])[Study.TrainOther, Study.TestIst])
        {
            SubspaceMethod[] methods = [.. results.Summaries.Where(s => s.Study == study && s.Setting.Length == 0).Select(s => s.Method).Distinct()];
            if (methods.Length < 2) continue;
            ChartSeries[] series = [.. methods.Select(m => Line(m.Label(), s => s.Study == study && s.Method == m && s.Group == ExperimentResults.AllTasks) with { Style = (int)m })];
            yield return (Charts.Lines(new ChartText($"{study.Name()} by subspace", "d_I (log scale)", "E_rel against prompt tuning"), series, Dimensions(series), percent: true, reference: 1), $"{study.Name()} by subspace.", ReportTexts.Sentence(study.Explain()));
        }
    }

    /// <summary>Absolute scores of everything, by type of task.</summary>
    public (string, string, string) Absolute()
    {
        (string Name, Func<string, double> Score)[] bars =
        [
            ("majority", t => results.Untuned.TryGetValue(t, out UntunedScores? u) ? u.Majority : double.NaN),
            ("untuned", t => results.Untuned.TryGetValue(t, out UntunedScores? u) ? u.Untuned : double.NaN),
            ("untuned + name", t => results.Untuned.TryGetValue(t, out UntunedScores? u) ? u.WithName : double.NaN),
            ("prompt tuning", t => results.Reference(t, "", $"{_plan.Config.Data.Draw}")),
            ($"IST d_I {DI}", t => results.Of(_plan.Split.Test.Contains(t) ? Study.TestIst : Study.TrainOther, "", SubspaceMethod.Msf, DI, t).Score),
            ($"MSF d_I {DI}", t => results.Of(_plan.Split.Test.Contains(t) ? Study.TestMsf : Study.TrainMsf, "", SubspaceMethod.Msf, DI, t).Score),
        ];
        (string Name, string[] Tasks)[] groups =
        [
            ("trained on", [.. _plan.Split.Train]),
            ("held out", [.. _plan.Split.Test]),
            .. results.Groups.Where(g => g.Key is "cls" or "non-cls").Select(g => (g.Key, g.Value.ToArray())),
        ];
        return (Charts.Bars(new ChartText("E_abs by group of tasks", "", "E_abs"), [.. bars.Select(b => b.Name)],
            [.. groups.Where(g => g.Tasks.Length > 0).Select(g => new BarGroup(g.Name, [.. bars.Select(b => Statistics.Mean(g.Tasks.Select(b.Score).Where(double.IsFinite)))]))], percent: true),
            "E_abs by group of tasks.", "IST on another draw for training tasks, on their own data for held-out ones.");
    }

    /// <summary>Intrinsic vectors by PCA.</summary>
    public IEnumerable<(string, string, string)> TaskScatter()
    {
        int dI = DI >= 2 ? DI : _plan.Config.DI.Where(d => d >= 2).DefaultIfEmpty(0).Max();
        int seed = _plan.Config.Seeds[0];
        List<(Use Use, float[] Z)> found = [];
        foreach (ScoredUse scored in results.Scores)
        {
            Use use = scored.Use;
            bool wanted = use.Study is Study.TrainSame or Study.TrainOther or Study.TestIst && use.Setting.Length == 0 && use.Method == SubspaceMethod.Msf && use.DI == dI && use.Seed == seed;
            // A training task that was tuned on both draws is shown by the one that the subspace saw.
            if (!wanted || found.Any(f => f.Use.Task == use.Task) || (use.Study == Study.TrainOther && _plan.Config.Challenges.SameData)) continue;
            if (store.Find(_plan[use.Job]) is not { Result.Failure: null } stored || !File.Exists(stored.TensorPath)) continue;
            found.Add((use, JobStore.ReadTensor(stored, JobResult.Z).Values));
        }
        if (found.Count < 3) yield break;
        (IReadOnlyList<(double X, double Y)> points, double shareX, double shareY) = PrincipalAxes.Project([.. found.Select(f => f.Z)]);
        string[] kinds = ["cls", "non-cls", "cls, unseen", "non-cls, unseen"];
        ScatterPoint[] marks = [.. found.Select((f, i) => new ScatterPoint((data.Task(f.Use.Task).IsClassification ? 0 : 1) + (f.Use.Study == Study.TestIst ? 2 : 0), points[i].X, points[i].Y, f.Use.Task))];
        yield return (Charts.Scatter(new ChartText($"Intrinsic vectors z at d_I {dI} by PCA", $"first axis ({ReportTexts.Percent(shareX)} % of variance)", $"second axis ({ReportTexts.Percent(shareY)} %)"), kinds, marks),
            $"Intrinsic vectors z at d_I {dI} by PCA.", $"The paper's figure 4: one point per task (seed {seed}), by type and by whether the subspace was made from it.");
    }

    /// <summary>What is varied: training tasks, shots, prompt length.</summary>
    public IEnumerable<(string, string, string)> Ablations()
    {
        AblationSection vary = _plan.Config.Ablations;
        bool InMain(Summary s, Study study, string setting) => s.Study == study && s.Setting == setting && s.Method == SubspaceMethod.Msf && s.DI == DI;
        if (vary.TrainTasks.Count > 0)
        {
            int[] percents = [.. vary.TrainTasks.Append(100).Distinct().Order()];
            ChartSeries[] series = [.. results.Groups.Select(g => new ChartSeries(g.Key, Points(percents, p => s => InMain(s, Study.TestIst, p == 100 ? "" : $"{p} % of tasks") && s.Group == g.Key))).Where(s => s.Points.Count > 0)];
            if (series.Length > 0)
                yield return (Charts.Lines(new ChartText("Number of training tasks", "training tasks, percent", "E_rel of T_test (IST)"), series, percent: true), "Number of training tasks.", $"The paper's figure 5: unseen-task challenge at d_I {DI}, subspaces from nested subsets of the training tasks.");
        }
        if (vary.ShotsDraw is not null)
        {
            (Study Study, string Name)[] asked = [(Study.TrainMsf, Study.TrainMsf.Name()), (Study.TrainSame, Study.TrainSame.Name()), (Study.TestIst, Study.TestIst.Name())];
            ChartSeries[] series = [.. asked.Select(a => new ChartSeries(a.Name, Points([1, 2], k => s => InMain(s, a.Study, k == 1 ? "" : "2K shots") && s.Group == ExperimentResults.AllTasks), Style(a.Study))).Where(s => s.Points.Count > 0)];
            if (series.Length > 0)
                yield return (Charts.Lines(new ChartText("Shots", "shots, in K", "E_rel against prompt tuning"), series, logAt: [1, 2], percent: true, reference: 1), "Shots.", $"The paper's figure 6, at d_I {DI}. Each is measured against prompt tuning on as many shots.");
        }
        if (vary.PromptLengths.Count > 0)
        {
            int[] lengths = [.. vary.PromptLengths.Append(_plan.Config.PromptLength).Distinct().Order()];
            ChartSeries[] series = [.. ((Study[])[Study.TrainMsf, Study.TrainSame, Study.TestIst]).Select(study => new ChartSeries(study.Name(), Points(lengths, p => s => InMain(s, study, p == _plan.Config.PromptLength ? "" : $"prompt length {p}") && s.Group == ExperimentResults.AllTasks), Style(study))).Where(s => s.Points.Count > 0)];
            if (series.Length > 0)
                yield return (Charts.Lines(new ChartText("Prompt length", "prompt length P", "E_rel against prompt tuning"), series, logAt: [.. lengths.Select(l => (double)l)], percent: true, reference: 1), "Prompt length.", $"At d_I {DI}, each against prompt tuning of the same length.");
        }
    }

    /// <summary>Mean training loss by step.</summary>
    public IEnumerable<(string, string, string)> Curves()
    {
        (string Title, string Explanation, IEnumerable<(string Name, Func<Use, bool> Of)> Lines)[] figures =
        [
            ("Prompt tuning loss", "mean over tasks and seeds", [
                ("cls", u => u.Study == Study.PromptTuning && u.Setting.Length == 0 && data.Task(u.Task).IsClassification),
                ("non-cls", u => u.Study == Study.PromptTuning && u.Setting.Length == 0 && !data.Task(u.Task).IsClassification),
                ("from IST", u => u.Study == Study.StageTwo && u.Setting.Length == 0)]),
            ("IST loss, unseen data", "mean over tasks and seeds", _plan.Config.DI.Select(d => ($"d_I {d}", (Func<Use, bool>)(u => u.Study == Study.TrainOther && u.DI == d && u.Method == SubspaceMethod.Msf)))),
            ("IST loss, unseen tasks", "mean over tasks and seeds", _plan.Config.DI.Select(d => ($"d_I {d}", (Func<Use, bool>)(u => u.Study == Study.TestIst && u.Setting.Length == 0 && u.DI == d && u.Method == SubspaceMethod.Msf)))),
        ];
        ChartSeries[] spaces = [.. _plan.Jobs.Where(j => j is { Kind: JobKind.Subspace, Subspace: SubspaceMethod.Msf } && j.Samples.Count == _plan.Split.Train.Count && j.PromptLength == _plan.Config.PromptLength && !j.Samples[0].Draw.Contains('+'))
            .Select(j => Curve($"d_I {j.DI}", [j.Key])).Where(s => s.Points.Count > 0)];
        if (spaces.Length > 0) yield return Draw("MSF loss", "all losses that are switched on", spaces);
        foreach ((string title, string explanation, IEnumerable<(string Name, Func<Use, bool> Of)> lines) in figures)
        {
            ChartSeries[] series = [.. lines.Select(l => Curve(l.Name, [.. results.Scores.Where(s => l.Of(s.Use)).Select(s => s.Use.Job).Distinct()])).Where(s => s.Points.Count > 0)];
            if (series.Length > 0) yield return Draw(title, explanation, series);
        }

        static (string, string, string) Draw(string title, string explanation, IReadOnlyList<ChartSeries> series) =>
            (Charts.Lines(new ChartText(title, "step", "training loss"), series, marks: false), $"{title}.", ReportTexts.Sentence(explanation));
    }

    /// <summary>E_rel of every task and question.</summary>
    public (string, string, string) PerTask()
    {
        (Study Study, SubspaceMethod Method)[] columns = [.. results.Summaries.Where(s => s.Setting.Length == 0 && s.Method == SubspaceMethod.Msf && s.Study is not (Study.Untuned or Study.PromptTuning) && (s.DI == DI || s.Study == Study.StageTwo))
            .Select(s => (s.Study, s.Method)).Distinct()];
        List<KeyValuePair<string, IReadOnlyList<double>>> rows = [.. _plan.Split.Train.Concat(_plan.Split.Test)
            .Select(t => KeyValuePair.Create<string, IReadOnlyList<double>>(t, [.. columns.Select(c => results.Of(c.Study, "", c.Method, DI, t).Ratio)]))];
        return (Charts.HeatMap(new ChartText($"E_rel by task at d_I {DI}", "", ""), [.. columns.Select(c => c.Study.Name())], rows, percent: true, full: 1),
            $"E_rel by task at d_I {DI}, in percent of prompt tuning.", "Held-out tasks stand below. Empty: not asked, or prompt tuning scored 0.");
    }

    // A challenge keeps its colour in every figure; the first four are drawn solid.
    private static int Style(Study study) => study switch { Study.TrainMsf => 0, Study.TrainSame => 1, Study.TrainOther => 2, Study.TestIst => 3, _ => 4 };

    private ChartSeries Line(string name, Func<Summary, bool> where) => new(name, [.. results.Summaries.Where(s => s.Setting.Length == 0 && where(s) && double.IsFinite(s.ERel)).OrderBy(s => s.DI).Select(s => new ChartPoint(s.DI, s.ERel, s.ERelDeviation))]);

    private List<ChartPoint> Points(IEnumerable<int> at, Func<int, Func<Summary, bool>> where) =>
        [.. at.Select(x => (x, Row: results.Summaries.FirstOrDefault(where(x)))).Where(p => p.Row is not null && double.IsFinite(p.Row.ERel)).Select(p => new ChartPoint(p.x, p.Row!.ERel, p.Row.ERelDeviation))]; // filtered above

    private static double[] Dimensions(IEnumerable<ChartSeries> series) => [.. series.SelectMany(s => s.Points).Select(p => p.X).Distinct().Order()];

    /// <summary>Mean of the jobs' curves at the steps that all of them have, thinned to what a figure can show.</summary>
    private ChartSeries Curve(string name, IReadOnlyList<string> jobs)
    {
        IReadOnlyList<CurvePoint>[] curves = [.. jobs.Select(j => store.Find(_plan[j])).Where(s => s is { Result: { Failure: null, Curve.Count: > 0 } }).Select(s => s!.Result.Curve)]; // filtered here
        (int Step, double Loss)[] mean = [.. curves.SelectMany(c => c).GroupBy(p => p.Step).Where(g => g.Count() == curves.Length).OrderBy(g => g.Key).Select(g => (g.Key, g.Average(p => p.Loss)))];
        int every = Math.Max(1, (mean.Length + CurvePoints - 1) / CurvePoints);
        return new ChartSeries(name, [.. mean.Where((_, i) => i % every == 0 || i == mean.Length - 1).Select(p => new ChartPoint(p.Step, p.Loss))]);
    }
}
