// L-BFGS on the full few-shot batch, one evaluation a turn. Deliberately not stochastic: the batch must stay the same from turn to turn. The line search is
// in LBfgs.LineSearch.cs.
namespace IptNative.Optimizers;

/// <summary>Settings of <see cref="LBfgs"/>.</summary>
public sealed record LBfgsOptions
{
    /// <summary>Pairs of steps and gradient changes that are kept, 1 or more.</summary>
    public int Memory { get; init; } = 10;

    /// <summary>Sufficient decrease: loss &lt;= start + this * step * slope; 0 to below <see cref="Curvature"/>.</summary>
    public double Decrease { get; init; } = 1e-4;

    /// <summary>Strong curvature: |slope| &lt;= this * |slope at the start|; below 1.</summary>
    public double Curvature { get; init; } = 0.9;

    /// <summary>Length of the very first step, 0 excluded: later steps know the scale.</summary>
    public double FirstStep { get; init; } = 1;

    /// <summary>It has converged where the largest |gradient| is at most this.</summary>
    public double GradientTolerance { get; init; } = 1e-7;

    /// <summary>It has converged where a whole line search lowered the loss by at most this part of it; 0 for exact functions.</summary>
    public double LossTolerance { get; init; } = 1e-9;

    /// <summary>What the loss is off by, relative: decreases below it are not told from rises. 1e-6 for a loss that a model sums in float.</summary>
    public double LossNoise { get; init; }

    /// <summary>Evaluations of one line search, 2 or more.</summary>
    public int MaxLineSearch { get; init; } = 25;

    /// <summary>Evaluations in all, 1 or more.</summary>
    public long MaxEvaluations { get; init; } = 1000;

    internal void Validate()
    {
        Require(Memory >= 1, nameof(Memory), Memory, "1 or more");
        Require(Curvature is > 0 and < 1, nameof(Curvature), Curvature, "above 0 and below 1");
        Require(Decrease >= 0 && Decrease < Curvature, nameof(Decrease), Decrease, $"0 to below {nameof(Curvature)} = {Curvature}");
        Require(FirstStep > 0 && double.IsFinite(FirstStep), nameof(FirstStep), FirstStep, "above 0");
        Require(GradientTolerance >= 0, nameof(GradientTolerance), GradientTolerance, "0 or more");
        Require(LossTolerance >= 0, nameof(LossTolerance), LossTolerance, "0 or more");
        Require(LossNoise >= 0 && double.IsFinite(LossNoise), nameof(LossNoise), LossNoise, "0 or more");
        Require(MaxLineSearch >= 2, nameof(MaxLineSearch), MaxLineSearch, "2 or more");
    }

    private static void Require(bool good, string name, double found, string expected)
    {
        if (!good)
            throw new ArgumentException($"LBfgsOptions: {name} is {found}, expected {expected}.");
    }
}

/// <summary>Limited-memory BFGS with a line search for the strong Wolfe conditions.</summary>
/// <remarks>
/// Source: Nocedal and Wright 2006, Numerical Optimization, algorithms 7.4 (two loops), 7.5, 3.5 and 3.6. The search is written as one straight procedure that
/// yields where it needs an evaluation.
/// </remarks>
public sealed partial class LBfgs : SearchOptimizer
{
    private readonly LBfgsOptions _options;
    private readonly double[] _x, _gradient, _direction, _trial, _trialGradient;
    private readonly Queue<(double[] Step, double[] Change, double Rho)> _pairs = new();
    private readonly IEnumerator<bool> _procedure;
    private double _loss, _trialLoss;

    /// <summary>Begins a search.</summary>
    /// <param name="start">Finite; copied.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting or the start makes no sense.</exception>
    public LBfgs(ReadOnlySpan<double> start, LBfgsOptions? options = null)
        : base(start, (options ??= new LBfgsOptions()).MaxEvaluations)
    {
        options.Validate();
        _options = options;
        _x = start.ToArray();
        _trial = start.ToArray();
        (_gradient, _direction, _trialGradient) = (new double[Dimension], new double[Dimension], new double[Dimension]);
        _procedure = Minimise().GetEnumerator();
        _procedure.MoveNext();
    }

    /// <inheritdoc/>
    public override bool NeedsGradient => true;

    /// <summary>Line searches done.</summary>
    public int Iterations { get; private set; }

    private protected override int PendingPoints => 1;

    private protected override ReadOnlySpan<double> PointAt(int index) => _trial;

    private protected override void Continue(ReadOnlySpan<double> losses, ReadOnlySpan<double> gradients)
    {
        _trialLoss = losses[0];
        gradients.CopyTo(_trialGradient);
        _procedure.MoveNext();
    }

    // Each yield asks for _trial; its answer is in _trialLoss and _trialGradient when the next line runs.
    private IEnumerable<bool> Minimise()
    {
        yield return true;
        if (double.IsInfinity(_trialLoss))
        {
            End(SearchStatus.Failed, "evaluation 1: the loss at the start is infinite, expected a finite number");
            yield break;
        }
        Accept();
        while (true)
        {
            if (Largest(_gradient) <= _options.GradientTolerance)
            {
                End(SearchStatus.Converged, $"the largest gradient is {Largest(_gradient):g3}, at most {_options.GradientTolerance:g3}");
                yield break;
            }
            Direction();
            double slope = Dot(_gradient, _direction);
            if (!(slope < 0))
            {
                // Rounding in the pairs: begin anew with the gradient.
                _pairs.Clear();
                Direction();
                slope = Dot(_gradient, _direction);
            }
            bool first = _pairs.Count == 0;
            double length = first ? Math.Min(1, 1 / _gradient.Sum(Math.Abs)) * _options.FirstStep : 1;
            double before = _loss;
            double[] from = [.. _x], old = [.. _gradient];
            foreach (bool ask in LineSearch(from, before, slope, length))
                yield return ask;
            Iterations++;
            if (!_found)
            {
                if (first)
                {
                    End(SearchStatus.Converged, $"no step along the gradient lowers the loss of {_loss:g9}");
                    yield break;
                }
                _pairs.Clear();
                continue;
            }
            Accept();
            Remember(from, old);
            if (before - _loss <= _options.LossTolerance * Math.Max(Math.Abs(before), Math.Abs(_loss)))
            {
                End(SearchStatus.Converged, $"a line search lowered the loss of {before:g9} by {before - _loss:g3} only");
                yield break;
            }
        }
    }

    private void Accept()
    {
        _trial.CopyTo(_x, 0);
        _trialGradient.CopyTo(_gradient, 0);
        _loss = _trialLoss;
    }

    private void Remember(double[] from, double[] old)
    {
        double[] step = new double[Dimension], change = new double[Dimension];
        for (int i = 0; i < Dimension; i++)
            (step[i], change[i]) = (_x[i] - from[i], _gradient[i] - old[i]);
        double curvature = Dot(step, change);
        // The Wolfe conditions make it positive, save for rounding and noise; such a pair would spoil the matrix.
        if (!(curvature > 1e-12 * Dot(change, change)))
            return;
        if (_pairs.Count == _options.Memory)
            _pairs.Dequeue();
        _pairs.Enqueue((step, change, 1 / curvature));
    }

    // -H g by the two loops.
    private void Direction()
    {
        for (int i = 0; i < Dimension; i++)
            _direction[i] = -_gradient[i];
        (double[] Step, double[] Change, double Rho)[] pairs = [.. _pairs];
        double[] alpha = new double[pairs.Length];
        for (int k = pairs.Length - 1; k >= 0; k--)
        {
            alpha[k] = pairs[k].Rho * Dot(pairs[k].Step, _direction);
            Add(_direction, pairs[k].Change, -alpha[k]);
        }
        if (pairs.Length > 0)
        {
            (double[] step, double[] change, _) = pairs[^1];
            double gamma = Dot(step, change) / Dot(change, change);
            for (int i = 0; i < Dimension; i++)
                _direction[i] *= gamma;
        }
        for (int k = 0; k < pairs.Length; k++)
            Add(_direction, pairs[k].Step, alpha[k] - pairs[k].Rho * Dot(pairs[k].Change, _direction));
    }

    private static double Dot(double[] a, double[] b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++)
            sum += a[i] * b[i];
        return sum;
    }

    private static void Add(double[] y, double[] x, double factor)
    {
        for (int i = 0; i < y.Length; i++)
            y[i] += factor * x[i];
    }

    private static double Largest(double[] x) => x.Max(Math.Abs);
}
