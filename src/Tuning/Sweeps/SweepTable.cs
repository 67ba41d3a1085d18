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
public sealed record SweepScore(string Point, IReadOnlyList<string> Values, string Task, string Split, double Mean, double Deviation, int Runs);

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
            return [.. summary.GroupBy(s => s.GetProperty("task").GetString() ?? "").Select(g =>
            {
                JsonElement score = g.FirstOrDefault(s => s.GetProperty("split").GetString() == "test", g.First());
                return new SweepScore(point.Name, point.Values, g.Key, score.GetProperty("split").GetString() ?? "", Number(score, "mean"), Number(score, "std"), score.GetProperty("runs").GetInt32());
            })];
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new InvalidDataException($"{path}: reading a point's scores; {e.Message} Remove the point's folder to train it again.", e);
        }
    }

    private static double Number(JsonElement score, string name) => score.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : double.NaN;
}
