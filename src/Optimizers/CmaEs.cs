// CMA-ES: gradient-free, its population evaluated as one batch. Deliberately the plain strategy with Hansen's defaults; restarts are in SearchRestarts.cs.
using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Double;
using MathNet.Numerics.LinearAlgebra.Factorization;

namespace IptNative.Optimizers;

/// <summary>Settings of <see cref="CmaEs"/>.</summary>
public sealed record CmaEsOptions
{
    /// <summary>Standard deviation of the first population about the start; above 0.</summary>
    public double Sigma { get; init; } = 1;

    /// <summary>Members of a population, 2 or more; 0 takes 4 + floor(3 ln n).</summary>
    public int Population { get; init; }

    /// <summary>Of the random numbers.</summary>
    public long Seed { get; init; }

    /// <summary>It has converged where the losses of a population and of the last generations' best lie within this.</summary>
    public double LossTolerance { get; init; } = 1e-12;

    /// <summary>It has converged where every coordinate's step is below this times <see cref="Sigma"/>.</summary>
    public double StepTolerance { get; init; } = 1e-12;

    /// <summary>Evaluations in all, 1 or more.</summary>
    public long MaxEvaluations { get; init; } = 8000;

    internal void Validate()
    {
        if (!(Sigma > 0 && double.IsFinite(Sigma)))
            throw new ArgumentException($"CmaEsOptions: {nameof(Sigma)} is {Sigma}, expected a finite number above 0.");
        if (Population is not 0 and < 2)
            throw new ArgumentException($"CmaEsOptions: {nameof(Population)} is {Population}, expected 2 or more, or 0 for the default.");
        if (!(LossTolerance >= 0) || !(StepTolerance >= 0))
            throw new ArgumentException($"CmaEsOptions: the tolerances are {LossTolerance} and {StepTolerance}, expected 0 or more.");
    }
}

/// <summary>Covariance matrix adaptation evolution strategy.</summary>
/// <remarks>Source: Hansen 2016, The CMA Evolution Strategy: A Tutorial, algorithm C.1 and table 1, with positive weights only (c_mu and c_1 as there).</remarks>
public sealed class CmaEs : SearchOptimizer
{
    private readonly CmaEsOptions _options;
    private readonly SeededRandom _random;
    private readonly double[] _weights, _mean, _pathSigma, _pathC;
    private readonly double[][] _points, _steps;
    private readonly Queue<double> _history = new();
    private readonly double _muEff, _cSigma, _dSigma, _cC, _c1, _cMu, _chiN;
    private readonly int _decomposeEvery;
    private Matrix<double> _covariance, _axes;
    private Vector<double> _lengths;
    private int _sinceDecomposition;

    /// <summary>Begins a search and draws the first population.</summary>
    /// <param name="start">The first mean; finite; copied.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting or the start makes no sense.</exception>
    public CmaEs(ReadOnlySpan<double> start, CmaEsOptions? options = null)
        : base(start, (options ??= new CmaEsOptions()).MaxEvaluations)
    {
        options.Validate();
        _options = options;
        _random = new SeededRandom(options.Seed);
        int n = Dimension, lambda = options.Population == 0 ? 4 + (int)(3 * Math.Log(n)) : options.Population, mu = lambda / 2;
        _weights = [.. Enumerable.Range(1, mu).Select(i => Math.Log((lambda + 1) / 2.0) - Math.Log(i))];
        double sum = _weights.Sum();
        for (int i = 0; i < mu; i++)
            _weights[i] /= sum;
        _muEff = 1 / _weights.Sum(w => w * w);
        _cSigma = (_muEff + 2) / (n + _muEff + 5);
        _dSigma = 1 + 2 * Math.Max(0, Math.Sqrt((_muEff - 1) / (n + 1)) - 1) + _cSigma;
        _cC = (4 + _muEff / n) / (n + 4 + 2 * _muEff / n);
        _c1 = 2 / ((n + 1.3) * (n + 1.3) + _muEff);
        _cMu = Math.Min(1 - _c1, 2 * (0.25 + _muEff + 1 / _muEff - 2) / ((n + 2.0) * (n + 2) + _muEff));
        _chiN = Math.Sqrt(n) * (1 - 1 / (4.0 * n) + 1 / (21.0 * n * n));
        // Hansen's laziness: the matrix moves little in as many generations, and the decomposition then costs O(n^2) a point.
        _decomposeEvery = Math.Max(1, (int)(1 / (10 * n * (_c1 + _cMu))));
        (_mean, _pathSigma, _pathC) = (start.ToArray(), new double[n], new double[n]);
        (_points, _steps) = (new double[lambda][], new double[lambda][]);
        Sigma = options.Sigma;
        _covariance = DenseMatrix.CreateIdentity(n);
        _axes = DenseMatrix.CreateIdentity(n);
        _lengths = DenseVector.Create(n, 1);
        Draw();
    }

    /// <inheritdoc/>
    public override bool NeedsGradient => false;

    /// <summary>The overall step size.</summary>
    public double Sigma { get; private set; }

    /// <summary>Generations done.</summary>
    public int Generations { get; private set; }

    /// <summary>The distribution's mean: under noise a better guess than the best point.</summary>
    public ReadOnlySpan<double> Mean => _mean;

    private protected override int PendingPoints => _points.Length;

    private protected override ReadOnlySpan<double> PointAt(int index) => _points[index];

    private protected override void Continue(ReadOnlySpan<double> losses, ReadOnlySpan<double> gradients)
    {
        int n = Dimension, mu = _weights.Length;
        double[] sorted = losses.ToArray();
        int[] order = [.. Enumerable.Range(0, sorted.Length)];
        // Ties keep their order, so that the same answers give the same search.
        Array.Sort(order, (a, b) => sorted[a].CompareTo(sorted[b]) is not 0 and var c ? c : a.CompareTo(b));
        if (double.IsInfinity(sorted[order[0]]) && Generations == 0)
        {
            End(SearchStatus.Failed, "every point of the first population has an infinite loss; begin elsewhere or with a smaller sigma");
            return;
        }
        var step = new double[n];
        for (int i = 0; i < mu; i++)
        {
            for (int k = 0; k < n; k++)
                step[k] += _weights[i] * _steps[order[i]][k];
        }
        for (int k = 0; k < n; k++)
            _mean[k] += Sigma * step[k];
        Generations++;

        double[] white = Whiten(step);
        double keep = Math.Sqrt(_cSigma * (2 - _cSigma) * _muEff), norm = 0;
        for (int k = 0; k < n; k++)
        {
            _pathSigma[k] = (1 - _cSigma) * _pathSigma[k] + keep * white[k];
            norm += _pathSigma[k] * _pathSigma[k];
        }
        norm = Math.Sqrt(norm);
        bool calm = norm / Math.Sqrt(1 - Math.Pow(1 - _cSigma, 2 * Generations)) < (1.4 + 2.0 / (n + 1)) * _chiN;
        double push = calm ? Math.Sqrt(_cC * (2 - _cC) * _muEff) : 0;
        for (int k = 0; k < n; k++)
            _pathC[k] = (1 - _cC) * _pathC[k] + push * step[k];
        double decay = 1 - _c1 - _cMu + (calm ? 0 : _c1 * _cC * (2 - _cC));
        for (int r = 0; r < n; r++)
        {
            for (int c = 0; c <= r; c++)
            {
                double rank = 0;
                for (int i = 0; i < mu; i++)
                    rank += _weights[i] * _steps[order[i]][r] * _steps[order[i]][c];
                double value = decay * _covariance[r, c] + _c1 * _pathC[r] * _pathC[c] + _cMu * rank;
                _covariance[r, c] = value;
                _covariance[c, r] = value;
            }
        }
        Sigma *= Math.Exp(Math.Min(1, _cSigma / _dSigma * (norm / _chiN - 1)));
        if (++_sinceDecomposition >= _decomposeEvery)
            Decompose();
        if (HasConverged(sorted[order[0]], sorted[order[^1]]) is { } reason)
            End(SearchStatus.Converged, reason);
        else if (!double.IsFinite(Sigma) || Sigma == 0)
            End(SearchStatus.Failed, $"generation {Generations}: the step size became {Sigma}");
        else
            Draw();
    }

    private string? HasConverged(double best, double worst)
    {
        int generations = 10 + (int)Math.Ceiling(30.0 * Dimension / _points.Length);
        _history.Enqueue(best);
        if (_history.Count > generations)
            _history.Dequeue();
        double spread = Math.Max(worst, _history.Max()) - Math.Min(best, _history.Min());
        if (_history.Count == generations && spread <= _options.LossTolerance)
            return $"the losses of {generations} generations lie within {spread:g3}";
        double longest = 0;
        for (int k = 0; k < Dimension; k++)
            longest = Math.Max(longest, Sigma * Math.Max(Math.Abs(_pathC[k]), Math.Sqrt(_covariance[k, k])));
        return longest < _options.StepTolerance * _options.Sigma ? $"the largest step is {longest:g3}" : null;
    }

    private void Draw()
    {
        int n = Dimension;
        for (int i = 0; i < _points.Length; i++)
        {
            var scaled = new double[n];
            for (int k = 0; k < n; k++)
                scaled[k] = _lengths[k] * _random.NextNormal();
            double[] step = new double[n], point = new double[n];
            for (int r = 0; r < n; r++)
            {
                for (int k = 0; k < n; k++)
                    step[r] += _axes[r, k] * scaled[k];
                point[r] = _mean[r] + Sigma * step[r];
            }
            (_steps[i], _points[i]) = (step, point);
        }
    }

    // C^(-1/2) step.
    private double[] Whiten(double[] step)
    {
        int n = Dimension;
        double[] along = new double[n], white = new double[n];
        for (int k = 0; k < n; k++)
        {
            for (int r = 0; r < n; r++)
                along[k] += _axes[r, k] * step[r];
            along[k] /= _lengths[k];
        }
        for (int r = 0; r < n; r++)
        {
            for (int k = 0; k < n; k++)
                white[r] += _axes[r, k] * along[k];
        }
        return white;
    }

    private void Decompose()
    {
        _sinceDecomposition = 0;
        Evd<double> evd = _covariance.Evd(Symmetricity.Symmetric);
        double largest = evd.EigenValues.Max(v => v.Real);
        _axes = evd.EigenVectors;
        // Rounding may leave an eigenvalue at or below 0: a condition of 10^14 is as flat as doubles tell.
        _lengths = DenseVector.Create(Dimension, k => Math.Sqrt(Math.Max(evd.EigenValues[k].Real, 1e-14 * largest)));
    }
}
