// Several searches one after another under one budget, from other starts. Deliberately not in parallel: searches side by side are several of these.
namespace IptNative.Optimizers;

/// <summary>Begins anew where a search has ended, and keeps the best of all.</summary>
/// <remarks>With CMA-ES and a population that the factory doubles it is IPOP-CMA-ES (Auger and Hansen 2005).</remarks>
public sealed class SearchRestarts : SearchOptimizer
{
    private readonly Func<int, SearchOptimizer> _create;
    private readonly int _restarts;
    private readonly List<(double Loss, SearchStatus Status, string Reason)> _ended = [];
    private SearchOptimizer _current;

    /// <summary>Begins the first search.</summary>
    /// <param name="create">Makes search number 0, 1, ...; all of one dimension.</param>
    /// <param name="searches">How many at most, 1 or more.</param>
    /// <param name="maxEvaluations">Of all together, 1 or more.</param>
    /// <exception cref="ArgumentException">A number makes no sense.</exception>
    public SearchRestarts(Func<int, SearchOptimizer> create, int searches, long maxEvaluations)
        : this(create, create?.Invoke(0) ?? throw new ArgumentNullException(nameof(create)), searches, maxEvaluations)
    {
    }

    private SearchRestarts(Func<int, SearchOptimizer> create, SearchOptimizer first, int searches, long maxEvaluations)
        : base(first.Best, maxEvaluations)
    {
        if (searches < 1)
            throw new ArgumentException($"SearchRestarts: found {searches} searches, expected 1 or more.", nameof(searches));
        (_create, _current, _restarts) = (create, first, searches);
    }

    /// <inheritdoc/>
    public override bool NeedsGradient => _current.NeedsGradient;

    /// <summary>How each search that has ended did.</summary>
    public IReadOnlyList<(double Loss, SearchStatus Status, string Reason)> Ended => _ended;

    private protected override int PendingPoints => _current.Pending;

    private protected override ReadOnlySpan<double> PointAt(int index) => _current.Candidate(index);

    private protected override void Continue(ReadOnlySpan<double> losses, ReadOnlySpan<double> gradients)
    {
        _current.Tell(losses, gradients);
        if (_current.Status == SearchStatus.Running)
            return;
        _ended.Add((_current.BestLoss, _current.Status, _current.Reason));
        if (_ended.Count == _restarts)
        {
            End(_current.Status == SearchStatus.BudgetSpent ? SearchStatus.BudgetSpent : SearchStatus.Converged, $"{_ended.Count} searches are done; the last: {_current.Reason}");
            return;
        }
        _current = _create(_ended.Count);
        if (_current.Dimension != Dimension)
            throw new InvalidOperationException($"SearchRestarts: search {_ended.Count} has {_current.Dimension} numbers, the first has {Dimension}; expected one dimension.");
    }
}
