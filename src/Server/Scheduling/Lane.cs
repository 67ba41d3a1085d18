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
/// <remarks>A failure of a pass ends the texts that were in it with an error and nothing else.</remarks>
internal sealed class Lane : IDisposable
{
    private readonly Scheduler _scheduler;
    private readonly Checkpoint _checkpoint;
    private readonly CpuDevice _device;
    private readonly PackedWeights _packed;
    private readonly ServerMetrics _metrics;
    private readonly List<CompletionJob> _running = [];
    private readonly Thread _thread;
    private readonly int _number;
    private bool _stays;
    private ContinuousGeneration _generation;
    private int _texts;

    /// <summary>Lays the model's matrices out.</summary>
    /// <param name="scheduler">Gives it texts.</param>
    /// <param name="number">From 0: its name, and the core that it keeps to.</param>
    /// <param name="checkpoint">The model; outlives this object.</param>
    /// <param name="device">Its threads; this object's own from here on.</param>
    /// <param name="packed">The model's packed matrices, which all lanes read; outlives this object.</param>
    /// <param name="metrics">Told of steps.</param>
    public Lane(Scheduler scheduler, int number, Checkpoint checkpoint, CpuDevice device, PackedWeights packed, ServerMetrics metrics)
    {
        (_scheduler, _number, _checkpoint, _device, _packed, _metrics) = (scheduler, number, checkpoint, device, packed, metrics);
        _generation = new ContinuousGeneration(checkpoint, device, packed);
        _thread = new Thread(Run) { IsBackground = true, Name = $"lane {number}" };
    }

    /// <summary>Threads of its device.</summary>
    public int Threads => _device.Pool.Workers;

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
        Volatile.Write(ref _texts, _generation.Rows);
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
        _generation.Dispose();
        _device.Dispose();
        Bell.Dispose();
    }

    private void Run()
    {
        // A request's way through the server is half a dozen threads that wake for a moment each: none of them should wait for a batch.
        ThreadPlace.TakeLongTurns();
        while (_scheduler.Take(this) is { } turn)
        {
            try
            {
                Settle(turn);
                if (turn.Joining.Count > 0)
                    Join(turn.Joining);
                int rows = _generation.Rows;
                _generation.Step();
                _metrics.Stepped(rows);
                if (_generation.Rows < rows)
                    _running.RemoveAll(j => j.IsDone);
            }
            catch (Exception e)
            {
                // Nothing of a broken pass is trusted: its texts are told, the next ones start afresh.
                _metrics.PassFailed();
                _generation.FailAll(e);
                foreach (CompletionJob job in _running.Concat(turn.Joining))
                    job.Failed(e);
                _running.Clear();
                _generation.Dispose();
                _generation = new ContinuousGeneration(_checkpoint, _device, _packed);
            }
        }
        _generation.FailAll(Scheduler.Stopping());
    }

    private void Settle(Turn turn)
    {
        _device.Pool.Width = Math.Min(turn.Threads, _device.Pool.Workers);
        if (turn.Stays == _stays)
            return;
        _stays = turn.Stays;
        if (_stays)
            ThreadPlace.Stay(_number);
        else
            ThreadPlace.Roam();
    }

    private void Join(List<CompletionJob> joining)
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
        _generation.Join(batch, memory?.Table, joining);
        _running.AddRange(joining);
    }
}
