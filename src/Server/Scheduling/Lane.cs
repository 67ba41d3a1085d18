// A thread that owns one batch and steps it. Deliberately not: which texts join it (Scheduler), HTTP, files, tokenizing.
using IptNative.Kernels.Devices;
using IptNative.Model.Blocks;
using IptNative.Model.Checkpoints;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Server.Prompts;
using IptNative.Tuning.Prompts;

namespace IptNative.Server.Scheduling;

/// <summary>Takes texts into its batch between two steps.</summary>
/// <remarks>
/// A failure of a pass ends the texts that were in it with an error and nothing else; memory that ends while texts join ends those alone. A device on which
/// nothing can be begun again ends the server: <see cref="Scheduler.Fail"/>.
/// </remarks>
internal sealed class Lane : IDisposable
{
    private readonly Scheduler _scheduler;
    private readonly Checkpoint _checkpoint;
    private readonly ComputeDevice _device;
    private readonly WorkerPool? _pool;
    private readonly PackedWeights _packed;
    private readonly ServerMetrics _metrics;
    private readonly List<CompletionJob> _running = [];
    private readonly Thread _thread;
    private readonly int _number;
    private bool _stays;
    private ContinuousGeneration? _generation;
    private int _texts;

    /// <summary>Lays the model's matrices out.</summary>
    /// <param name="scheduler">Gives it texts.</param>
    /// <param name="number">From 0: its name, and the core that it keeps to.</param>
    /// <param name="checkpoint">The model; outlives this object.</param>
    /// <param name="device">Its threads, or a GPU that it alone works on; outlives this object.</param>
    /// <param name="packed">The model's packed matrices, which all lanes read; outlives this object.</param>
    /// <param name="metrics">Told of steps.</param>
    public Lane(Scheduler scheduler, int number, Checkpoint checkpoint, ComputeDevice device, PackedWeights packed, ServerMetrics metrics)
    {
        (_scheduler, _number, _checkpoint, _device, _packed, _metrics) = (scheduler, number, checkpoint, device, packed, metrics);
        _pool = (device as CpuDevice)?.Pool;
        _generation = new ContinuousGeneration(checkpoint, device, packed);
        _thread = new Thread(Run) { IsBackground = true, Name = $"lane {number}" };
    }

    /// <summary>Threads that compute; one hands a GPU its work.</summary>
    public int Threads => _pool?.Workers ?? 1;

    /// <summary>Texts in it, those that join now included. Written under the scheduler's lock.</summary>
    public int Texts => Volatile.Read(ref _texts);

    /// <summary>Positions of its longest input. Under the scheduler's lock.</summary>
    public int Longest { get; private set; }

    /// <summary>It waits for <see cref="Bell"/>. Under the scheduler's lock.</summary>
    public bool IsAsleep { get; set; }

    /// <summary>Wakes it.</summary>
    public SemaphoreSlim Bell { get; } = new(0);

    public void Start() => _thread.Start();

    /// <summary>Counts afresh after a step. Under the scheduler's lock, by this lane's thread.</summary>
    public void CountRunning()
    {
        Volatile.Write(ref _texts, _generation?.Rows ?? 0);
        Longest = 0;
        foreach (CompletionJob job in _running)
            Longest = Math.Max(Longest, job.Positions);
    }

    /// <summary>Counts a job that joins. As <see cref="CountRunning"/>.</summary>
    public void Count(CompletionJob job)
    {
        Volatile.Write(ref _texts, _texts + job.Texts);
        Longest = Math.Max(Longest, job.Positions);
    }

    /// <summary>Waits for the thread's end, which the scheduler has to have asked for.</summary>
    public void Dispose()
    {
        _thread.Join();
        _generation?.Dispose();
        Bell.Dispose();
    }

    private void Run()
    {
        // A request's way through the server is half a dozen threads that wake for a moment each: none of them should wait for a batch.
        ThreadPlace.TakeLongTurns();
        while (_generation is { } generation && _scheduler.Take(this) is { } turn)
        {
            try
            {
                Settle(turn);
                if (turn.Joining.Count > 0)
                    Join(generation, turn.Joining);
                int rows = generation.Rows;
                // There was no memory for those that came.
                if (rows == 0)
                    continue;
                generation.Step();
                _metrics.Stepped(rows);
                if (generation.Rows < rows)
                    _running.RemoveAll(j => j.IsDone);
            }
            catch (Exception e)
            {
                _metrics.PassFailed();
                foreach (CompletionJob job in _running.Concat(turn.Joining))
                    job.Failed(e);
                _running.Clear();
                Recover(generation, e);
            }
        }
        _generation?.FailAll(Scheduler.Stopping());
    }

    private void Recover(ContinuousGeneration generation, Exception error)
    {
        try
        {
            generation.FailAll(error);
            // Memory that was refused leaves everything as it was; nothing of a pass that broke otherwise is trusted, and the next texts start afresh.
            if (error is InsufficientMemoryException)
                return;
            _generation = null;
            generation.Dispose();
            _generation = new ContinuousGeneration(_checkpoint, _device, _packed);
        }
        catch (Exception e)
        {
            // The weights' file, or a GPU that has failed for good.
            _generation = null;
            _scheduler.Fail(new ServerFailedException($"serving on {_device.Name}: a pass failed ({error.Message}), and the next one cannot be begun: {e.Message}", e));
        }
    }

    private void Settle(Turn turn)
    {
        // A GPU has its own order of work.
        if (_pool is null)
            return;
        _pool.Width = Math.Min(turn.Threads, _pool.Workers);
        if (turn.Stays == _stays)
            return;
        _stays = turn.Stays;
        if (_stays)
            ThreadPlace.Stay(_number);
        else
            ThreadPlace.Roam();
    }

    private void Join(ContinuousGeneration generation, List<CompletionJob> joining)
    {
        try
        {
            JoinAll(generation, joining);
            _running.AddRange(joining);
        }
        catch (InsufficientMemoryException e)
        {
            // Nothing has joined, and the texts that run go on.
            _metrics.PassFailed();
            foreach (CompletionJob job in joining)
                job.Failed(e);
        }
    }

    private void JoinAll(ContinuousGeneration generation, List<CompletionJob> joining)
    {
        // The table holds what these jobs need, each prompt once; the encoder is its only reader, so it is gone after this.
        ServedPrompt[] prompts = [.. joining.Select(j => j.Prompt).Where(p => p.Prompt is not null).Distinct()];
        using PromptMemory? memory = prompts.Length == 0 ? null : new PromptMemory(_device, [.. prompts.Select(p => p.Prompt!)]); // filtered above
        var batch = new T5Batch();
        foreach (CompletionJob job in joining)
        {
            if (job.Prompt.Prompt?.Template is null)
                batch.Add(job.Ids, prompt: Array.IndexOf(prompts, job.Prompt));
            else
                batch.AddTemplate(job.Ids, default, Array.IndexOf(prompts, job.Prompt));
        }
        generation.Join(batch, memory?.Table, joining);
    }
}
