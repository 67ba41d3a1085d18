// Which text joins which lane, and when. Deliberately not: generating (Lane), HTTP, files, tokenizing.
using System.Diagnostics;
using IptNative.Kernels.Devices;
using IptNative.Model.Blocks;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;

namespace IptNative.Server.Scheduling;

/// <summary>What a lane does next.</summary>
/// <param name="Joining">Jobs that join it now; may be none.</param>
/// <param name="Threads">How many threads its step may use.</param>
/// <param name="Stays">Whether its thread keeps to a core of its own.</param>
internal readonly record struct Turn(List<CompletionJob> Joining, int Threads, bool Stays);

/// <summary>Nothing can be computed any more; the message says what happened.</summary>
internal sealed class ServerFailedException(string message, Exception cause) : Exception(message, cause);

/// <summary>Continuous batching across prompts, first come, first served.</summary>
/// <remarks>
/// A model whose packed copy is small is stepped by several lanes at once, one per core: a step of few rows is microseconds long, and handing each of its
/// products over to another core costs as much as the product. A lane that is alone uses all cores. Large models have one lane: its cores share each product.
/// A text waits for room only: all lanes together have a most of texts and of positions. What comes first is never overtaken, so a long text cannot starve; the
/// lane with the fewest texts takes it between two of its steps.
/// </remarks>
internal sealed class Scheduler : IDisposable
{
    // All lanes' copies of the decoder's matrices together.
    private const long MostCopiedBytes = 128L << 20;

    // Beyond this the last-level cache is what lanes compete for.
    private const int MostLanes = 8;

    private readonly ServerOptions _options;
    private readonly ServerMetrics _metrics;
    private readonly object _lock = new();
    private readonly Queue<CompletionJob> _waiting = new();
    private readonly Lane[] _lanes;
    private readonly List<CpuDevice> _devices = [];
    private readonly PackedWeights _packed = new();
    private readonly TaskCompletionSource<Exception> _failed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _waitingTexts;
    private bool _stop;

    /// <summary>Starts the lanes.</summary>
    /// <param name="checkpoint">The model; outlives this object.</param>
    /// <param name="options">Limits, and how many threads compute.</param>
    /// <param name="metrics">Told of steps.</param>
    /// <param name="device">A GPU, which has one lane and outlives this object; null: the CPU.</param>
    /// <exception cref="InsufficientMemoryException">The device has no room for the weights.</exception>
    public Scheduler(Checkpoint checkpoint, ServerOptions options, ServerMetrics metrics, ComputeDevice? device)
    {
        (_options, _metrics) = (options, metrics);
        if (device is not null)
        {
            _lanes = [new Lane(this, 0, checkpoint, device, _packed, metrics)];
        }
        else
        {
            int threads = options.Threads == 0 ? Environment.ProcessorCount : options.Threads;
            long copy = options.Compute == ComputeType.F32 ? FrozenT5.StepCopyBytes(checkpoint.Config) : 0;
            int lanes = copy == 0 ? 1 : (int)Math.Clamp(MostCopiedBytes / copy, 1, Math.Min(threads, MostLanes));
            _lanes = new Lane[lanes];
            // The first lane is the one that is alone when one client is: it has every core.
            for (int i = 0; i < lanes; i++)
            {
                _devices.Add(new CpuDevice(Math.Max(1, threads / (i + 1)), options.Compute));
                _lanes[i] = new Lane(this, i, checkpoint, _devices[i], _packed, metrics);
            }
        }
        foreach (Lane lane in _lanes)
            lane.Start();
    }

    /// <summary>Done when nothing can be computed any more, with the reason.</summary>
    public Task<Exception> Failed => _failed.Task;

    /// <summary>Texts that wait.</summary>
    public int Waiting => Volatile.Read(ref _waitingTexts);

    /// <summary>Texts in all lanes.</summary>
    public int Running => _lanes.Sum(lane => lane.Texts);

    /// <summary>Puts all jobs of a call into the queue, or none.</summary>
    /// <param name="jobs">The jobs.</param>
    /// <returns>False where the queue has no room for them.</returns>
    public bool TryQueue(IReadOnlyList<CompletionJob> jobs)
    {
        int texts = jobs.Sum(j => j.Texts);
        long now = Stopwatch.GetTimestamp();
        lock (_lock)
        {
            if (_stop || _waitingTexts + texts > Math.Max(_options.MaxQueue, texts) || (_waitingTexts > 0 && _waitingTexts + texts > _options.MaxQueue))
                return false;
            foreach (CompletionJob job in jobs)
            {
                job.QueuedAt = now;
                job.FirstToken = queuedAt => _metrics.FirstToken(Stopwatch.GetElapsedTime(queuedAt));
                _waiting.Enqueue(job);
            }
            _waitingTexts += texts;
            CallNext();
        }
        return true;
    }

    /// <summary>A client has left: what it had in the queue makes room there at once. What runs for it leaves its lane at the next step.</summary>
    public void DropUnwanted()
    {
        lock (_lock)
        {
            if (_waiting.All(j => j.IsWanted))
                return;
            CompletionJob[] wanted = [.. _waiting.Where(j => j.IsWanted)];
            _waiting.Clear();
            foreach (CompletionJob job in wanted)
                _waiting.Enqueue(job);
            _waitingTexts = wanted.Sum(j => j.Texts);
            CallNext();
        }
    }

    /// <summary>What a lane does next; waits while there is nothing.</summary>
    /// <param name="lane">Asks between two of its steps.</param>
    /// <returns>Its next step; null to end.</returns>
    public Turn? Take(Lane lane)
    {
        var joining = new List<CompletionJob>();
        while (true)
        {
            lock (_lock)
            {
                if (_stop)
                    return null;
                lane.CountRunning();
                // Its share of all there is: a crowd that comes at once is spread, and joins in one pass of the encoder a lane.
                int share = (_lanes.Sum(l => l.Texts) + _waitingTexts + _lanes.Length - 1) / _lanes.Length;
                while (lane.Texts < share && _waiting.TryPeek(out CompletionJob? next) && Fits(next))
                {
                    _waiting.Dequeue();
                    _waitingTexts -= next.Texts;
                    if (!next.IsWanted)
                        continue;
                    lane.Count(next);
                    joining.Add(next);
                }
                CallNext();
                if (lane.Texts > 0)
                {
                    int active = _lanes.Count(l => l.Texts > 0);
                    // Lanes that fill the machine keep to a core each; with cores to spare the system places them well by itself.
                    return new Turn(joining, Math.Max(1, _lanes[0].Threads / active), active > 1 && active == _lanes.Length && active == Environment.ProcessorCount);
                }
                lane.IsAsleep = true;
            }
            lane.Bell.Wait();
        }
    }

    /// <summary>A lane cannot go on: what waits is told, nothing more is taken, and <see cref="Failed"/> is done.</summary>
    /// <param name="reason">For the operator and the clients.</param>
    public void Fail(Exception reason)
    {
        _failed.TrySetResult(reason);
        Stop(reason);
    }

    /// <summary>Ends the lanes; texts that are not done fail.</summary>
    public void Dispose()
    {
        Stop(Stopping());
        foreach (Lane lane in _lanes)
            lane.Dispose();
        foreach (CpuDevice device in _devices)
            device.Dispose();
        _packed.Dispose();
    }

    public static OperationCanceledException Stopping() => new("The server is stopping.");

    private void Stop(Exception reason)
    {
        lock (_lock)
        {
            _stop = true;
            foreach (CompletionJob job in _waiting)
                job.Failed(reason);
            _waiting.Clear();
            _waitingTexts = 0;
            foreach (Lane lane in _lanes)
                lane.Bell.Release();
        }
    }

    // Wakes the lane that the first of the queue is for, where it sleeps; one that is awake comes by itself after its step.
    private void CallNext()
    {
        if (!_waiting.TryPeek(out CompletionJob? next) || !Fits(next))
            return;
        Lane emptiest = _lanes[0];
        foreach (Lane lane in _lanes)
        {
            if (lane.Texts < emptiest.Texts)
                emptiest = lane;
        }
        if (!emptiest.IsAsleep)
            return;
        emptiest.IsAsleep = false;
        emptiest.Bell.Release();
    }

    private bool Fits(CompletionJob job)
    {
        if (!job.IsWanted)
            return true;
        int texts = 0, longest = job.Positions;
        foreach (Lane lane in _lanes)
            (texts, longest) = (texts + lane.Texts, Math.Max(longest, lane.Longest));
        return texts == 0 || (texts + job.Texts <= _options.MaxBatch && (long)(texts + job.Texts) * longest <= _options.MaxBatchPositions);
    }
}
