// The scores of a sweep's points. Deliberately not: files and figures (SweepReport).
using System.Globalization;
using System.Text.Json;

namespace IptNative.Tuning.Sweeps;

/// <summary>A point's score on a task.</summary>
/// <param name="Point">The point's name.</param>
/// <param name="Values">What it set, by axis.</param>
/// <param name="Task">The task.</param>
/// <param name="Split">test, or dev where nothing was tested.</param>
/// <param name="Mean">Over the seeds.</param>
/// <param name="Deviation">Over the seeds; NaN for a single one.</param>
/// <param name="Runs">Seeds.</param>
/// <param name="IsMean">Over the point's tasks: each seed's mean of them, then mean and deviation over the seeds. <paramref name="Task"/> says of how many.</param>
public sealed record SweepScore(string Point, IReadOnlyList<string> Values, string Task, string Split, double Mean, double Deviation, int Runs, bool IsMean = false);

/// <summary>All scores that are known.</summary>
/// <param name="Axes">Names of the options that vary.</param>
/// <param name="Scores">In the order of the points, then of the tasks.</param>
/// <param name="Done">Points that are done.</param>
/// <param name="Points">Points of the sweep.</param>
public sealed record SweepTable(IReadOnlyList<string> Axes, IReadOnlyList<SweepScore> Scores, int Done, int Points)
{
    internal static bool IsNumber(string value) => double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) && double.IsFinite(number);

    internal static IEnumerable<SweepScore> Read(SweepPoint point, string path)
    {
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            JsonElement[] summary = [.. json.RootElement.GetProperty("summary").EnumerateArray()];
            SweepScore[] scores = [.. summary.GroupBy(s => s.GetProperty("task").GetString() ?? "").Select(g =>
            {
                JsonElement score = g.FirstOrDefault(s => s.GetProperty("split").GetString() == "test", g.First());
                return new SweepScore(point.Name, point.Values, g.Key, score.GetProperty("split").GetString() ?? "", Number(score, "mean"), Number(score, "std"), score.GetProperty("runs").GetInt32());
            })];
            return scores.Length < 2 || !json.RootElement.TryGetProperty("runs", out JsonElement runs) ? scores : [.. scores, .. Mean(scores, runs)];
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new InvalidDataException($"{path}: reading a point's scores; {e.Message} Remove the point's folder to train it again.", e);
        }
    }

    // As a benchmark of several tasks is scored; not where a seed lacks a task.
    private static IEnumerable<SweepScore> Mean(SweepScore[] scores, JsonElement runs)
    {
        Dictionary<string, string> split = scores.ToDictionary(s => s.Task, s => s.Split);
        double[] means = [.. runs.EnumerateArray().GroupBy(r => r.GetProperty("seed").GetInt32())
            .Select(seed => seed.Select(r => split.GetValueOrDefault(r.GetProperty("task").GetString() ?? "") is { } of && r.TryGetProperty(of, out JsonElement score) ? Number(score, "score") : double.NaN).ToArray())
            .Select(own => own.Length == scores.Length ? own.Average() : double.NaN)];
        if (means.Length == 0 || !means.All(double.IsFinite))
            yield break;
        double mean = means.Average(), squares = means.Sum(m => (m - mean) * (m - mean));
        yield return new SweepScore(scores[0].Point, scores[0].Values, $"mean of {scores.Length} tasks", scores.All(s => s.Split == scores[0].Split) ? scores[0].Split : "both", mean,
            means.Length > 1 ? Math.Sqrt(squares / (means.Length - 1)) : double.NaN, means.Length, IsMean: true);
    }

    private static double Number(JsonElement score, string name) => score.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : double.NaN;
}
