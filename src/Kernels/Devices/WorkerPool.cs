// A few threads that split one op's tiles between them, without allocating. Not a general scheduler: one caller at a time.
using System.Diagnostics;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace IptNative.Kernels.Devices;

/// <summary>The work of one parallel op; an unmanaged struct, so that starting it allocates nothing.</summary>
public interface IParallelBody
{
    /// <summary>Does one piece.</summary>
    /// <param name="task">0 to the number of pieces - 1; pieces may run in any order, on any thread.</param>
    /// <param name="worker">0 to <see cref="WorkerPool.Workers"/> - 1: which scratch memory is this thread's.</param>
    void Invoke(int task, int worker);
}

/// <summary>Threads that run <see cref="IParallelBody"/>s; the calling thread works too.</summary>
/// <remarks>
/// A job is one word: generation, an open bit, and how many helpers are inside. A helper enters by a compare-and-swap that succeeds only while the
/// bit is set; the caller works, clears the bit when no piece is left, and waits for those inside. So a helper that sleeps, or that the system
/// has put aside, is never waited for, none can meet the body of another job, and a missed wake-up costs parallelism but cannot hang.
/// </remarks>
public sealed unsafe class WorkerPool : IDisposable
{
    // Two ops are microseconds apart: helpers spin that long before they sleep. Longer would take time from ONNX Runtime's own threads.
    private const int SpinMicroseconds = 200;
    private const long OpenBit = 1L << 31;
    private const long HelpersMask = OpenBit - 1;
    private static readonly long SpinTicks = Stopwatch.Frequency * SpinMicroseconds / 1_000_000;

    [ThreadStatic]
    private static WorkerPool? t_pool;

    [ThreadStatic]
    private static int t_worker;

    private readonly Thread[] _threads;
    private readonly Sleeper[] _sleepers;
    private SharedWords _words;
    private volatile bool _stop;
    private volatile int _width;
    private delegate*<void*, int, int, void> _body;
    private void* _state;
    private int _tasks;
    private Exception? _failure;

    /// <summary>Starts the threads.</summary>
    /// <param name="workers">Threads that work, the caller's included; 1 or more.</param>
    public WorkerPool(int workers)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(workers, 1);
        Workers = _width = workers;
        _threads = new Thread[workers - 1];
        _sleepers = new Sleeper[workers - 1];
        for (int i = 0; i < _threads.Length; i++)
        {
            int worker = i + 1;
            _sleepers[i] = new Sleeper();
            _threads[i] = new Thread(() => Loop(worker)) { IsBackground = true, Name = $"kernel worker {worker}" };
        }
        foreach (Thread thread in _threads)
            thread.Start();
    }

    /// <summary>Threads that work, the caller's included.</summary>
    public int Workers { get; }

    /// <summary>Threads that runs use now, 1 to <see cref="Workers"/>: fewer where another pool needs the cores for a while. Whoever is above it leaves after its piece.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Set to less than 1 or more than there are.</exception>
    public int Width
    {
        get => _width;
        set
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 1);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, Workers);
            _width = value;
        }
    }

    /// <summary>Held by an op that keeps data in shared scratch over several runs; the running thread may take it again.</summary>
    internal Lock Gate { get; } = new();

    /// <summary>True inside <see cref="IParallelBody.Invoke"/> of this pool: a run started here is done by this thread alone.</summary>
    internal bool IsInsideBody => t_pool == this;

    /// <summary>Runs all pieces and returns when every one is done.</summary>
    /// <typeparam name="T">The work.</typeparam>
    /// <param name="tasks">Number of pieces; 0 does nothing.</param>
    /// <param name="body">The work's state; each thread reads this very memory.</param>
    /// <remarks>
    /// Threads that call at the same time take turns. From inside a body the pieces run one after the other on the thread that asks, under its own worker
    /// number. The first exception of a body stops the handing out of pieces and is thrown here once all threads have left.
    /// </remarks>
    /// <exception cref="ObjectDisposedException">The pool has ended.</exception>
    public void Run<T>(int tasks, ref T body)
        where T : unmanaged, IParallelBody
    {
        ObjectDisposedException.ThrowIf(_stop, this);
        if (tasks <= 0)
            return;
        if (IsInsideBody)
        {
            for (int i = 0; i < tasks; i++)
                body.Invoke(i, t_worker);
            return;
        }
        lock (Gate)
        {
            fixed (T* state = &body)
            {
                _body = &Trampoline<T>;
                _state = state;
                _tasks = tasks;
                _words.Next = 0;
                int helpers = Math.Min(tasks, _width) - 1;
                bool shared = helpers > 0;
                if (shared)
                {
                    // Generation + 1, open, nobody inside; the exchange also publishes the fields above.
                    Interlocked.Exchange(ref _words.Job, ((_words.Job >> 32) + 1 << 32) | OpenBit);
                    Wake(helpers);
                }
                Drain(0);
                if (shared)
                {
                    Interlocked.And(ref _words.Job, ~OpenBit);
                    var spin = default(SpinWait);
                    while ((Volatile.Read(ref _words.Job) & HelpersMask) != 0)
                        spin.SpinOnce(sleep1Threshold: -1);
                }
            }
            if (_failure is { } failure)
            {
                _failure = null;
                ExceptionDispatchInfo.Throw(failure);
            }
        }
    }

    /// <summary>Ends the threads, after the run that is under way. Not from inside a body.</summary>
    /// <exception cref="InvalidOperationException">Called by a body of this pool, which would wait for itself.</exception>
    public void Dispose()
    {
        if (IsInsideBody)
            throw new InvalidOperationException("WorkerPool.Dispose: called from inside a parallel body of the same pool; dispose it after Run has returned.");
        lock (Gate)
        {
            if (_stop)
                return;
            _stop = true;
            Interlocked.MemoryBarrier();
            Wake(_threads.Length);
            for (int i = 0; i < _threads.Length; i++)
            {
                _threads[i].Join();
                _sleepers[i].Dispose();
            }
        }
    }

    private static void Trampoline<T>(void* state, int task, int worker)
        where T : unmanaged, IParallelBody => ((T*)state)->Invoke(task, worker);

    private void Wake(int helpers)
    {
        for (int i = 0; i < helpers; i++)
        {
            Sleeper sleeper = _sleepers[i];
            if (Volatile.Read(ref sleeper.Asleep) == 1 && Interlocked.Exchange(ref sleeper.Asleep, 0) == 1)
                sleeper.Permit.Release();
        }
    }

    private void Drain(int worker)
    {
        WorkerPool? outerPool = t_pool;
        int outerWorker = t_worker;
        t_pool = this;
        t_worker = worker;
        try
        {
            long task;
            while ((task = Interlocked.Increment(ref _words.Next) - 1) < _tasks)
                _body(_state, (int)task, worker);
        }
        catch (Exception e)
        {
            Interlocked.CompareExchange(ref _failure, e, null);
            Interlocked.Exchange(ref _words.Next, _tasks);
        }
        finally
        {
            t_pool = outerPool;
            t_worker = outerWorker;
        }
    }

    private bool IsNew(long job, long seen, int worker) => (job & OpenBit) != 0 && job >> 32 != seen && worker < _width;

    private void Loop(int worker)
    {
        Sleeper sleeper = _sleepers[worker - 1];
        long seen = 0;
        long idleSince = Stopwatch.GetTimestamp();
        while (!_stop)
        {
            long job = Volatile.Read(ref _words.Job);
            if (IsNew(job, seen, worker))
            {
                if (Interlocked.CompareExchange(ref _words.Job, job + 1, job) != job)
                    continue;
                seen = job >> 32;
                Drain(worker);
                Interlocked.Decrement(ref _words.Job);
                idleSince = Stopwatch.GetTimestamp();
            }
            else if (Stopwatch.GetTimestamp() - idleSince < SpinTicks)
            {
                Thread.SpinWait(8);
            }
            else
            {
                // Announce, then look again: the caller publishes the job, then looks for sleepers. One of the two sees the other.
                Interlocked.Exchange(ref sleeper.Asleep, 1);
                bool due = IsNew(Volatile.Read(ref _words.Job), seen, worker) || _stop;
                // Whoever takes the mark back decides: a mark already taken means that a permit is on its way and has to be used up.
                if (!due || Interlocked.Exchange(ref sleeper.Asleep, 0) == 0)
                    sleeper.Permit.Wait();
                idleSince = Stopwatch.GetTimestamp();
            }
        }
    }

    // Words that many threads write, each on its own pair of cache lines.
    [StructLayout(LayoutKind.Explicit, Size = 384)]
    private struct SharedWords
    {
        [FieldOffset(128)]
        public long Job;

        [FieldOffset(256)]
        public long Next;
    }

    private sealed class Sleeper : IDisposable
    {
        public readonly SemaphoreSlim Permit = new(0);
        public int Asleep;

        public void Dispose() => Permit.Dispose();
    }
}
