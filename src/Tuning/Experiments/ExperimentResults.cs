// From stored scores to the paper's measures. Deliberately no text and no figures: see Reports.
namespace IptNative.Tuning.Experiments;

/// <summary>A score with what it is a score of.</summary>
/// <param name="Use">The question it answers.</param>
/// <param name="Score">Test score as a fraction; NaN where the metric has none, or the job failed or is not there.</param>
/// <param name="Dev">Dev score.</param>
/// <param name="Problem">Why there is no score; null where there is one.</param>
public sealed record ScoredUse(Use Use, double Score, double Dev, string? Problem);

/// <summary>One row of a summary: a question, over a group of tasks.</summary>
public sealed record Summary
{
    /// <summary>The question.</summary>
    public required Study Study { get; init; }

    /// <summary>The ablation's setting; "" for the experiment itself.</summary>
    public required string Setting { get; init; }

    /// <summary>The subspace's kind.</summary>
    public required SubspaceMethod Method { get; init; }

    /// <summary>d_I; 0 where no subspace is involved.</summary>
    public required int DI { get; init; }

    /// <summary>Name of the group of tasks.</summary>
    public required string Group { get; init; }

    /// <summary>Tasks that have a score.</summary>
    public required int Tasks { get; init; }

    /// <summary>Tasks of the group that were asked and have none.</summary>
    public required int Missing { get; init; }

    /// <summary>E_abs: mean score over tasks.</summary>
    public required double EAbs { get; init; }

    /// <summary>E_rel: mean over tasks of score / prompt tuning's score; NaN where no task has a denominator.</summary>
    public required double ERel { get; init; }

    /// <summary>Median of the same ratios: not moved by one task with a tiny denominator.</summary>
    public required double ERelMedian { get; init; }

    /// <summary>Standard deviation of E_rel over the seeds, each taken as an experiment of its own; NaN below two seeds.</summary>
    public required double ERelDeviation { get; init; }

    /// <summary>Tasks left out of E_rel because prompt tuning scored exactly 0 on them.</summary>
    public required int ZeroDenominators { get; init; }

    /// <summary>Tasks left out of E_rel because they or their prompt tuning have no score.</summary>
    public required int NoDenominators { get; init; }

    /// <summary>E_rel against fine-tuning; null where it was not measured for any of the tasks.</summary>
    public double? ERelFineTuning { get; init; }

    /// <summary>Tasks of <see cref="ERelFineTuning"/>.</summary>
    public int FineTuningTasks { get; init; }
}

/// <summary>Standard deviation of a task's score over runs, mean over tasks (the paper's table 4).</summary>
/// <param name="Study">Prompt tuning, IST or IST-initialised prompt tuning.</param>
/// <param name="DI">d_I.</param>
/// <param name="Runs">Least number of runs of a task.</param>
/// <param name="Tasks">Tasks with at least two runs.</param>
/// <param name="Deviation">Mean over tasks of the sample standard deviation (n - 1).</param>
/// <param name="Mean">Mean score over tasks.</param>
/// <param name="ERel">E_rel of the mean scores.</param>
public sealed record Stability(Study Study, int DI, int Runs, int Tasks, double Deviation, double Mean, double ERel);

/// <summary>Whether prompt tuning beats what needs no tuning. Where it does not on most tasks, ratios to it say nothing.</summary>
/// <param name="Compared">Tasks with all three scores.</param>
/// <param name="Better">Of them those where prompt tuning beats both the majority label and the untuned model.</param>
public sealed record Conclusiveness(int Compared, int Better)
{
    /// <summary>True where prompt tuning wins on more than half of the tasks.</summary>
    public bool IsConclusive => Compared > 0 && 2 * Better > Compared;
}

/// <summary>Every score of an experiment and the measures made from them.</summary>
public sealed class ExperimentResults
{
    private readonly ILookup<(Study, string Setting, string Draw, string Task), ScoredUse> _promptTuning;
    private readonly IReadOnlyDictionary<string, double> _fineTuning;

    private ExperimentResults(ExperimentPlan plan, IReadOnlyList<ScoredUse> scores, IReadOnlyList<KeyValuePair<string, IReadOnlyList<string>>> groups,
        IReadOnlyDictionary<string, UntunedScores> untuned, IReadOnlyDictionary<string, double> fineTuning)
    {
        (Plan, Scores, Groups, Untuned, _fineTuning) = (plan, scores, groups, untuned, fineTuning);
        _promptTuning = scores.Where(s => s.Use.Study == Study.PromptTuning && double.IsFinite(s.Score)).ToLookup(s => (s.Use.Study, s.Use.Setting, s.Use.Draw, s.Use.Task));
        Summaries = [.. Summarise()];
        StabilityRows = [.. MakeStability()];
        Conclusive = Conclude();
    }

    /// <summary>The plan.</summary>
    public ExperimentPlan Plan { get; }

    /// <summary>All scores, in the plan's order.</summary>
    public IReadOnlyList<ScoredUse> Scores { get; }

    /// <summary>Groups of tasks: all, by type, in and out of the training tasks' type, the user's.</summary>
    public IReadOnlyList<KeyValuePair<string, IReadOnlyList<string>>> Groups { get; }

    /// <summary>What needs no tuning, by task.</summary>
    public IReadOnlyDictionary<string, UntunedScores> Untuned { get; }

    /// <summary>Whether fine-tuning scores were given.</summary>
    public bool HasFineTuning => _fineTuning.Count > 0;

    /// <summary>The measures, question by question, group by group.</summary>
    public IReadOnlyList<Summary> Summaries { get; }

    /// <summary>Standard deviations over runs.</summary>
    public IReadOnlyList<Stability> StabilityRows { get; }

    /// <summary>Whether the experiment says anything.</summary>
    public Conclusiveness Conclusive { get; }

    /// <summary>Name of the group of all tasks.</summary>
    public const string AllTasks = "all";

    /// <summary>Collects the scores of a plan's finished jobs.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="store">Finished jobs.</param>
    /// <param name="data">The tasks' types.</param>
    /// <returns>The results; jobs that are not done are named as such.</returns>
    /// <exception cref="InvalidDataException">The file of fine-tuning scores is malformed.</exception>
    public static ExperimentResults Collect(ExperimentPlan plan, JobStore store, ExperimentData data)
    {
        ArgumentNullException.ThrowIfNull(plan);
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(data);
        Dictionary<string, string> because = ExperimentRun.Skipped(plan, store).ToDictionary(s => s.Job, s => s.Because, StringComparer.Ordinal);
        List<ScoredUse> scores = [];
        Dictionary<string, UntunedScores> untuned = new(StringComparer.Ordinal);
        foreach (Use use in plan.Uses)
        {
            StoredJob? stored = store.Find(plan[use.Job]);
            string? problem = stored is null ? because.TryGetValue(use.Job, out string? failed) ? $"not run: {failed} failed" : "not run yet" : stored.Result.Failure;
            double Value(string key) => problem is null && stored is not null && stored.Result.Scores.TryGetValue(key, out double value) ? value : double.NaN;
            if (use.Study == Study.Untuned) untuned[use.Task] = new UntunedScores(Value(JobResult.Test), Value(JobResult.TestWithName), Value(JobResult.Majority));
            double test = Value(JobResult.Test);
            scores.Add(new ScoredUse(use, test, Value(JobResult.Dev), problem ?? (double.IsNaN(test) ? "the metric has no value" : null)));
        }
        IReadOnlyDictionary<string, double> fineTuning = plan.Config.FineTuningScores is { } csv ? FineTuningScores.Read(csv, data.Names) : new Dictionary<string, double>();
        return new ExperimentResults(plan, scores, MakeGroups(plan, data), untuned, fineTuning);
    }

    /// <summary>Mean prompt tuning score of a task.</summary>
    /// <param name="task">The task.</param>
    /// <param name="setting">Setting; "" for the experiment itself.</param>
    /// <param name="draw">Draw.</param>
    /// <returns>The mean over seeds; NaN where there is none.</returns>
    public double Reference(string task, string setting, string draw)
    {
        IEnumerable<ScoredUse> runs = _promptTuning[(Study.PromptTuning, setting, draw, task)];
        return runs.Any() ? runs.Average(r => r.Score) : double.NaN;
    }

    /// <summary>Mean score of a task over seeds.</summary>
    /// <param name="study">The question.</param>
    /// <param name="setting">The setting.</param>
    /// <param name="method">The subspace's kind.</param>
    /// <param name="dI">d_I; 0 where no subspace is involved.</param>
    /// <param name="task">The task.</param>
    /// <returns>The mean, and its ratio to prompt tuning; NaN where there is none.</returns>
    public (double Score, double Ratio) Of(Study study, string setting, SubspaceMethod method, int dI, string task)
    {
        ScoredUse[] runs = [.. Scores.Where(s => s.Use.Study == study && s.Use.Setting == setting && s.Use.Method == method && s.Use.DI == dI && s.Use.Task == task
            && (study != Study.PromptTuning || s.Use.Draw == s.Use.ReferenceDraw) && double.IsFinite(s.Score))];
        if (runs.Length == 0) return (double.NaN, double.NaN);
        double score = runs.Average(r => r.Score), reference = Reference(task, runs[0].Use.ReferenceSetting, runs[0].Use.ReferenceDraw);
        return (score, reference > 0 ? score / reference : double.NaN);
    }

    private IEnumerable<Summary> Summarise()
    {
        var questions = Scores.Where(s => s.Use.Setting != "stability").GroupBy(s => (s.Use.Study, s.Use.Setting, s.Use.Method, s.Use.DI, Draw: s.Use.Study == Study.PromptTuning ? s.Use.Draw : ""));
        foreach (var question in questions)
        {
            // Prompt tuning on the other draw is there as a reference only.
            if (question.Key.Study == Study.PromptTuning && question.Key.Setting.Length == 0 && question.Key.Draw != $"{Plan.Config.Data.Draw}") continue;
            foreach ((string group, IReadOnlyList<string> tasks) in Groups)
            {
                HashSet<string> members = [.. tasks];
                ScoredUse[] uses = [.. question.Where(s => members.Contains(s.Use.Task))];
                if (uses.Length > 0) yield return Summarise(question.Key.Study, question.Key.Setting, question.Key.Method, question.Key.DI, group, uses);
            }
        }
    }

    private Summary Summarise(Study study, string setting, SubspaceMethod method, int dI, string group, ScoredUse[] uses)
    {
        var tasks = uses.GroupBy(u => u.Use.Task, StringComparer.Ordinal).Select(g =>
        {
            double[] runs = [.. g.Where(u => double.IsFinite(u.Score)).Select(u => u.Score)];
            Use first = g.First().Use;
            return (Task: g.Key, Score: runs.Length > 0 ? runs.Average() : double.NaN, Reference: Reference(g.Key, first.ReferenceSetting, first.ReferenceDraw));
        }).ToArray();
        var scored = tasks.Where(t => double.IsFinite(t.Score)).ToArray();
        var rated = scored.Where(t => t.Reference > 0).ToArray();
        double[] ratios = [.. rated.Select(t => t.Score / t.Reference)];
        Dictionary<string, double> reference = rated.ToDictionary(t => t.Task, t => t.Reference, StringComparer.Ordinal);
        double[] bySeed = [.. uses.Where(u => double.IsFinite(u.Score) && reference.ContainsKey(u.Use.Task)).GroupBy(u => u.Use.Seed)
            .Where(g => g.Select(u => u.Use.Task).Distinct().Count() == reference.Count).Select(g => g.Average(u => u.Score / reference[u.Use.Task]))];
        var fine = scored.Where(t => _fineTuning.TryGetValue(t.Task, out double f) && f > 0).ToArray();
        return new Summary
        {
            Study = study,
            Setting = setting,
            Method = method,
            DI = dI,
            Group = group,
            Tasks = scored.Length,
            Missing = tasks.Length - scored.Length,
            EAbs = Statistics.Mean(scored.Select(t => t.Score)),
            ERel = Statistics.Mean(ratios),
            ERelMedian = Statistics.Median(ratios),
            ERelDeviation = Statistics.Deviation(bySeed),
            ZeroDenominators = scored.Count(t => t.Reference == 0),
            NoDenominators = tasks.Count(t => !double.IsFinite(t.Score) || double.IsNaN(t.Reference)),
            ERelFineTuning = fine.Length > 0 ? fine.Average(t => t.Score / _fineTuning[t.Task]) : null,
            FineTuningTasks = fine.Length,
        };
    }

    private IEnumerable<Stability> MakeStability()
    {
        foreach (var rows in Scores.Where(s => s.Use.Setting == "stability" && double.IsFinite(s.Score)).GroupBy(s => (s.Use.Study, s.Use.DI)))
        {
            double[][] runs = [.. rows.GroupBy(s => s.Use.Task, StringComparer.Ordinal).Select(g => g.Select(s => s.Score).ToArray()).Where(g => g.Length >= 2)];
            if (runs.Length == 0) continue;
            string[] tasks = [.. rows.GroupBy(s => s.Use.Task, StringComparer.Ordinal).Where(g => g.Count() >= 2).Select(g => g.Key)];
            var ratios = tasks.Zip(runs, (t, r) => r.Average() / Reference(t, "stability", $"{Plan.Config.Data.Draw}")).Where(double.IsFinite);
            yield return new Stability(rows.Key.Study, rows.Key.DI, runs.Min(r => r.Length), runs.Length, Statistics.Mean(runs.Select(Statistics.Deviation)), Statistics.Mean(runs.Select(r => r.Average())), Statistics.Mean(ratios));
        }
    }

    private Conclusiveness Conclude()
    {
        int compared = 0, better = 0;
        foreach ((string task, UntunedScores without) in Untuned)
        {
            double tuned = Reference(task, "", $"{Plan.Config.Data.Draw}");
            if (!double.IsFinite(tuned) || !double.IsFinite(without.Untuned) || !double.IsFinite(without.Majority)) continue;
            compared++;
            if (tuned > without.Untuned && tuned > without.Majority) better++;
        }
        return new Conclusiveness(compared, better);
    }

    private static List<KeyValuePair<string, IReadOnlyList<string>>> MakeGroups(ExperimentPlan plan, ExperimentData data)
    {
        string[] all = [.. plan.Split.Train, .. plan.Split.Test];
        List<KeyValuePair<string, IReadOnlyList<string>>> groups = [KeyValuePair.Create<string, IReadOnlyList<string>>(AllTasks, all)];
        void Add(string name, IEnumerable<string> tasks)
        {
            string[] some = [.. tasks];
            if (some.Length > 0) groups.Add(KeyValuePair.Create<string, IReadOnlyList<string>>(name, some));
        }
        Add("cls", all.Where(t => data.Task(t).IsClassification));
        Add("non-cls", all.Where(t => !data.Task(t).IsClassification));
        Add("in-type", plan.Split.InType);
        Add("out-of-type", plan.Split.OutOfType);
        foreach (TaskGroup group in plan.Config.Groups) Add(group.Name, all.Intersect(group.Tasks, StringComparer.Ordinal));
        return groups;
    }
}

/// <summary>Scores without tuning.</summary>
/// <param name="Untuned">The frozen model on the inputs as prompt tuning sees them.</param>
/// <param name="WithName">The same with the task's name before the input.</param>
/// <param name="Majority">Always the commonest answer.</param>
public sealed record UntunedScores(double Untuned, double WithName, double Majority);
