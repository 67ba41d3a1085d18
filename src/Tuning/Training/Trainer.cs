// The training loop: runs side by side on one frozen model, each with its own loss, clipping, optimizer, schedule, best score and early stop.
// Deliberately not: what is tuned (ITunedPrompts), where it is kept (ITrainingStore), what is shown (IRunObserver).
using System.Diagnostics;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;

namespace IptNative.Tuning.Training;

/// <summary>One of the runs side by side.</summary>
/// <param name="Row">Its place and name.</param>
/// <param name="Train">What it learns from.</param>
/// <param name="Dev">What selects its best prompt; null keeps the last one.</param>
public sealed record TrainingRow(RunRow Row, EncodedExamples Train, EncodedExamples? Dev);

/// <summary>The loop's options.</summary>
public sealed record TrainerOptions
{
    /// <summary>Steps, batches, evaluations.</summary>
    public TrainingConfig Training { get; init; } = new();

    /// <summary>The optimizer of every run.</summary>
    public OptimizerConfig Optimizer { get; init; } = new();

    /// <summary>What is minimised; label smoothing and z-loss are the gradient pass's.</summary>
    public LossReduction Reduction { get; init; } = LossReduction.Mean;

    /// <summary>How answers are generated for the score.</summary>
    public EvaluationOptions Evaluation { get; init; } = new();

    /// <summary>How much is computed at once.</summary>
    public MicroBatchLimit Limit { get; init; } = new(int.MaxValue, 8192);
}

/// <summary>Where a training is kept, so that it survives its process.</summary>
public interface ITrainingStore
{
    /// <summary>What to go on from; null to start.</summary>
    TrainingState? State { get; }

    /// <summary>Keeps everything, whole or not at all.</summary>
    /// <param name="state">The training between two steps.</param>
    void Save(TrainingState state);

    /// <summary>Keeps a run's best prompt so far.</summary>
    /// <param name="run">The run.</param>
    /// <param name="prompt">Its prompt.</param>
    void SaveBest(int run, Prompt prompt);
}

/// <summary>What one run came to.</summary>
/// <param name="Steps">Steps that it trained.</param>
/// <param name="Stopped">Why it ended.</param>
/// <param name="Detail">What was not finite; null otherwise.</param>
/// <param name="BestStep">Step of the parameters that were kept.</param>
/// <param name="Best">Their score on the development split; NaN without one.</param>
/// <param name="BestScores">Each metric of it.</param>
public sealed record TrainingOutcome(long Steps, StopReason Stopped, string? Detail, long BestStep, double Best, IReadOnlyList<MetricScore> BestScores);

/// <summary>Trains runs side by side.</summary>
public sealed class Trainer : IDisposable
{
    private readonly ITunedPrompts _tuned;
    private readonly PromptLoss _loss;
    private readonly Evaluator _evaluator;
    private readonly TrainerOptions _options;
    private readonly IRunObserver _observer;
    private readonly ITrainingStore? _store;
    private readonly RunProgress[] _runs;
    private readonly RowStep[] _reports;
    private long _step;
    private double _secondsBefore;
    private long _begun;

    /// <summary>Prepares the runs, and goes on where the store has something.</summary>
    /// <param name="device">The model's device.</param>
    /// <param name="tuned">What is tuned, one prompt a run; stays the caller's.</param>
    /// <param name="rows">The runs, in the order of the prompts.</param>
    /// <param name="loss">Computes the steps.</param>
    /// <param name="evaluator">Scores on the development split.</param>
    /// <param name="options">The options.</param>
    /// <param name="observer">Told what happens.</param>
    /// <param name="store">Where checkpoints go; null keeps none.</param>
    /// <exception cref="ArgumentException">The number of runs differs from that of the prompts.</exception>
    /// <exception cref="InvalidDataException">The store's state is of another training.</exception>
    public Trainer(ComputeDevice device, ITunedPrompts tuned, IReadOnlyList<TrainingRow> rows, PromptLoss loss, Evaluator evaluator, TrainerOptions options, IRunObserver observer, ITrainingStore? store)
    {
        ArgumentNullException.ThrowIfNull(tuned);
        ArgumentNullException.ThrowIfNull(rows);
        ArgumentNullException.ThrowIfNull(options);
        if (rows.Count != tuned.Table.Count)
            throw new ArgumentException($"Trainer: found {rows.Count} runs and {tuned.Table.Count} prompts, expected one prompt a run.", nameof(rows));
        (_tuned, _loss, _evaluator, _options, _observer, _store) = (tuned, loss, evaluator, options, observer, store);
        _runs = [.. rows.Select((row, i) => new RunProgress(device, row, [.. tuned.Parameters(i)], options))];
        _reports = new RowStep[rows.Count];
        if (store?.State is { } state)
            Restore(state);
    }

    /// <summary>Steps done.</summary>
    public long Step => _step;

    /// <summary>Wall time of the training, earlier processes included.</summary>
    public double Seconds => _secondsBefore + (_begun == 0 ? 0 : Stopwatch.GetElapsedTime(_begun).TotalSeconds);

    /// <summary>Trains until every run has ended. Then <see cref="ITunedPrompts"/> holds each run's best parameters.</summary>
    /// <param name="cancel">Ends the training between two steps, after a checkpoint.</param>
    /// <returns>One outcome per run.</returns>
    /// <exception cref="OperationCanceledException"><paramref name="cancel"/> was set.</exception>
    /// <exception cref="IOException">The store cannot write.</exception>
    public IReadOnlyList<TrainingOutcome> Run(CancellationToken cancel)
    {
        TrainingConfig training = _options.Training;
        _begun = Stopwatch.GetTimestamp();
        IReadOnlyList<string> metrics = _runs.FirstOrDefault(r => r.Row.Dev is not null)?.Row.Dev!.Metrics ?? [];
        _observer.Started(new RunStart([.. _runs.Select(r => r.Row.Row)], training.Steps, _step, metrics.Count == 1 ? metrics[0] : metrics.Count == 0 ? "none" : $"mean of {metrics.Count}"));
        while (_step < training.Steps && _runs.Any(r => r.Stopped is null))
        {
            if (cancel.IsCancellationRequested)
            {
                Save();
                throw new OperationCanceledException(cancel);
            }
            OneStep();
            bool evaluated = _step % training.EvalEvery == 0 || _step == training.Steps;
            if (evaluated)
                Evaluate();
            if (training.CheckpointEvery == 0 ? evaluated : _step % training.CheckpointEvery == 0)
                Save();
        }
        foreach (RunProgress run in _runs)
        {
            if (run.Stopped is null)
                End(run, StopReason.Steps, null);
        }
        Save();
        foreach (RunProgress run in _runs)
            run.TakeBest();
        _tuned.MakePrompts();
        _observer.Finished(new RunFinished(_step, Seconds));
        return [.. _runs.Select(r => new TrainingOutcome(r.StoppedAt, r.Stopped!.Value, r.Detail, r.BestStep, r.BestScore, r.BestScores))]; // Every run has ended.
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (RunProgress run in _runs)
            run.Dispose();
    }

    private void OneStep()
    {
        long begin = Stopwatch.GetTimestamp();
        int batches = _options.Training.GradientAccumulation;
        _loss.Clear();
        for (int i = 0; i < _runs.Length; i++)
        {
            if (_runs[i].Stopped is not null)
                continue;
            for (int a = 0; a < batches; a++)
            {
                IReadOnlyList<int> batch = _runs[i].Order.AtStep(_step * batches + a);
                for (int e = 0; e < batch.Count; e++)
                    _loss.Add(_runs[i].Row.Train, batch[e], i, i);
            }
        }
        _tuned.MakePrompts();
        _loss.Run(_tuned.Table, _tuned.Gradients);
        _tuned.TakeGradients();
        int reports = 0;
        for (int i = 0; i < _runs.Length; i++)
        {
            RunProgress run = _runs[i];
            if (run.Stopped is not null)
                continue;
            double loss = _loss.Losses[i], norm = run.Clip();
            if (!double.IsFinite(loss) || !double.IsFinite(norm))
            {
                string what = double.IsFinite(loss) ? $"the gradient's norm is {norm}" : $"the loss is {loss}";
                string where = _loss.FindNonFinite(i, _tuned.Table) ?? "not found when computed again alone";
                End(run, StopReason.NonFinite, $"step {_step + 1}, batch of {run.Row.Train.Task}: {what}; first not finite: {where}. Lower optimizer.learning_rate, or look at this example.");
                continue;
            }
            double rate = run.Schedule.At(_step);
            run.Optimizer.Step(rate);
            _reports[reports++] = new RowStep(i, loss, rate, norm, run.Rms());
        }
        _step++;
        _observer.Stepped(new StepReport(_step, _loss.Tokens, Stopwatch.GetElapsedTime(begin).TotalSeconds), _reports.AsSpan(0, reports));
    }

    // Not cancelled in the middle: a checkpoint belongs between a step's evaluation and the next step.
    private void Evaluate()
    {
        RunProgress[] scored = [.. _runs.Where(r => r.Stopped is null && r.Row.Dev is not null)];
        if (scored.Length == 0)
            return;
        long begin = Stopwatch.GetTimestamp();
        _tuned.MakePrompts();
        IReadOnlyList<EvaluationResult> results = _evaluator.Evaluate([.. scored.Select(r => new EvaluationJob(r.Row.Dev!, r.Row.Row.Index))], _tuned.Table, _options.Evaluation);
        double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds / scored.Length;
        for (int i = 0; i < scored.Length; i++)
        {
            RunProgress run = scored[i];
            EvaluationResult result = results[i];
            MetricScore[] scores = [.. result.Scores.Select(s => new MetricScore(s.Key, s.Value))];
            bool best = run.Scored(_step, result.Score, scores);
            if (best)
                _store?.SaveBest(run.Row.Row.Index, PromptOf(run.Row.Row.Index));
            _observer.Evaluated(new EvalReport(run.Row.Row.Index, _step, "dev", result.Score, scores, best, double.NaN, seconds));
            if (_options.Training.Patience > 0 && run.EvaluationsSinceBest >= _options.Training.Patience)
                End(run, StopReason.Patience, null);
        }
    }

    private void End(RunProgress run, StopReason reason, string? detail)
    {
        run.End(reason, _step, detail);
        if (run.Row.Dev is null && reason == StopReason.Steps)
        {
            run.Scored(_step, double.NaN, []);
            _tuned.MakePrompts();
            _store?.SaveBest(run.Row.Row.Index, PromptOf(run.Row.Row.Index));
        }
        _observer.RowEnded(new RowFinished(run.Row.Row.Index, run.StoppedAt, reason, run.BestStep, run.BestScore, detail));
    }

    private Prompt PromptOf(int run)
    {
        int rows = _tuned.Table.Length(run), d = _tuned.Table.DModel;
        return new Prompt(_tuned.Table.Values.Slice((long)_tuned.Table.First(run) * d, (long)rows * d).ToArray<float>(), rows, d);
    }

    private void Save()
    {
        if (_store is null)
            return;
        var state = new TrainingState { Step = _step, Seconds = Seconds, Rows = [.. _runs.Select(r => r.State())] };
        foreach (RunProgress run in _runs)
            run.AddTo(state);
        _store.Save(state);
    }

    private void Restore(TrainingState state)
    {
        (_step, _secondsBefore) = (state.Step, state.Seconds);
        for (int i = 0; i < _runs.Length; i++)
            _runs[i].Restore(state, state.Rows[i]);
        _tuned.MakePrompts();
    }
}
