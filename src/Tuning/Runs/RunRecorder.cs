// Writes what a training says into log.jsonl and TensorBoard's files. Deliberately not: what is shown to people while it runs (Cli's display).
using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace IptNative.Tuning.Runs;

/// <summary>The record of a run, one JSON object a line, beside one TensorBoard file for each of the runs side by side.</summary>
/// <remarks>Lines of steps: event "step", step, run, loss, lr, grad_norm, prompt_rms, tokens_per_s. Of scores: event "eval". Of ends: event "stop".</remarks>
public sealed class RunRecorder : IRunObserver, IDisposable
{
    private static readonly JsonEncodedText StepName = JsonEncodedText.Encode("step");
    private static readonly JsonEncodedText EventName = JsonEncodedText.Encode("event");
    private static readonly JsonEncodedText RunName = JsonEncodedText.Encode("run");
    private static readonly JsonEncodedText LossName = JsonEncodedText.Encode("loss");
    private static readonly JsonEncodedText RateName = JsonEncodedText.Encode("lr");
    private static readonly JsonEncodedText NormName = JsonEncodedText.Encode("grad_norm");
    private static readonly JsonEncodedText RmsName = JsonEncodedText.Encode("prompt_rms");
    private static readonly JsonEncodedText SpeedName = JsonEncodedText.Encode("tokens_per_s");
    private static readonly EventTag LossTag = new("train/loss");
    private static readonly EventTag RateTag = new("train/learning_rate");
    private static readonly EventTag NormTag = new("train/grad_norm");
    private static readonly EventTag RmsTag = new("train/prompt_rms");
    private static readonly EventTag SpeedTag = new("speed/tokens_per_s");

    private readonly AppendedFile _log;
    private readonly TensorBoardFile[] _boards;
    private readonly JsonEncodedText[] _names;
    private readonly int _every;
    private readonly ArrayBufferWriter<byte> _line = new(1024);
    private readonly Utf8JsonWriter _json;

    internal RunRecorder(AppendedFile log, TensorBoardFile[] boards, IReadOnlyList<RunRow> rows, int every)
    {
        _log = log;
        _boards = boards;
        _names = [.. rows.Select(r => JsonEncodedText.Encode(r.Name))];
        _every = every;
        _json = new Utf8JsonWriter(_line, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
    }

    internal long LogOffset => _log.Offset;

    internal IEnumerable<long> BoardOffsets => _boards.Select(b => b.Offset);

    /// <inheritdoc/>
    public void Started(RunStart start)
    {
        // Nothing: the log of a run that was continued is that of a run that never stopped.
    }

    /// <inheritdoc/>
    public void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows)
    {
        if (report.Step % _every != 0)
            return;
        double speed = report.Seconds > 0 ? report.Tokens / report.Seconds : double.NaN;
        foreach (ref readonly RowStep row in rows)
        {
            Begin("step"u8, row.Row, report.Step);
            _json.WriteFinite(LossName, row.Loss);
            _json.WriteFinite(RateName, row.LearningRate);
            _json.WriteFinite(NormName, row.GradientNorm);
            if (!double.IsNaN(row.PromptRms))
                _json.WriteFinite(RmsName, row.PromptRms);
            _json.WriteFinite(SpeedName, speed);
            End();
            TensorBoardFile board = _boards[row.Row];
            board.Begin(report.Step);
            board.Scalar(LossTag, row.Loss);
            board.Scalar(RateTag, row.LearningRate);
            board.Scalar(NormTag, row.GradientNorm);
            board.Scalar(RmsTag, row.PromptRms);
            board.Scalar(SpeedTag, speed);
            board.End();
        }
    }

    /// <inheritdoc/>
    public void Evaluated(EvalReport report)
    {
        ArgumentNullException.ThrowIfNull(report);
        Begin("eval"u8, report.Row, report.Step);
        _json.WriteString("split", report.Split);
        _json.WriteFinite("score", report.Score);
        _json.WriteStartObject("metrics");
        foreach (MetricScore score in report.Scores)
            _json.WriteFinite(score.Metric, score.Value);
        _json.WriteEndObject();
        _json.WriteBoolean("best", report.IsBest);
        if (!double.IsNaN(report.Loss))
            _json.WriteFinite(LossName, report.Loss);
        _json.WriteFinite("seconds", report.Seconds);
        End();
        TensorBoardFile board = _boards[report.Row];
        board.Begin(report.Step);
        board.Scalar(new EventTag($"{report.Split}/score"), report.Score);
        foreach (MetricScore score in report.Scores)
            board.Scalar(new EventTag($"{report.Split}/{score.Metric}"), score.Value);
        board.Scalar(new EventTag($"{report.Split}/loss"), report.Loss);
        board.End();
    }

    /// <inheritdoc/>
    public void RowEnded(RowFinished row)
    {
        ArgumentNullException.ThrowIfNull(row);
        Begin("stop"u8, row.Row, row.Step);
        _json.WriteString("reason", RunResult.Word(row.Reason));
        _json.WriteNumber("best_step", row.BestStep);
        _json.WriteFinite("best_score", row.BestScore);
        if (row.Detail is not null)
            _json.WriteString("detail", row.Detail);
        End();
    }

    /// <inheritdoc/>
    public void Finished(RunFinished report)
    {
        // The result stands in result.json.
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _json.Dispose();
        _log.Dispose();
        foreach (TensorBoardFile board in _boards)
            board.Dispose();
    }

    internal void Flush()
    {
        _log.Flush();
        foreach (TensorBoardFile board in _boards)
            board.Flush();
    }

    private void Begin(ReadOnlySpan<byte> kind, int row, long step)
    {
        _line.ResetWrittenCount();
        _json.Reset(_line);
        _json.WriteStartObject();
        _json.WriteString(EventName, kind);
        _json.WriteNumber(StepName, step);
        _json.WriteString(RunName, _names[row]);
    }

    private void End()
    {
        _json.WriteEndObject();
        _json.Flush();
        _line.GetSpan(1)[0] = (byte)'\n';
        _line.Advance(1);
        _log.Append(_line.WrittenSpan);
    }
}
