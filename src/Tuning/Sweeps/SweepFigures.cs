// The figures of a sweep. Deliberately not: drawing (Reports/Charts), and where the scores come from (SweepTable).
using System.Globalization;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Tuning.Reports;

namespace IptNative.Tuning.Sweeps;

/// <summary>Figures as Lester et al. 2021 have them.</summary>
/// <remarks>
/// Figure 1: the score over the model's size, a line per setting. Figure 3: one panel per ablated option, over the model's size with a line per value; with one
/// model the option itself is at the bottom. Error bars are standard deviations over the seeds.
/// </remarks>
internal sealed class SweepFigures(SweepPlan plan, SweepTable table)
{
    private const string ModelAxis = "model";

    /// <summary>Sections of figures: the mean over tasks where there are several, then each task.</summary>
    public IEnumerable<(string Heading, (string Svg, string Title, string Explanation)[] Figures)> Sections()
    {
        foreach (IGrouping<string, SweepScore> task in table.Scores.GroupBy(s => s.Task).OrderByDescending(g => g.First().IsMean))
        {
            SweepScore[] scores = [.. task];
            string seeds = $"Mean and standard deviation over {(scores.Min(s => s.Runs) == scores.Max(s => s.Runs) ? $"{scores.Max(s => s.Runs)}" : $"{scores.Min(s => s.Runs)} to {scores.Max(s => s.Runs)}")} seeds.";
            yield return (task.Key, plan.Ablated.Count == 0 ? [Panel(task.Key, scores, plan.X, null, seeds)] : [.. plan.Ablated.Select(a => Panel(task.Key, Varied(scores, a), plan.X, a, seeds)).Where(f => f.Svg.Length > 0)]);
        }
    }

    // Points in which no other ablated option differs from what it usually is.
    private SweepScore[] Varied(SweepScore[] scores, string axis) =>
        [.. scores.Where(s => plan.Axes.Index().All(a => a.Item == axis || !plan.Ablated.Contains(a.Item) || s.Values[a.Index] == plan.Usual[a.Index]))];

    private (string Svg, string Title, string Explanation) Panel(string task, SweepScore[] scores, string? x, string? ablated, string seeds)
    {
        if (scores.Length == 0)
            return ("", "", "");
        x ??= ablated ?? plan.Axes[0];
        int at = Place(x);
        int[] others = [.. Enumerable.Range(0, plan.Axes.Count).Where(a => a != at && (!plan.Ablated.Contains(plan.Axes[a]) || plan.Axes[a] == ablated))];
        // The order of the file, not of the points: a usual value's point may belong to another axis.
        scores = [.. Enumerable.Range(0, plan.Axes.Count).Reverse().Aggregate(scores.AsEnumerable(), (all, a) => all.OrderBy(s => Rank(a, s.Values[a])))];
        string[] values = [.. scores.Select(s => s.Values[at]).Distinct().OrderBy(v => Rank(at, v))];
        Dictionary<string, double>? sizes = x == ModelAxis ? Sizes(values, at) : null;
        bool numeric = sizes is not null || values.All(SweepTable.IsNumber);
        double Where(string value) => sizes is not null ? sizes[value] : numeric ? double.Parse(value, CultureInfo.InvariantCulture) : Array.IndexOf(values, value);
        ChartSeries[] lines = [.. scores.GroupBy(s => string.Join(", ", others.Select(o => s.Values[o]))).Select(g =>
            new ChartSeries(g.Key, [.. g.Select(s => new ChartPoint(Where(s.Values[at]), s.Mean, s.Deviation)).OrderBy(p => p.X)]))];
        double[] marks = [.. lines.SelectMany(l => l.Points.Select(p => p.X)).Distinct().Order()];
        string label = sizes is not null ? "parameters of the model" : x, what = ablated is null ? $"{task} by {x}" : $"{ablated}";
        string lead = others.Length == 0 ? "" : $"One {(numeric ? "line" : "mark")} per {string.Join(", ", others.Select(o => plan.Axes[o]))}. ";
        string svg = Charts.Lines(new ChartText($"{task} by {x}", label, "score"), lines, logAt: numeric && marks.All(v => v > 0) ? marks : null, percent: true,
            names: numeric ? null : values, xText: sizes is null ? null : Size);
        return (svg, what + ".", lead + seeds);
    }

    private int Rank(int axis, string value) => plan.Orders[axis].TakeWhile(v => v != value).Count();

    private int Place(string axis) => plan.Axes.Index().First(a => a.Item == axis).Index;

    // Null where two models have the same size (formats of one model): then they stand side by side.
    private Dictionary<string, double>? Sizes(string[] values, int axis)
    {
        var sizes = new Dictionary<string, double>(StringComparer.Ordinal);
        foreach (string value in values)
        {
            string model = plan.Points.First(p => p.Values[axis] == value).Config.Model, config = Path.Combine(Checkpoint.FolderOf(model), "config.json");
            sizes[value] = T5Parameters.Of(T5Config.Load(config)).Sum(p => (double)p.Shape.Elements);
        }
        return sizes.Values.Distinct().Count() == values.Length ? sizes : null;
    }

    private static string Size(double parameters) => parameters switch
    {
        >= 1e9 => string.Create(CultureInfo.InvariantCulture, $"{parameters / 1e9:0.#} B"),
        >= 1e7 => string.Create(CultureInfo.InvariantCulture, $"{parameters / 1e6:0} M"),
        >= 1e6 => string.Create(CultureInfo.InvariantCulture, $"{parameters / 1e6:0.#} M"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{parameters / 1e3:0} k"),
    };
}
