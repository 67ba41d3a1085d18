// What a training says, kept.
using IptNative.Tuning.Runs;

namespace IptNative.Device.Tests;

internal sealed class Heard : IRunObserver
{
    public List<RowStep> Steps { get; } = [];

    public List<EvalReport> Evaluations { get; } = [];

    public Action<long> OnStep { get; init; } = _ => { };

    public void Started(RunStart start)
    {
        // Known.
    }

    public void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows)
    {
        Steps.AddRange(rows);
        OnStep(report.Step);
    }

    public void Evaluated(EvalReport report) => Evaluations.Add(report);

    public void RowEnded(RowFinished row)
    {
        // The outcomes say it.
    }

    public void Finished(RunFinished report)
    {
        // Likewise.
    }
}
