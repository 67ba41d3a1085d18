// Which examples make up which batch. Deliberately not the batches themselves: padding and prompts are tensors.
namespace IptNative.Tasks.Sampling;

/// <summary>
/// Length-bucketed batches: random, but of examples of similar length, so that little is padded. A pure function of (seed, epoch, index), so that
/// a resumed run goes on with the very batches it would have had.
/// </summary>
public sealed class BatchOrder
{
    // Examples are sorted within pools of this many batches: large enough to match lengths, small enough to mix the epoch.
    private const int BatchesPerPool = 16;

    private readonly int[] _lengths;
    private readonly int _batchSize;
    private readonly uint _seed;
    private readonly bool _bucketed;
    private int _cachedEpoch = -1;
    private int[][] _cached = [];

    /// <summary>Prepares the order.</summary>
    /// <param name="lengths">Length of each example, in tokens.</param>
    /// <param name="batchSize">Examples per batch; the last batch of an epoch may be shorter.</param>
    /// <param name="seed">Seed.</param>
    /// <param name="bucketed">False for plain shuffling.</param>
    /// <exception cref="ArgumentException">There are no examples, or the batch size is below 1.</exception>
    public BatchOrder(ReadOnlySpan<int> lengths, int batchSize, int seed, bool bucketed = true)
    {
        if (lengths.IsEmpty) throw new ArgumentException("Batch order: 0 examples; expected at least 1.", nameof(lengths));
        if (batchSize < 1) throw new ArgumentException($"Batch order: batch size {batchSize}; expected at least 1.", nameof(batchSize));
        _lengths = lengths.ToArray();
        _batchSize = batchSize;
        _seed = (uint)seed;
        _bucketed = bucketed;
    }

    /// <summary>Batches in an epoch.</summary>
    public int BatchesPerEpoch => (_lengths.Length - 1) / _batchSize + 1;

    /// <summary>The batch of a step: step 0 is the first batch of epoch 0, and epochs follow each other.</summary>
    /// <param name="step">Number of batches before it.</param>
    /// <returns>Example numbers; not to be changed.</returns>
    public IReadOnlyList<int> AtStep(long step) => Batch(checked((int)(step / BatchesPerEpoch)), (int)(step % BatchesPerEpoch));

    /// <summary>One batch.</summary>
    /// <param name="epoch">Epoch from 0.</param>
    /// <param name="index">Batch within it from 0.</param>
    /// <returns>Example numbers; not to be changed.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such batch.</exception>
    public IReadOnlyList<int> Batch(int epoch, int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(epoch);
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, BatchesPerEpoch);
        if (epoch != _cachedEpoch) (_cached, _cachedEpoch) = (MakeEpoch(epoch), epoch);
        return _cached[index];
    }

    private int[][] MakeEpoch(int epoch)
    {
        var random = new NumpyLegacyRandom(_seed, (uint)epoch);
        int[] order = [.. Enumerable.Range(0, _lengths.Length)];
        random.Shuffle<int>(order);
        if (!_bucketed) return [.. order.Chunk(_batchSize)];
        // Cut within pools: only the last batch of the last pool is short. OrderBy is stable, so equal lengths keep the shuffled order.
        int[][] batches = [.. order.Chunk(_batchSize * BatchesPerPool).SelectMany(pool => pool.OrderBy(i => _lengths[i]).Chunk(_batchSize))];
        random.Shuffle<int[]>(batches);
        return batches;
    }
}
