// Loss and dev curves of runs side by side, which survive a stop with the training's own state. Deliberately not the log of a run folder: see RunRecorder.
using System.Text.Json;
using System.Text.Json.Serialization;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Runs;

namespace IptNative.Tuning.Ipt;

/// <summary>Records one curve per run and passes on how far the batch is.</summary>
internal sealed class TrainingCurves : IRunObserver
{
    // Enough for a figure; every step of a long run would make the results large.
    private const int Points = 40;

    private static readonly JsonSerializerOptions Json = new() { NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals };

    private readonly long _steps, _every;
    private readonly Action<double, string> _progress;
    private Curve[] _curves;

    public TrainingCurves(int runs, long steps, Action<double, string> progress)
    {
        (_steps, _every, _progress) = (steps, Math.Max(1, steps / Points), progress);
        _curves = [.. Enumerable.Range(0, runs).Select(_ => new Curve())];
    }

    /// <summary>Why a run ended early; null where it did not.</summary>
    public string? Failure(int run) => _curves[run].Failure;

    public IReadOnlyList<CurvePoint> Of(int run) => _curves[run].Points;

    /// <summary>A step's loss.</summary>
    public void Add(int run, long step, double loss)
    {
        Curve curve = _curves[run];
        curve.Sum += loss;
        curve.Count++;
        if (step % _every == 0)
            Cut(curve, step, double.NaN);
    }

    /// <summary>A dev score.</summary>
    public void AddDev(int run, long step, double dev)
    {
        Curve curve = _curves[run];
        if (curve.Points is [.., var last] && last.Step == step)
            curve.Points[^1] = last with { Dev = dev };
        else
            Cut(curve, step, dev);
    }

    public void Fail(int run, string why) => _curves[run].Failure = why;

    public void Report(long step, string what) => _progress((double)step / (_steps + 1), what);

    public string Save() => JsonSerializer.Serialize(_curves, Json);

    /// <exception cref="InvalidDataException">The text is no curve of as many runs.</exception>
    public void Restore(string text, string path)
    {
        try
        {
            Curve[] curves = JsonSerializer.Deserialize<Curve[]>(text, Json) ?? [];
            if (curves.Length != _curves.Length || curves.Any(c => c?.Points is null))
                throw new JsonException($"{curves.Length} curves for {_curves.Length} runs");
            _curves = curves;
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: going on with a batch; its curves cannot be read ({e.Message}). Delete the file to run the batch from its start.", e);
        }
    }

    public void Started(RunStart start) => Report(start.FirstStep, "training");

    public void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows)
    {
        foreach (RowStep row in rows)
            Add(row.Row, report.Step, row.Loss);
        Report(report.Step, $"step {report.Step}/{_steps}");
    }

    public void Evaluated(EvalReport report) => AddDev(report.Row, report.Step, report.Score);

    public void RowEnded(RowFinished row)
    {
        if (row.Reason == StopReason.NonFinite)
            Fail(row.Row, row.Detail ?? $"a number was not finite at step {row.Step}.");
    }

    public void Finished(RunFinished report) => Report(_steps, "scoring");

    private static void Cut(Curve curve, long step, double dev)
    {
        curve.Points.Add(new CurvePoint((int)step, curve.Count > 0 ? curve.Sum / curve.Count : double.NaN, dev));
        (curve.Sum, curve.Count) = (0, 0);
    }

    private sealed class Curve
    {
        public List<CurvePoint> Points { get; set; } = [];

        public double Sum { get; set; }

        public int Count { get; set; }

        public string? Failure { get; set; }
    }
}
