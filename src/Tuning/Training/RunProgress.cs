// One run among the runs side by side: its optimizer, its order of examples, its best parameters. The loop over runs: Trainer.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Optimizers;
using IptNative.Tasks.Sampling;
using IptNative.Tuning.Runs;

namespace IptNative.Tuning.Training;

internal sealed class RunProgress : IDisposable
{
    private readonly ComputeDevice _device;
    private readonly Parameter[] _parameters;
    private readonly float[][] _best;
    private readonly double _clipNorm;

    public RunProgress(ComputeDevice device, TrainingRow row, Parameter[] parameters, TrainerOptions options)
    {
        (_device, Row, _parameters) = (device, row, parameters);
        _best = [.. parameters.Select(p => p.Value.ToArray<float>())];
        _clipNorm = options.Optimizer.ClipNorm ?? double.PositiveInfinity;
        Order = new BatchOrder(row.Train.InputLengths(), options.Training.BatchSize, row.Row.Seed, options.Training.LengthBuckets);
        Schedule = options.Optimizer.ToSchedule(options.Training.Steps);
        Optimizer = options.Optimizer.Name == OptimizerKind.Adafactor
            ? new Adafactor(device, parameters, options.Optimizer.Adafactor)
            : new AdamW(device, parameters, options.Optimizer.AdamW);
    }

    public TrainingRow Row { get; }

    public BatchOrder Order { get; }

    public LearningRateSchedule Schedule { get; }

    public Optimizer Optimizer { get; }

    public StopReason? Stopped { get; private set; }

    public long StoppedAt { get; private set; }

    public string? Detail { get; private set; }

    public double BestScore { get; private set; } = double.NaN;

    public long BestStep { get; private set; }

    public IReadOnlyList<MetricScore> BestScores { get; private set; } = [];

    public int EvaluationsSinceBest { get; private set; }

    /// <summary>The gradient's norm before clipping.</summary>
    public double Clip() => GradientClipping.Clip(_device, _parameters, _clipNorm);

    /// <summary>Root mean square of all parameters together.</summary>
    public double Rms()
    {
        double sum = 0;
        long elements = 0;
        foreach (ref readonly Parameter parameter in _parameters.AsSpan())
        {
            sum += Reductions.Dot(_device, parameter.Value, parameter.Value, parameter.Value.Elements);
            elements += parameter.Value.Elements;
        }
        return Math.Sqrt(sum / elements);
    }

    /// <summary>Takes a score; keeps the parameters where it is the best so far. NaN (no development split) always is.</summary>
    public bool Scored(long step, double score, IReadOnlyList<MetricScore> scores)
    {
        if (score <= BestScore || (double.IsNaN(score) && !double.IsNaN(BestScore)))
        {
            EvaluationsSinceBest++;
            return false;
        }
        (BestScore, BestStep, BestScores, EvaluationsSinceBest) = (score, step, scores, 0);
        for (int i = 0; i < _parameters.Length; i++)
            _parameters[i].Value.CopyTo<float>(_best[i]);
        return true;
    }

    public void End(StopReason reason, long step, string? detail) => (Stopped, StoppedAt, Detail) = (reason, step, detail);

    /// <summary>Puts the best parameters back.</summary>
    public void TakeBest()
    {
        for (int i = 0; i < _parameters.Length; i++)
            _parameters[i].Value.CopyFrom<float>(_best[i]);
    }

    public RowState State() => new()
    {
        Run = Row.Row.Name,
        OptimizerSteps = Optimizer.Steps,
        BestScore = BestScore,
        BestStep = BestStep,
        BestScores = BestScores,
        EvaluationsSinceBest = EvaluationsSinceBest,
        Stopped = Stopped,
        StoppedAt = StoppedAt,
        StopDetail = Detail,
    };

    public void AddTo(TrainingState state)
    {
        for (int i = 0; i < _parameters.Length; i++)
        {
            state.Add(Named(_parameters[i].Name), _parameters[i].Shape, _parameters[i].Value.ToArray<float>());
            state.Add(Named($"best.{_parameters[i].Name}"), _parameters[i].Shape, _best[i]);
        }
        foreach (StateTensor tensor in Optimizer.State)
            state.Add(Named($"optimizer.{tensor.Name}"), tensor.Shape, tensor.Value.ToArray<float>());
    }

    public void Restore(TrainingState state, RowState row)
    {
        for (int i = 0; i < _parameters.Length; i++)
        {
            float[] values = new float[_best[i].Length];
            state.CopyTo(Named(_parameters[i].Name), _parameters[i].Shape, values);
            _parameters[i].Value.CopyFrom<float>(values);
            state.CopyTo(Named($"best.{_parameters[i].Name}"), _parameters[i].Shape, _best[i]);
        }
        foreach (StateTensor tensor in Optimizer.State)
        {
            float[] values = new float[tensor.Shape.Elements];
            state.CopyTo(Named($"optimizer.{tensor.Name}"), tensor.Shape, values);
            tensor.Value.CopyFrom<float>(values);
        }
        Optimizer.Restore(row.OptimizerSteps);
        (BestScore, BestStep, BestScores, EvaluationsSinceBest) = (row.BestScore, row.BestStep, row.BestScores, row.EvaluationsSinceBest);
        (Stopped, StoppedAt, Detail) = (row.Stopped, row.StoppedAt, row.StopDetail);
    }

    public void Dispose() => Optimizer.Dispose();

    private string Named(string tensor) => $"{Row.Row.Name}.{tensor}";
}
