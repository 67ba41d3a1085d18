// Which examples of which tasks make up a step of multi-task subspace finding: a pure function of seed and step. Deliberately no examples, only numbers.
using IptNative.Tasks.Sampling;

namespace IptNative.Tuning.Ipt;

/// <summary>Mixed batches over all training tasks.</summary>
internal sealed class MsfOrder
{
    private readonly BatchOrder _tasks;
    private readonly BatchOrder[] _examples;
    private readonly int[] _starts;
    private readonly bool _balanced;

    /// <param name="counts">Examples of each task.</param>
    /// <param name="seed">Of the order.</param>
    /// <param name="balanced">Every task equally often; otherwise every example.</param>
    public MsfOrder(IReadOnlyList<int> counts, int seed, bool balanced)
    {
        _balanced = balanced;
        _starts = new int[counts.Count + 1];
        for (int t = 0; t < counts.Count; t++)
            _starts[t + 1] = _starts[t] + counts[t];
        _tasks = Single(balanced ? counts.Count : _starts[^1], seed);
        // Different streams: tasks of one size must not be drawn in one order.
        _examples = balanced ? [.. counts.Select((n, t) => Single(n, unchecked(seed + (t + 1) * 7919)))] : [];
    }

    /// <summary>A place of the endless order.</summary>
    /// <param name="slot">0, 1, ...: step times batch size plus the place in the batch.</param>
    public (int Task, int Example) At(long slot)
    {
        int drawn = _tasks.AtStep(slot)[0];
        if (_balanced)
            return (drawn, _examples[drawn].AtStep(slot / (_starts.Length - 1))[0]);
        int task = Array.BinarySearch(_starts, drawn);
        // A task without examples cannot be: its successor begins at the same place.
        task = task >= 0 ? task : ~task - 1;
        return (task, drawn - _starts[task]);
    }

    private static BatchOrder Single(int count, int seed) => new(new int[count], 1, seed, bucketed: false);
}
