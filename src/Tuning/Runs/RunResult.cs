// result.json and predictions.tsv: what came out of a run, for people and for the next program.
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Evaluation;

namespace IptNative.Tuning.Runs;

/// <summary>What one of the runs side by side came to.</summary>
public sealed record RowResult
{
    /// <summary>The run.</summary>
    public required RunRow Row { get; init; }

    /// <summary>Steps that it trained.</summary>
    public long Steps { get; init; }

    /// <summary>Why it ended.</summary>
    public StopReason Stopped { get; init; }

    /// <summary>Step of the prompt that was kept.</summary>
    public long BestStep { get; init; }

    /// <summary>Scores of that prompt by split: dev, and test where it was scored.</summary>
    public IReadOnlyDictionary<string, SplitScore> Scores { get; init; } = new Dictionary<string, SplitScore>();
}

/// <summary>Scores on one split.</summary>
/// <param name="Score">The metric, or the mean of several.</param>
/// <param name="Scores">Each metric.</param>
/// <param name="Examples">Examples scored.</param>
public sealed record SplitScore(double Score, IReadOnlyList<MetricScore> Scores, int Examples);

/// <summary>What a task scores without any tuning, for comparison.</summary>
/// <param name="Task">The task's label.</param>
/// <param name="Name">majority, untuned, untuned_with_prefix.</param>
/// <param name="Split">dev or test.</param>
/// <param name="Score">Its score.</param>
public sealed record Baseline(string Task, string Name, string Split, SplitScore Score);

/// <summary>A prediction, for predictions.tsv.</summary>
/// <param name="Run">The run, or the baseline's name.</param>
/// <param name="Split">dev or test.</param>
/// <param name="Example">Number within the split, from 0.</param>
/// <param name="Prediction">What the model answered.</param>
/// <param name="Answers">Gold answers.</param>
/// <param name="Input">The input as the model saw it, without the prompt.</param>
public readonly record struct PredictionLine(string Run, string Split, int Example, string Prediction, IReadOnlyList<string> Answers, string Input);

/// <summary>A score over the seeds of one task.</summary>
/// <param name="Task">The task's label.</param>
/// <param name="Split">dev or test.</param>
/// <param name="Mean">Arithmetic mean.</param>
/// <param name="StandardDeviation">Of the sample (divisor n - 1); null for a single run.</param>
/// <param name="Runs">Seeds.</param>
public sealed record TaskSummary(string Task, string Split, double Mean, double? StandardDeviation, int Runs);

/// <summary>What a training came to.</summary>
public sealed record RunResult
{
    /// <summary>Every run.</summary>
    public required IReadOnlyList<RowResult> Rows { get; init; }

    /// <summary>Scores to compare with.</summary>
    public IReadOnlyList<Baseline> Baselines { get; init; } = [];

    /// <summary>Wall time of the training, all processes of the run together.</summary>
    public double TrainSeconds { get; init; }

    /// <summary>High-water mark of the process's memory; 0 where it was not taken.</summary>
    public long PeakBytes { get; init; }

    /// <summary>Mean and deviation over the seeds of each task and split.</summary>
    /// <returns>In the order of the tasks.</returns>
    public IReadOnlyList<TaskSummary> Summarise() =>
    [
        .. Rows.SelectMany(r => r.Scores.Select(s => (r.Row.TaskIndex, r.Row.Task, Split: s.Key, s.Value.Score)))
            .GroupBy(s => (s.TaskIndex, s.Task, s.Split))
            .OrderBy(g => g.Key.TaskIndex).ThenBy(g => g.Key.Split, StringComparer.Ordinal)
            .Select(g => Summary(g.Key.Task, g.Key.Split, [.. g.Select(s => s.Score)])),
    ];

    /// <summary>Writes the result, whole or not at all.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public void Save(string path)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            Write(json);
        buffer.WriteByte((byte)'\n');
        AtomicFile.Write(path, stream => buffer.WriteTo(stream));
    }

    /// <summary>Writes the result as one object.</summary>
    /// <param name="json">The writer.</param>
    public void Write(Utf8JsonWriter json)
    {
        ArgumentNullException.ThrowIfNull(json);
        json.WriteStartObject();
        json.WriteStartArray("summary");
        foreach (TaskSummary summary in Summarise())
        {
            json.WriteStartObject();
            json.WriteString("task", summary.Task);
            json.WriteString("split", summary.Split);
            json.WriteFinite("mean", summary.Mean);
            json.WriteFinite("std", summary.StandardDeviation ?? double.NaN);
            json.WriteNumber("runs", summary.Runs);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteStartArray("baselines");
        foreach (Baseline baseline in Baselines)
        {
            json.WriteStartObject();
            json.WriteString("task", baseline.Task);
            json.WriteString("name", baseline.Name);
            json.WriteString("split", baseline.Split);
            Write(json, baseline.Score);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteStartArray("runs");
        foreach (RowResult row in Rows)
        {
            json.WriteStartObject();
            json.WriteString("run", row.Row.Name);
            json.WriteString("task", row.Row.Task);
            json.WriteNumber("seed", row.Row.Seed);
            json.WriteNumber("steps", row.Steps);
            json.WriteString("stopped", Word(row.Stopped));
            json.WriteNumber("best_step", row.BestStep);
            foreach ((string split, SplitScore score) in row.Scores)
            {
                json.WriteStartObject(split);
                Write(json, score);
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteFinite("train_seconds", TrainSeconds);
        json.WriteNumber("peak_bytes", PeakBytes);
        json.WriteEndObject();
    }

    internal static string Word(StopReason reason) => reason switch
    {
        StopReason.Steps => "steps",
        StopReason.Patience => "patience",
        _ => "non_finite",
    };

    /// <summary>Writes predictions as tab-separated lines under a head; tabs and line ends inside become spaces.</summary>
    internal static void WritePredictions(string path, IEnumerable<PredictionLine> lines) => AtomicFile.Write(path, stream =>
    {
        using var writer = new StreamWriter(stream, new UTF8Encoding(false), leaveOpen: true) { NewLine = "\n" };
        writer.WriteLine("run\tsplit\texample\tprediction\tanswers\tinput");
        foreach (PredictionLine line in lines)
            writer.WriteLine($"{line.Run}\t{line.Split}\t{line.Example}\t{OneLine(line.Prediction)}\t{string.Join(" | ", line.Answers.Select(OneLine))}\t{OneLine(line.Input)}");
    });

    private static string OneLine(string text) => text.Replace('\t', ' ').ReplaceLineEndings(" ");

    private static TaskSummary Summary(string task, string split, double[] scores)
    {
        ScoreSpread spread = ScoreSpread.Of(scores);
        return new TaskSummary(task, split, spread.Mean, spread.Count > 1 ? spread.StandardDeviation : null, spread.Count);
    }

    private static void Write(Utf8JsonWriter json, SplitScore score)
    {
        json.WriteFinite("score", score.Score);
        json.WriteStartObject("metrics");
        foreach (MetricScore metric in score.Scores)
            json.WriteFinite(metric.Metric, metric.Value);
        json.WriteEndObject();
        json.WriteNumber("examples", score.Examples);
    }
}
