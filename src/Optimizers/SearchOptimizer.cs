// Optimizers of a few numbers that are asked where to look and told what was found there, so that many runs' evaluations go through the model as one batch.
// Deliberately not: evaluation, and the step-wise optimizers of large tensors (Optimizer).
namespace IptNative.Optimizers;

/// <summary>Where a search stands.</summary>
public enum SearchStatus
{
    /// <summary>It wants more evaluations.</summary>
    Running,

    /// <summary>It found no way to improve by more than its tolerance.</summary>
    Converged,

    /// <summary>Its evaluations are used up.</summary>
    BudgetSpent,

    /// <summary>An evaluation was not a number; <see cref="SearchOptimizer.Best"/> is from before.</summary>
    Failed,
}

/// <summary>Minimises a function of 1 to some hundred numbers.</summary>
/// <remarks>
/// The turn: read <see cref="Pending"/> points by <see cref="Candidate"/>, evaluate them, <see cref="Tell"/>. Deterministic: the same seed and the same answers give the
/// same questions, bit for bit. An infinite loss is a bad place; NaN, or a gradient that is not finite at a finite loss, ends this search and no other.
/// </remarks>
public abstract class SearchOptimizer
{
    private readonly double[] _best;
    private readonly long _maxEvaluations;

    private protected SearchOptimizer(ReadOnlySpan<double> start, long maxEvaluations)
    {
        if (start.IsEmpty)
            throw new ArgumentException($"{GetType().Name}: found no number to start from, expected 1 or more.", nameof(start));
        foreach (double x in start)
        {
            if (!double.IsFinite(x))
                throw new ArgumentException($"{GetType().Name}: found {x} in the point to start from, expected finite numbers.", nameof(start));
        }
        if (maxEvaluations < 1)
            throw new ArgumentException($"{GetType().Name}: found a budget of {maxEvaluations} evaluations, expected 1 or more.", nameof(maxEvaluations));
        (_best, _maxEvaluations) = (start.ToArray(), maxEvaluations);
    }

    /// <summary>Numbers of a point.</summary>
    public int Dimension => _best.Length;

    /// <summary>True where <see cref="Tell"/> wants gradients.</summary>
    public abstract bool NeedsGradient { get; }

    /// <summary>Points to evaluate now; 0 unless running.</summary>
    public int Pending => Status == SearchStatus.Running ? PendingPoints : 0;

    /// <summary>Evaluations done.</summary>
    public long Evaluations { get; private protected set; }

    /// <summary>Where it stands.</summary>
    public SearchStatus Status { get; private set; } = SearchStatus.Running;

    /// <summary>Why it ended, in words; empty while it runs.</summary>
    public string Reason { get; private set; } = "";

    /// <summary>The best point evaluated; the start before the first answer.</summary>
    public ReadOnlySpan<double> Best => _best;

    /// <summary>The loss at <see cref="Best"/>; +infinity before the first answer.</summary>
    public double BestLoss { get; private set; } = double.PositiveInfinity;

    private protected abstract int PendingPoints { get; }

    /// <summary>A point to evaluate.</summary>
    /// <param name="index">0 to <see cref="Pending"/> - 1.</param>
    /// <returns>[Dimension]; valid until <see cref="Tell"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException">No such point.</exception>
    public ReadOnlySpan<double> Candidate(int index) => index >= 0 && index < Pending ? PointAt(index)
        : throw new ArgumentOutOfRangeException(nameof(index), $"{GetType().Name}.Candidate: found {index}, expected 0 to {Pending - 1}.");

    /// <summary>What was found.</summary>
    /// <param name="losses">[Pending].</param>
    /// <param name="gradients">[Pending, Dimension] row-major; empty where none is needed.</param>
    /// <exception cref="ArgumentException">Another number of losses or gradients.</exception>
    /// <exception cref="InvalidOperationException">The search has ended.</exception>
    public void Tell(ReadOnlySpan<double> losses, ReadOnlySpan<double> gradients)
    {
        if (Status != SearchStatus.Running)
            throw new InvalidOperationException($"{GetType().Name}.Tell: the search has ended ({Status}: {Reason}). Read its best point.");
        int pending = PendingPoints;
        if (losses.Length != pending)
            throw new ArgumentException($"{GetType().Name}.Tell: found {losses.Length} losses, expected {pending}.", nameof(losses));
        if (gradients.Length != (NeedsGradient ? pending * Dimension : 0))
            throw new ArgumentException($"{GetType().Name}.Tell: found {gradients.Length} numbers of gradients, expected {(NeedsGradient ? pending * Dimension : 0)}.", nameof(gradients));
        Evaluations += pending;
        for (int i = 0; i < pending; i++)
        {
            if (!(losses[i] < BestLoss))
                continue;
            BestLoss = losses[i];
            PointAt(i).CopyTo(_best);
        }
        for (int i = 0; i < pending; i++)
        {
            if (double.IsNaN(losses[i]) || double.IsNegativeInfinity(losses[i]))
            {
                End(SearchStatus.Failed, $"evaluation {Evaluations - pending + i + 1}: the loss is {losses[i]}, expected a number");
                return;
            }
        }
        for (int i = 0; i < gradients.Length; i++)
        {
            if (!double.IsFinite(gradients[i]) && double.IsFinite(losses[i / Dimension]))
            {
                End(SearchStatus.Failed, $"evaluation {Evaluations - pending + i / Dimension + 1}: the gradient has {gradients[i]} at {i % Dimension}, expected finite numbers");
                return;
            }
        }
        Continue(losses, gradients);
        if (Status == SearchStatus.Running && Evaluations + PendingPoints > _maxEvaluations)
            End(SearchStatus.BudgetSpent, $"{Evaluations} of {_maxEvaluations} evaluations are done, {PendingPoints} more are wanted");
    }

    private protected abstract ReadOnlySpan<double> PointAt(int index);

    private protected abstract void Continue(ReadOnlySpan<double> losses, ReadOnlySpan<double> gradients);

    private protected void End(SearchStatus status, string reason) => (Status, Reason) = (status, reason);
}

/// <summary>Evaluates points for several searches at once.</summary>
/// <param name="points">[rows, dimension] row-major, f32: what the model takes.</param>
/// <param name="rows">Number of points.</param>
/// <param name="owners">[rows]: which search each point is for; its task and data follow from it.</param>
/// <param name="losses">[rows], to be overwritten.</param>
/// <param name="gradients">[rows, dimension], to be overwritten where a search needs gradients; else left alone.</param>
public delegate void SearchEvaluation(ReadOnlySpan<float> points, int rows, ReadOnlySpan<int> owners, Span<double> losses, Span<double> gradients);

/// <summary>Searches side by side: one batch of evaluations a turn.</summary>
public static class SearchBatch
{
    /// <summary>One turn of every search that runs.</summary>
    /// <param name="searches">All of one dimension.</param>
    /// <param name="evaluate">The model.</param>
    /// <returns>Points evaluated; 0 when all have ended.</returns>
    /// <exception cref="ArgumentException">The dimensions differ.</exception>
    public static int Turn(IReadOnlyList<SearchOptimizer> searches, SearchEvaluation evaluate)
    {
        ArgumentNullException.ThrowIfNull(searches);
        ArgumentNullException.ThrowIfNull(evaluate);
        int rows = searches.Sum(s => s.Pending);
        if (rows == 0)
            return 0;
        int d = searches[0].Dimension;
        float[] points = new float[rows * d];
        int[] owners = new int[rows];
        int at = 0;
        bool gradient = false;
        for (int s = 0; s < searches.Count; s++)
        {
            if (searches[s].Dimension != d)
                throw new ArgumentException($"searches side by side: search {s} has {searches[s].Dimension} numbers, search 0 has {d}; expected one dimension.", nameof(searches));
            gradient |= searches[s].NeedsGradient && searches[s].Pending > 0;
            for (int i = 0; i < searches[s].Pending; i++, at++)
            {
                owners[at] = s;
                ReadOnlySpan<double> candidate = searches[s].Candidate(i);
                for (int k = 0; k < d; k++)
                    points[at * d + k] = (float)candidate[k];
            }
        }
        double[] losses = new double[rows], gradients = gradient ? new double[rows * d] : [];
        evaluate(points, rows, owners, losses, gradients);
        at = 0;
        foreach (SearchOptimizer search in searches)
        {
            int pending = search.Pending;
            if (pending > 0)
                search.Tell(losses.AsSpan(at, pending), search.NeedsGradient ? gradients.AsSpan(at * d, pending * d) : []);
            at += pending;
        }
        return rows;
    }

    /// <summary>Turns until every search has ended.</summary>
    /// <param name="searches">All of one dimension.</param>
    /// <param name="evaluate">The model.</param>
    /// <param name="cancellation">Looked at between turns.</param>
    /// <returns>Points evaluated.</returns>
    /// <exception cref="OperationCanceledException">Cancelled; the searches can go on.</exception>
    public static long Run(IReadOnlyList<SearchOptimizer> searches, SearchEvaluation evaluate, CancellationToken cancellation = default)
    {
        long total = 0;
        for (int rows; (rows = Turn(searches, evaluate)) > 0; total += rows)
            cancellation.ThrowIfCancellationRequested();
        return total;
    }
}
