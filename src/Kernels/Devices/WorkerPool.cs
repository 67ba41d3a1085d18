// A few threads that split one op's tiles between them, without allocating. Not a general scheduler: one caller at a time.
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
public sealed unsafe class WorkerPool : IDisposable
{
    // Two tiles of a GEMM are microseconds apart: spin that long before sleeping.
    private const int SpinsBeforeSleep = 2000;

    private readonly Thread[] _threads;
    private readonly SemaphoreSlim _wake = new(0);
    private readonly Lock _gate = new();
    private volatile bool _stop;
    private long _generation;
    private int _sleepers;
    private delegate*<void*, int, int, void> _body;
    private void* _state;
    private int _tasks;
    private int _next;
    private int _running;

    /// <summary>Starts the threads.</summary>
    /// <param name="workers">Threads that work, the caller's included; 1 or more.</param>
    public WorkerPool(int workers)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(workers, 1);
        Workers = workers;
        _threads = new Thread[workers - 1];
        for (int i = 0; i < _threads.Length; i++)
        {
            int worker = i + 1;
            _threads[i] = new Thread(() => Loop(worker)) { IsBackground = true, Name = $"kernel worker {worker}" };
            _threads[i].Start();
        }
    }

    /// <summary>Threads that work, the caller's included.</summary>
    public int Workers { get; }

    /// <summary>Runs all pieces and returns when every one is done.</summary>
    /// <typeparam name="T">The work.</typeparam>
    /// <param name="tasks">Number of pieces; 0 does nothing.</param>
    /// <param name="body">The work's state; each thread reads this very memory.</param>
    public void Run<T>(int tasks, ref T body)
        where T : unmanaged, IParallelBody
    {
        if (tasks <= 0)
            return;
        if (tasks == 1 || Workers == 1)
        {
            for (int i = 0; i < tasks; i++)
                body.Invoke(i, 0);
            return;
        }
        lock (_gate)
        {
            fixed (T* state = &body)
            {
                _body = &Trampoline<T>;
                _state = state;
                _tasks = tasks;
                _running = _threads.Length;
                Volatile.Write(ref _next, 0);
                Interlocked.Increment(ref _generation);
                int asleep = Volatile.Read(ref _sleepers);
                if (asleep > 0)
                    _wake.Release(asleep);
                Drain(0);
                var spin = default(SpinWait);
                while (Volatile.Read(ref _running) != 0)
                    spin.SpinOnce(sleep1Threshold: -1);
            }
        }
    }

    /// <summary>Ends the threads.</summary>
    public void Dispose()
    {
        _stop = true;
        _wake.Release(_threads.Length + 1);
        foreach (Thread thread in _threads)
            thread.Join();
        _wake.Dispose();
    }

    private static void Trampoline<T>(void* state, int task, int worker)
        where T : unmanaged, IParallelBody => ((T*)state)->Invoke(task, worker);

    private void Drain(int worker)
    {
        int task;
        while ((task = Interlocked.Increment(ref _next) - 1) < _tasks)
            _body(_state, task, worker);
    }

    private void Loop(int worker)
    {
        long seen = 0;
        while (!_stop)
        {
            int spins = 0;
            while (Interlocked.Read(ref _generation) == seen && !_stop)
            {
                if (++spins < SpinsBeforeSleep)
                {
                    Thread.SpinWait(20);
                    continue;
                }
                Interlocked.Increment(ref _sleepers);
                if (Interlocked.Read(ref _generation) == seen && !_stop)
                    _wake.Wait();
                Interlocked.Decrement(ref _sleepers);
            }
            if (_stop)
                return;
            seen = Interlocked.Read(ref _generation);
            Drain(worker);
            Interlocked.Decrement(ref _running);
        }
    }
}
