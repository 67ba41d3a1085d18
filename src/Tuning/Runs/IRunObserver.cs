// What a trainer tells while it works: the log, TensorBoard and the display all listen to this. Deliberately plain values: nothing is allocated in a step.
namespace IptNative.Tuning.Runs;

/// <summary>Why a run among the runs side by side has ended.</summary>
public enum StopReason
{
    /// <summary>All steps are done.</summary>
    Steps,

    /// <summary>No better score for as many evaluations as patience has.</summary>
    Patience,

    /// <summary>A loss or gradient was not finite.</summary>
    NonFinite,
}

/// <summary>Said once, before the first step.</summary>
/// <param name="Rows">The runs side by side.</param>
/// <param name="Steps">Steps in all.</param>
/// <param name="FirstStep">Steps done before, where a run goes on; otherwise 0.</param>
/// <param name="Metric">Name of what selects a prompt, for people: "acc", "mean of 2", "score" where tasks have different ones, "none".</param>
public sealed record RunStart(IReadOnlyList<RunRow> Rows, long Steps, long FirstStep, string Metric);

/// <summary>One optimizer step of all runs that still train.</summary>
/// <param name="Step">From 1.</param>
/// <param name="Tokens">Tokens computed: prompt, inputs and targets, without padding.</param>
/// <param name="Seconds">Wall time of the step.</param>
public readonly record struct StepReport(long Step, long Tokens, double Seconds);

/// <summary>One run's part of a step.</summary>
/// <param name="Row">Index of the run.</param>
/// <param name="Loss">Loss before the update.</param>
/// <param name="LearningRate">Rate of the update.</param>
/// <param name="GradientNorm">Norm of its gradient before clipping.</param>
/// <param name="PromptRms">Root mean square of the prompt after the update; NaN where it was not taken.</param>
public readonly record struct RowStep(int Row, double Loss, double LearningRate, double GradientNorm, double PromptRms = double.NaN);

/// <summary>A score by name.</summary>
/// <param name="Metric">Name of the metric.</param>
/// <param name="Value">Its value; NaN where the formula has none.</param>
public readonly record struct MetricScore(string Metric, double Value);

/// <summary>One run scored on one split.</summary>
/// <param name="Row">Index of the run.</param>
/// <param name="Step">Steps done.</param>
/// <param name="Split">dev or test.</param>
/// <param name="Score">What selects: the metric, or the mean of several.</param>
/// <param name="Scores">Each metric.</param>
/// <param name="IsBest">Better than ever before.</param>
/// <param name="Loss">Mean loss over the split; NaN where it was not taken.</param>
/// <param name="Seconds">Wall time.</param>
public sealed record EvalReport(int Row, long Step, string Split, double Score, IReadOnlyList<MetricScore> Scores, bool IsBest, double Loss, double Seconds);

/// <summary>One run has ended.</summary>
/// <param name="Row">Index of the run.</param>
/// <param name="Step">Its last step.</param>
/// <param name="Reason">Why.</param>
/// <param name="BestStep">Step of its best score; 0 where it was never scored.</param>
/// <param name="BestScore">That score; NaN where it was never scored.</param>
/// <param name="Detail">What was not finite, and where; null otherwise.</param>
public sealed record RowFinished(int Row, long Step, StopReason Reason, long BestStep, double BestScore, string? Detail = null);

/// <summary>All runs have ended.</summary>
/// <param name="Step">The last step.</param>
/// <param name="Seconds">Wall time of this process's training.</param>
public sealed record RunFinished(long Step, double Seconds);

/// <summary>Hears what a training does. Called from one thread.</summary>
public interface IRunObserver
{
    /// <summary>Before the first step.</summary>
    /// <param name="start">What is about to run.</param>
    void Started(RunStart start);

    /// <summary>After a step; must not allocate unless something is due to be shown.</summary>
    /// <param name="report">The step.</param>
    /// <param name="rows">Each run that took part; valid during the call.</param>
    void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows);

    /// <summary>After one run was scored.</summary>
    /// <param name="report">The scores.</param>
    void Evaluated(EvalReport report);

    /// <summary>After one run's last step.</summary>
    /// <param name="row">How it ended.</param>
    void RowEnded(RowFinished row);

    /// <summary>After the last step of all.</summary>
    /// <param name="report">How long it took.</param>
    void Finished(RunFinished report);
}

/// <summary>Tells several observers, in order.</summary>
public sealed class RunObservers : IRunObserver
{
    private readonly IRunObserver[] _observers;

    /// <summary>Takes the observers.</summary>
    /// <param name="observers">Told in this order; not owned.</param>
    public RunObservers(params ReadOnlySpan<IRunObserver> observers) => _observers = observers.ToArray();

    /// <inheritdoc/>
    public void Started(RunStart start)
    {
        foreach (IRunObserver observer in _observers)
            observer.Started(start);
    }

    /// <inheritdoc/>
    public void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows)
    {
        foreach (IRunObserver observer in _observers)
            observer.Stepped(report, rows);
    }

    /// <inheritdoc/>
    public void Evaluated(EvalReport report)
    {
        foreach (IRunObserver observer in _observers)
            observer.Evaluated(report);
    }

    /// <inheritdoc/>
    public void RowEnded(RowFinished row)
    {
        foreach (IRunObserver observer in _observers)
            observer.RowEnded(row);
    }

    /// <inheritdoc/>
    public void Finished(RunFinished report)
    {
        foreach (IRunObserver observer in _observers)
            observer.Finished(report);
    }
}
