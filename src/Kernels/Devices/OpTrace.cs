// What `profile` knows of a step: which op ran, on what dimensions, from when to when. Off it costs an op one null check; on, it writes into memory taken
// before. Deliberately no statistics, no files, and no bytes or operations counted: src/Tuning/Benchmarks does that afterwards.
using System.Diagnostics;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Devices;

/// <summary>One op, or a region of several, as it was recorded.</summary>
/// <param name="Name">Class and method of the op: RmsNorm.Forward. A region's own name.</param>
/// <param name="D0">Dimensions in the order of the op's shape; a product's are M, N, K and batches.</param>
/// <param name="D1">The next one; 0 where there are fewer.</param>
/// <param name="D2">The next one.</param>
/// <param name="D3">The next one.</param>
/// <param name="Detail">A product: bits of an element of B, negative where it adds to C. Else 0.</param>
/// <param name="Depth">0 for the outermost.</param>
/// <param name="IsRegion">True for a region: its time is that of the ops inside.</param>
/// <param name="Begin"><see cref="Stopwatch"/> ticks.</param>
/// <param name="End">The same; 0 while it runs.</param>
public readonly record struct OpEvent(string Name, long D0, long D1, long D2, long D3, int Detail, int Depth, bool IsRegion, long Begin, long End);

/// <summary>Memory for the ops of one thread; <see cref="OpTrace.Start"/> makes it listen.</summary>
/// <param name="device">
/// Whose ops are recorded. One that works behind the caller's back is asked for marks in its work, and times are those of its own clock; without them it is
/// waited for at the end of each op.
/// </param>
/// <param name="capacity">Most events between two calls of <see cref="Clear"/>.</param>
public sealed class OpRecorder(ComputeDevice device, int capacity = 1 << 16) : IDisposable
{
    private readonly OpEvent[] _events = new OpEvent[capacity];
    private readonly int _thread = Environment.CurrentManagedThreadId;
    private readonly DeviceTimeline? _timeline = device.CreateTimeline();
    private readonly bool _waits = device is not CpuDevice;
    private long _origin;
    private bool _areMarks;
    private int _depth;

    /// <summary>Events held.</summary>
    public int Count { get; private set; }

    /// <summary>Events for which there was no room: what is held is not everything.</summary>
    public int Dropped { get; private set; }

    /// <summary>What was recorded, in order of beginning; waits for a device that is behind.</summary>
    public ReadOnlySpan<OpEvent> Events
    {
        get
        {
            if (_areMarks)
                TakeTimes();
            return _events.AsSpan(0, Count);
        }
    }

    /// <summary>Forgets what was recorded.</summary>
    public void Clear()
    {
        (Count, Dropped) = (0, 0);
        _timeline?.Restart();
        _origin = Stopwatch.GetTimestamp();
        _areMarks = _timeline is not null;
    }

    /// <inheritdoc/>
    public void Dispose() => _timeline?.Dispose();

    internal bool Listens => Environment.CurrentManagedThreadId == _thread;

    // -1 where there is no room; the depth is kept right all the same.
    internal int Begin(string name, long d0, long d1, long d2, long d3, int detail, bool isRegion)
    {
        int index = Count < _events.Length ? Count++ : -1;
        if (index < 0)
            Dropped++;
        else
            _events[index] = new OpEvent(name, d0, d1, d2, d3, detail, _depth, isRegion, _areMarks ? _timeline!.Mark() : Stopwatch.GetTimestamp(), 0);
        _depth++;
        return index;
    }

    internal void Finish(int index)
    {
        _depth--;
        if (index < 0)
            return;
        if (_waits && !_areMarks)
            device.Synchronize();
        _events[index] = _events[index] with { End = _areMarks ? _timeline!.Mark() : Stopwatch.GetTimestamp() }; // marks only with a timeline
    }

    // Numbers of marks become the times at which the device reached them, counted on from the host's time of the beginning.
    private void TakeTimes()
    {
        foreach (ref OpEvent e in _events.AsSpan(0, Count))
            e = e with { Begin = TicksAt(e.Begin), End = TicksAt(e.End) };
        _areMarks = false;
    }

    private long TicksAt(long mark) => _origin + (long)(_timeline!.SecondsAt((int)mark) * Stopwatch.Frequency); // as above
}

/// <summary>Ends an event when it is left.</summary>
public readonly ref struct OpScope
{
    private readonly OpRecorder? _recorder;
    private readonly int _index;

    internal OpScope(OpRecorder recorder, int index)
    {
        _recorder = recorder;
        _index = index;
    }

    /// <summary>Notes the end.</summary>
    public void Dispose() => _recorder?.Finish(_index);
}

/// <summary>Where ops report to.</summary>
public static class OpTrace
{
    private static OpRecorder? s_recorder;

    /// <summary>Makes a recorder listen to the ops that this thread, which made it, calls. One at a time.</summary>
    /// <param name="recorder">Gets the events.</param>
    /// <exception cref="InvalidOperationException">Another one listens, or it was made by another thread.</exception>
    public static void Start(OpRecorder recorder)
    {
        ArgumentNullException.ThrowIfNull(recorder);
        if (!recorder.Listens)
            throw new InvalidOperationException("OpTrace.Start: the recorder was made by another thread, expected this one, whose ops it records.");
        if (Interlocked.CompareExchange(ref s_recorder, recorder, null) is not null)
            throw new InvalidOperationException("OpTrace.Start: another recorder listens. Stop it first.");
    }

    /// <summary>Ends the listening; nothing happens where nobody listens.</summary>
    public static void Stop() => s_recorder = null;

    /// <summary>A region around ops, for the timeline.</summary>
    /// <param name="name">A string that exists already: nothing may be allocated for it.</param>
    /// <returns>Dispose it at the end.</returns>
    public static OpScope Region(string name) => s_recorder is { } recorder ? Record(recorder, name, 0, 0, 0, 0, 0, isRegion: true) : default;

    /// <summary>An op that is not one of ours, such as a pass in ONNX Runtime.</summary>
    /// <param name="name">As for <see cref="Region"/>.</param>
    /// <param name="d0">A dimension; 0 where there are fewer.</param>
    /// <param name="d1">The next one.</param>
    /// <param name="d2">The next one.</param>
    /// <returns>Dispose it at the end.</returns>
    public static OpScope Enter(string name, long d0, long d1 = 0, long d2 = 0) => s_recorder is { } recorder ? Record(recorder, name, d0, d1, d2, 0, 0, isRegion: false) : default;

    internal static OpScope Enter(in GemmArgs args) => s_recorder is { } recorder
        ? Record(recorder, args.TransA ? "Gemm A^T B" : args.TransB ? "Gemm A B^T" : "Gemm A B", args.M, args.N, args.K, args.Batches, args.Accumulate ? -args.B.DType.Bits() : args.B.DType.Bits(), isRegion: false)
        : default;

    // Queries and keys of all examples, the width of all heads, and the pairs of a query and a key that it sees.
    internal static OpScope Enter(string op, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets, long width, bool causal)
    {
        if (s_recorder is not { } recorder)
            return default;
        long pairs = 0;
        for (int b = 0; b + 1 < queryOffsets.Length; b++)
        {
            long queries = queryOffsets[b + 1] - queryOffsets[b], keys = keyOffsets[b + 1] - keyOffsets[b];
            pairs += causal ? queries * (queries + 1) / 2 : queries * keys;
        }
        return Record(recorder, op, queryOffsets[^1], keyOffsets[^1], width, pairs, 0, isRegion: false);
    }

    // An op that another thread runs belongs to somebody else's work.
    private static OpScope Record(OpRecorder recorder, string name, long d0, long d1, long d2, long d3, int detail, bool isRegion) =>
        recorder.Listens ? new OpScope(recorder, recorder.Begin(name, d0, d1, d2, d3, detail, isRegion)) : default;
}
