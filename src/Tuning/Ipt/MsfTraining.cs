// Multi-task subspace finding as a loop: mixed batches, the model's loss at the reconstructed prompts, selection by the mean dev score.
// Deliberately not: one step's arithmetic (MsfStep), where prompts come from, where the subspace is stored.
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Forward;
using IptNative.Optimizers;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;

namespace IptNative.Tuning.Ipt;

/// <summary>A training task of the subspace.</summary>
/// <param name="Name">Its name in the subspace's header.</param>
/// <param name="Prompt">Its trained prompt.</param>
/// <param name="Train">Its examples.</param>
/// <param name="Dev">What it is scored on; null where it is not.</param>
internal sealed record MsfTask(string Name, Prompt Prompt, EncodedExamples Train, EncodedExamples? Dev);

/// <summary>What a subspace's training came to; the subspace holds the best weights.</summary>
/// <param name="Steps">Steps that it trained.</param>
/// <param name="Stopped">Why it ended.</param>
/// <param name="BestStep">Step of the weights that were kept.</param>
/// <param name="Best">Their mean dev score; NaN without dev splits.</param>
/// <param name="Failure">What was not finite; null where everything was.</param>
internal sealed record MsfOutcome(long Steps, StopReason Stopped, long BestStep, double Best, string? Failure);

/// <summary>Trains one subspace in place.</summary>
internal sealed class MsfTraining : IDisposable
{
    private const string BestPrefix = "best.", OptimizerPrefix = "optimizer.";

    private readonly AutoencoderSubspace _subspace;
    private readonly IReadOnlyList<MsfTask> _tasks;
    private readonly MsfSection _options;
    private readonly PromptLoss _loss;
    private readonly Evaluator _evaluator;
    private readonly EvaluationOptions _evaluation;
    private readonly ComputeDevice _device;
    private readonly MsfStep _step;
    private readonly MsfOrder _order;
    private readonly DeviceBuffer _trained, _batch, _star, _gradient;
    private readonly PromptTable?[] _tables;
    private readonly float[] _scales;
    private readonly float[][] _best;
    private readonly int[] _rowOf;
    private long _done, _bestStep;
    private int _sinceBest;
    private double _bestScore = double.NaN;

    /// <summary>Takes memory.</summary>
    /// <param name="subspace">The start; trained in place.</param>
    /// <param name="tasks">At least two, each with its trained prompt.</param>
    /// <param name="options">The section; its optimizer is AdamW.</param>
    /// <param name="loss">Groups: one per task where tasks are balanced, otherwise one.</param>
    /// <param name="evaluator">The model.</param>
    /// <param name="evaluation">How answers are generated.</param>
    /// <param name="device">The model's device.</param>
    public MsfTraining(AutoencoderSubspace subspace, IReadOnlyList<MsfTask> tasks, MsfSection options, PromptLoss loss, Evaluator evaluator, EvaluationOptions evaluation, ComputeDevice device)
    {
        (_subspace, _tasks, _options, _loss, _evaluator, _evaluation, _device) = (subspace, tasks, options, loss, evaluator, evaluation, device);
        _step = new MsfStep(subspace, new MsfObjective { Distillation = options.LanguageModelLoss, Reconstruction = options.ReconstructionLoss, Alpha = options.Alpha }, options.Optimizer.AdamW);
        _order = new MsfOrder([.. tasks.Select(t => t.Train.Count)], options.Seed, options.BalanceTasks);
        long elements = (long)tasks.Count * subspace.PromptElements;
        (_trained, _batch) = (device.Allocate(DType.F32, elements, "trained prompts"), device.Allocate(DType.F32, elements, "a batch's prompts"));
        (_star, _gradient) = (device.Allocate(DType.F32, elements, "reconstructed prompts"), device.Allocate(DType.F32, elements, "gradients of prompts"));
        for (int t = 0; t < tasks.Count; t++)
            Row(_trained.Tensor, t).CopyFrom<float>(tasks[t].Prompt.Values);
        _tables = new PromptTable?[tasks.Count + 1];
        // One scale for all needs no array: the header has it.
        _scales = options.Standardise == StandardisationKind.Task ? [.. tasks.Select(t => subspace.Header.Standardisation.ScaleOf(t.Name))] : [];
        _best = [.. subspace.Tensors.Select(t => t.Value.ToArray<float>())];
        _rowOf = new int[tasks.Count];
    }

    /// <summary>How a step is cut, for whoever goes on: see <see cref="StepPlan.Remembered"/>.</summary>
    public string Remembered { get; init; } = "";

    /// <summary>How many groups the loss must have.</summary>
    public static int Groups(MsfSection options, int tasks) => options.BalanceTasks ? tasks : 1;

    /// <summary>Trains all steps; then the subspace holds the best weights.</summary>
    /// <param name="store">Keeps it, or null.</param>
    /// <param name="observer">Told as of one run.</param>
    /// <param name="cancel">Ends it between two steps, after a checkpoint.</param>
    public MsfOutcome Run(ITrainingStore? store, IRunObserver observer, CancellationToken cancel)
    {
        TrainingConfig training = _options.Training;
        if (store?.State is { } state)
            Restore(state);
        LearningRateSchedule schedule = _options.Optimizer.ToSchedule(training.Steps);
        observer.Started(new RunStart([RunRow(_options.Seed)], training.Steps, _done, $"mean of {_tasks.Count} tasks"));
        string? failure = null;
        StopReason reason = StopReason.Steps;
        while (_done < training.Steps && failure is null)
        {
            if (training.Patience > 0 && _sinceBest >= training.Patience)
            {
                reason = StopReason.Patience;
                break;
            }
            if (cancel.IsCancellationRequested)
            {
                store?.Save(State());
                throw new OperationCanceledException(cancel);
            }
            long begin = Stopwatch.GetTimestamp();
            double rate = schedule.At(_done), loss = Step(_done, rate, out double norm);
            if (!double.IsFinite(loss) || !double.IsFinite(norm))
            {
                failure = $"step {_done + 1} of subspace finding: the loss is {loss}, the gradient's norm {norm}, expected finite numbers. Lower the optimizer's learning_rate.";
                reason = StopReason.NonFinite;
                break;
            }
            _done++;
            observer.Stepped(new StepReport(_done, _loss.Tokens, Stopwatch.GetElapsedTime(begin).TotalSeconds), [new RowStep(0, loss, rate, norm)]);
            if (_done % training.EvalEvery == 0 || _done == training.Steps)
            {
                begin = Stopwatch.GetTimestamp();
                double score = Evaluate();
                bool best = Keep(score);
                _sinceBest = best ? 0 : _sinceBest + 1;
                observer.Evaluated(new EvalReport(0, _done, "dev", score, [], best, double.NaN, Stopwatch.GetElapsedTime(begin).TotalSeconds));
                store?.Save(State());
            }
        }
        for (int i = 0; i < _best.Length; i++)
            _subspace.Tensors[i].Value.CopyFrom<float>(_best[i]);
        observer.RowEnded(new RowFinished(0, _done, reason, _bestStep, _bestScore, failure));
        observer.Finished(new RunFinished(_done, 0));
        return new MsfOutcome(_done, reason, _bestStep, _bestScore, failure);
    }

    /// <summary>One step.</summary>
    /// <returns>The whole loss before the update.</returns>
    internal double Step(long number, double rate, out double norm)
    {
        int examples = _options.Training.BatchSize * _options.Training.GradientAccumulation;
        int rows = Gather(number, examples, out float[] shares, out float[] scales);
        Tensor batch = Rows(_batch.Tensor, rows), star = Rows(_star.Tensor, rows), gradient = Rows(_gradient.Tensor, rows);
        _step.Reconstruct(batch, rows, star, scales);
        double loss = 0;
        if (_step.NeedsModel)
        {
            _loss.Run(Table(rows), gradient);
            loss = _loss.Losses[0];
            if (_options.BalanceTasks)
            {
                // Each task's own mean, weighted by its share of the examples: a task with long answers must not drown the others.
                loss = 0;
                for (int r = 0; r < rows; r++)
                {
                    loss += shares[r] * _loss.Losses[r];
                    Elementwise.Scale(_device, Row(gradient, r), Row(gradient, r), _subspace.PromptElements, shares[r]);
                }
            }
        }
        loss += _step.Backward(_step.NeedsModel ? gradient : default, shares, scales);
        norm = double.IsFinite(loss) ? _step.Update(rate, _options.Optimizer.ClipNorm ?? double.PositiveInfinity) : double.NaN;
        return loss;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _step.Dispose();
        foreach (DeviceBuffer buffer in (DeviceBuffer[])[_trained, _batch, _star, _gradient])
            buffer.Dispose();
    }

    /// <summary>The step's examples into the loss, their tasks' prompts side by side.</summary>
    private int Gather(long number, int examples, out float[] shares, out float[] scales)
    {
        var slots = new (int Task, int Example)[examples];
        var counts = new int[_tasks.Count];
        for (int i = 0; i < examples; i++)
        {
            slots[i] = _order.At((number * examples) + i);
            counts[slots[i].Task]++;
        }
        int rows = 0;
        for (int t = 0; t < counts.Length; t++)
        {
            if (counts[t] > 0)
                _rowOf[t] = rows++;
        }
        (shares, scales) = (new float[rows], new float[_scales.Length > 0 ? rows : 0]);
        for (int t = 0; t < counts.Length; t++)
        {
            if (counts[t] == 0)
                continue;
            shares[_rowOf[t]] = (float)counts[t] / examples;
            if (scales.Length > 0)
                scales[_rowOf[t]] = _scales[t];
            Elementwise.Copy(_device, Row(_trained.Tensor, t), Row(_batch.Tensor, _rowOf[t]), _subspace.PromptElements);
        }
        _loss.Clear();
        foreach ((int task, int example) in slots)
            _loss.Add(_tasks[task].Train, example, _options.BalanceTasks ? _rowOf[task] : 0, _rowOf[task],
                AnswerDraw.Of(_options.Training.Answers, _tasks[task].Train.AnswerCount(example), _options.Seed, number, example));
        return rows;
    }

    private double Evaluate()
    {
        int[] scored = [.. Enumerable.Range(0, _tasks.Count).Where(t => _tasks[t].Dev is not null)];
        if (scored.Length == 0)
            return double.NaN;
        _step.Reconstruct(_trained.Tensor, _tasks.Count, _star.Tensor, _scales);
        EvaluationJob[] jobs = [.. scored.Select(t => new EvaluationJob(_tasks[t].Dev!, t))]; // the null ones are left out above
        // A metric without a value (a correlation of equal answers) says nothing for or against these weights.
        double[] scores = [.. _evaluator.Evaluate(jobs, Table(_tasks.Count), _evaluation).Select(r => r.Score).Where(double.IsFinite)];
        return scores.Length > 0 ? scores.Average() : double.NaN;
    }

    private bool Keep(double score)
    {
        if (score <= _bestScore || (double.IsNaN(score) && !double.IsNaN(_bestScore)))
            return false;
        (_bestScore, _bestStep) = (score, _done);
        for (int i = 0; i < _best.Length; i++)
            _subspace.Tensors[i].Value.CopyTo<float>(_best[i]);
        return true;
    }

    private TrainingState State()
    {
        var state = new TrainingState
        {
            Step = _done,
            Extra = new Dictionary<string, string> { [IptModel.PlanKey] = Remembered },
            Rows = [new RowState { Run = RunName, OptimizerSteps = _step.Optimizer.Steps, BestScore = _bestScore, BestStep = _bestStep, EvaluationsSinceBest = _sinceBest }],
        };
        for (int i = 0; i < _best.Length; i++)
        {
            (string name, TensorShape shape, Tensor value) = _subspace.Tensors[i];
            state.Add(name, shape, value.ToArray<float>());
            state.Add(BestPrefix + name, shape, _best[i]);
        }
        foreach (StateTensor tensor in _step.Optimizer.State)
            state.Add(OptimizerPrefix + tensor.Name, tensor.Shape, tensor.Value.ToArray<float>());
        return state;
    }

    private void Restore(TrainingState state)
    {
        for (int i = 0; i < _best.Length; i++)
        {
            (string name, TensorShape shape, Tensor value) = _subspace.Tensors[i];
            Read(name, shape, value);
            state.CopyTo(BestPrefix + name, shape, _best[i]);
        }
        foreach (StateTensor tensor in _step.Optimizer.State)
            Read(OptimizerPrefix + tensor.Name, tensor.Shape, tensor.Value);
        _step.Optimizer.Restore(state.Rows[0].OptimizerSteps);
        (_done, _bestScore, _bestStep, _sinceBest) = (state.Step, state.Rows[0].BestScore, state.Rows[0].BestStep, state.Rows[0].EvaluationsSinceBest);
        _subspace.Header = _subspace.Header with { Trained = true };

        void Read(string name, TensorShape shape, Tensor value)
        {
            float[] values = new float[shape.Elements];
            state.CopyTo(name, shape, values);
            value.CopyFrom<float>(values);
        }
    }

    /// <summary>The one run of a subspace's training, for its checkpoint.</summary>
    public static RunRow RunRow(int seed) => new(0, 0, "subspace", seed);

    private string RunName => RunRow(_options.Seed).Name;

    private PromptTable Table(int rows)
    {
        if (_tables[rows] is { } table)
            return table;
        int[] lengths = new int[rows];
        lengths.AsSpan().Fill(_subspace.Header.PromptLength);
        return _tables[rows] = new PromptTable(Rows(_star.Tensor, rows), _subspace.Header.DModel, lengths);
    }

    private Tensor Rows(Tensor table, int rows) => table.Slice(0, (long)rows * _subspace.PromptElements);

    private Tensor Row(Tensor table, int row) => table.Slice((long)row * _subspace.PromptElements, _subspace.PromptElements);
}
