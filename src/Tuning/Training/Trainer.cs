// The training loop: runs side by side on one frozen model, each with its own loss, clipping, optimizer, schedule, best score and early stop.
// Deliberately not: what is tuned (ITunedPrompts), where it is kept (ITrainingStore), what is shown (IRunObserver).
using System.Diagnostics;
using System.Globalization;
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

    /// <summary>What else a process that goes on must know; kept in every checkpoint.</summary>
    public IReadOnlyDictionary<string, string> Remembered { get; init; } = new Dictionary<string, string>();
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

    // An evaluation that was interrupted: the checkpoint lies behind the step and before its score.
    private const string EvaluationDue = "evaluation_due";
    private bool _evaluationDue;

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
    /// <param name="cancel">Ends the training within a micro-batch or a generated token, with a checkpoint that loses no finished step.</param>
    /// <returns>One outcome per run.</returns>
    /// <exception cref="OperationCanceledException"><paramref name="cancel"/> was set.</exception>
    /// <exception cref="InsufficientMemoryException">No room for a longer batch than any before; the store has every finished step.</exception>
    /// <exception cref="IOException">The store cannot write.</exception>
    public IReadOnlyList<TrainingOutcome> Run(CancellationToken cancel)
    {
        TrainingConfig training = _options.Training;
        _begun = Stopwatch.GetTimestamp();
        _observer.Started(new RunStart([.. _runs.Select(r => r.Row.Row)], training.Steps, _step, NameOfScore()));
        while (_evaluationDue || (_step < training.Steps && AnyTrains()))
        {
            bool evaluated;
            try
            {
                cancel.ThrowIfCancellationRequested();
                if (!_evaluationDue)
                    OneStep(cancel);
                evaluated = _evaluationDue = _evaluationDue || _step % training.EvalEvery == 0 || _step == training.Steps;
                if (evaluated)
                    Evaluate(cancel);
                _evaluationDue = false;
            }
            catch (OperationCanceledException) when (cancel.IsCancellationRequested)
            {
                // A step that was cut short has changed nothing, an evaluation neither.
                Save();
                throw;
            }
            catch (InsufficientMemoryException e)
            {
                // Memory is taken before anything is changed.
                Save();
                throw new InsufficientMemoryException($"after step {_step}: {e.Message}{(_store is null ? "" : " Nothing is lost: the same command with --resume goes on from here, with smaller settings too.")}", e);
            }
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

    private string NameOfScore()
    {
        string[] names = [.. _runs.Select(r => r.Row.Dev?.Metrics).OfType<IReadOnlyList<string>>().Select(m => m.Count == 1 ? m[0] : $"mean of {m.Count}").Distinct(StringComparer.Ordinal)];
        return names.Length switch
        {
            0 => "none",
            1 => names[0],
            _ => "score",
        };
    }

    private bool AnyTrains()
    {
        foreach (RunProgress run in _runs)
        {
            if (run.Stopped is null)
                return true;
        }
        return false;
    }

    private void OneStep(CancellationToken cancel)
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
                    _loss.Add(_runs[i].Row.Train, batch[e], i, i, AnswerDraw.Of(_options.Training.Answers, _runs[i].Row.Train.AnswerCount(batch[e]), _runs[i].Row.Row.Seed, _step * batches + a, batch[e]));
            }
        }
        _tuned.MakePrompts();
        _loss.Run(_tuned.Table, _tuned.Gradients, cancel);
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
                EndNonFinite(run, $"step {_step + 1}, batch of {run.Row.Train.Task}: {what}");
                continue;
            }
            double rate = run.Schedule.At(_step);
            run.Optimizer.Step(rate);
            double rms = run.Rms();
            _reports[reports++] = new RowStep(i, loss, rate, norm, rms);
            // Now rather than at the next step's loss: an evaluation may come first.
            if (!double.IsFinite(rms))
                End(run, StopReason.NonFinite, string.Create(CultureInfo.InvariantCulture, $"step {_step + 1}, update of {run.Row.Row.Name}: its numbers' root mean square is {rms} after a step at rate {rate}, gradient norm {norm}. Lower optimizer.learning_rate."), _step + 1);
        }
        _step++;
        _observer.Stepped(new StepReport(_step, _loss.Tokens, Stopwatch.GetElapsedTime(begin).TotalSeconds), _reports.AsSpan(0, reports));
    }

    // All runs or none: a cancelled evaluation leaves no trace.
    private void Evaluate(CancellationToken cancel)
    {
        RunProgress[] scored = [.. _runs.Where(r => r.Stopped is null && r.Row.Dev is not null)];
        if (scored.Length == 0)
            return;
        long begin = Stopwatch.GetTimestamp();
        _tuned.MakePrompts();
        IReadOnlyList<EvaluationResult> results;
        try
        {
            results = _evaluator.Evaluate([.. scored.Select(r => new EvaluationJob(r.Row.Dev!, r.Row.Row.Index))], _tuned.Table, _options.Evaluation, cancel: cancel);
        }
        catch (InvalidDataException) when (EndThoseNotFinite(scored, cancel))
        {
            // One run's logits have ended the evaluation of all: the others go on without it.
            Evaluate(cancel);
            return;
        }
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

    // Runs whose loss on their development examples is not finite; false where there are none.
    private bool EndThoseNotFinite(RunProgress[] runs, CancellationToken cancel)
    {
        _loss.Clear();
        foreach (RunProgress run in runs)
        {
            for (int e = 0; e < run.Row.Dev!.Count; e++) // Only runs with a development split are scored.
                _loss.Add(run.Row.Dev, e, run.Row.Row.Index, run.Row.Row.Index);
        }
        _loss.Run(_tuned.Table, default, cancel);
        bool any = false;
        foreach (RunProgress run in runs)
        {
            double loss = _loss.Losses[run.Row.Row.Index];
            if (double.IsFinite(loss))
                continue;
            any = true;
            EndNonFinite(run, $"evaluation after step {_step}, development examples of {run.Row.Train.Task}: the loss is {loss}");
        }
        return any;
    }

    // The loss still holds the examples that it computed last.
    private void EndNonFinite(RunProgress run, string what)
    {
        string where = _loss.FindNonFinite(run.Row.Row.Index, _tuned.Table) ?? "not found when computed again alone";
        End(run, StopReason.NonFinite, $"{what}; first not finite: {where}. Lower optimizer.learning_rate, or look at this example.");
    }

    private void End(RunProgress run, StopReason reason, string? detail) => End(run, reason, detail, _step);

    private void End(RunProgress run, StopReason reason, string? detail, long step)
    {
        run.End(reason, step, detail);
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
        var extra = new Dictionary<string, string>(_options.Remembered);
        if (_evaluationDue)
            extra.Add(EvaluationDue, "true");
        var state = new TrainingState { Step = _step, Seconds = Seconds, Rows = [.. _runs.Select(r => r.State())], Extra = extra };
        foreach (RunProgress run in _runs)
            run.AddTo(state);
        _store.Save(state);
    }

    private void Restore(TrainingState state)
    {
        (_step, _secondsBefore, _evaluationDue) = (state.Step, state.Seconds, state.Extra.ContainsKey(EvaluationDue));
        for (int i = 0; i < _runs.Length; i++)
            _runs[i].Restore(state, state.Rows[i]);
        _tuned.MakePrompts();
    }
}
