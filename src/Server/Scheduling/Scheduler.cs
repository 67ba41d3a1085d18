// The thread that owns the model: takes waiting texts into the batch between two steps. Deliberately not: HTTP, files, tokenizing.
using System.Diagnostics;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Server.Prompts;
using IptNative.Tuning.Prompts;

namespace IptNative.Server.Scheduling;

/// <summary>Continuous batching across prompts, first come, first served.</summary>
/// <remarks>
/// A text waits for room only: the batch has a most of rows and of positions. What comes first is never overtaken, so a long text cannot starve.
/// A failure of a pass ends the texts that were in it with an error and nothing else.
/// </remarks>
internal sealed class Scheduler : IDisposable
{
    private readonly Checkpoint _checkpoint;
    private readonly CpuDevice _device;
    private readonly ServerOptions _options;
    private readonly ServerMetrics _metrics;
    private readonly object _lock = new();
    private readonly Queue<CompletionJob> _waiting = new();
    private readonly List<CompletionJob> _running = [];
    private readonly Thread _thread;
    private int _waitingTexts;
    private bool _stop;

    public Scheduler(Checkpoint checkpoint, CpuDevice device, ServerOptions options, ServerMetrics metrics)
    {
        (_checkpoint, _device, _options, _metrics) = (checkpoint, device, options, metrics);
        _thread = new Thread(Run) { IsBackground = true, Name = "scheduler" };
        _thread.Start();
    }

    /// <summary>Texts that wait.</summary>
    public int Waiting => Volatile.Read(ref _waitingTexts);

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
            Monitor.Pulse(_lock);
        }
        return true;
    }

    /// <summary>Ends the thread; texts that are not done fail.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _stop = true;
            Monitor.Pulse(_lock);
        }
        _thread.Join();
    }

    private void Run()
    {
        var generation = new ContinuousGeneration(_checkpoint, _device);
        try
        {
            while (true)
            {
                List<CompletionJob>? joining = Take(generation.Rows);
                if (joining is null)
                    break;
                try
                {
                    if (joining.Count > 0)
                        Join(generation, joining);
                    int rows = generation.Rows;
                    generation.Step();
                    _metrics.Stepped(rows);
                    if (generation.Rows < rows)
                        _running.RemoveAll(j => j.IsDone);
                }
                catch (Exception e)
                {
                    // Nothing of a broken pass is trusted: its texts are told, the next ones start afresh.
                    _metrics.PassFailed();
                    generation.FailAll(e);
                    foreach (CompletionJob job in _running.Concat(joining))
                        job.Failed(e);
                    _running.Clear();
                    generation.Dispose();
                    generation = new ContinuousGeneration(_checkpoint, _device);
                }
            }
            generation.FailAll(new OperationCanceledException("The server is stopping."));
        }
        finally
        {
            generation.Dispose();
        }
    }

    // The jobs to join now; empty to go on with what runs; null to end.
    private List<CompletionJob>? Take(int rows)
    {
        var joining = new List<CompletionJob>();
        lock (_lock)
        {
            while (!_stop && rows == 0 && _waiting.Count == 0)
                Monitor.Wait(_lock);
            if (_stop)
            {
                foreach (CompletionJob job in _waiting)
                    job.Failed(new OperationCanceledException("The server is stopping."));
                return null;
            }
            int longest = _running.Count == 0 ? 0 : _running.Max(j => j.Positions);
            while (_waiting.TryPeek(out CompletionJob? next))
            {
                int positions = Math.Max(longest, next.Positions);
                if (next.IsWanted && rows > 0 && (rows + next.Texts > _options.MaxBatch || (long)(rows + next.Texts) * positions > _options.MaxBatchPositions))
                    break;
                _waiting.Dequeue();
                _waitingTexts -= next.Texts;
                if (!next.IsWanted)
                    continue;
                (longest, rows) = (positions, rows + next.Texts);
                joining.Add(next);
            }
        }
        return joining;
    }

    private void Join(ContinuousGeneration generation, List<CompletionJob> joining)
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
        _running.AddRange(joining);
    }
}
