// The worker pool under pressure: every piece once, no stale body, no hang, no matter how threads wake, sleep, fail or nest.
using System.Diagnostics;
using IptNative.Kernels.Devices;
using Xunit;

namespace IptNative.Kernels.Tests;

public sealed unsafe class WorkerPoolTests
{
    // A hang is what is tested for. A healthy run takes a second at most, but a machine may be taken away from it for minutes.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(10);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(8)]
    public void EveryPieceIsDoneOnce(int workers) => Within(() =>
    {
        using var pool = new WorkerPool(workers);
        int* counts = stackalloc int[100];
        for (int tasks = 0; tasks <= 100; tasks++)
        {
            new Span<int>(counts, 100).Clear();
            var body = new Count { Counts = counts, Workers = workers };
            pool.Run(tasks, ref body);
            for (int i = 0; i < 100; i++)
                Assert.Equal(i < tasks ? 1 : 0, counts[i]);
            Assert.Equal(0, body.WrongWorkers);
        }
    });

    // Whoever is above the width takes no part, and comes back when it widens.
    [Theory]
    [InlineData(2)]
    [InlineData(5)]
    public void AWidthIsKeptWhileItChanges(int workers) => Within(() =>
    {
        using var pool = new WorkerPool(workers);
        int* counts = stackalloc int[100];
        var random = new Random(2);
        for (int run = 0; run < 3_000; run++)
        {
            pool.Width = random.Next(1, workers + 1);
            new Span<int>(counts, 100).Clear();
            var body = new Count { Counts = counts, Workers = pool.Width };
            pool.Run(100, ref body);
            for (int i = 0; i < 100; i++)
                Assert.Equal(1, counts[i]);
            Assert.Equal(0, body.WrongWorkers);
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => pool.Width = 0);
        Assert.Throws<ArgumentOutOfRangeException>(() => pool.Width = workers + 1);
    });

    [Fact]
    public void AThreadStaysOnACoreAndRoamsAgain() => Within(() =>
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "other systems place threads themselves");
        string before = Allowed();
        ThreadPlace.Stay(Environment.ProcessorCount);
        // One core: a number without a list or a range.
        Assert.True(int.TryParse(Allowed(), out _), Allowed());
        ThreadPlace.Roam();
        Assert.Equal(before, Allowed());

        static string Allowed() => File.ReadLines("/proc/thread-self/status").Single(l => l.StartsWith("Cpus_allowed_list:", StringComparison.Ordinal)).Split(':')[1].Trim();
    });

    [Fact]
    public void LongTurnsTakeNothingElseFromAThread() => Within(() =>
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "other systems have no such thing");
        string before = Place();
        ThreadPlace.TakeLongTurns();
        Assert.Equal(before, Place());

        // Nice value, real-time priority and policy: fields 19, 40 and 41, counted from the process's number, which its name follows.
        static string Place()
        {
            string[] fields = File.ReadAllText("/proc/thread-self/stat").Split(") ")[1].Split(' ');
            return $"{fields[19 - 3]} {fields[40 - 3]} {fields[41 - 3]}";
        }
    });

    [Theory]
    [InlineData(2)]
    [InlineData(5)]
    public void JobsFollowEachOtherWithoutMixing(int workers) => Within(() =>
    {
        using var pool = new WorkerPool(workers);
        var random = new Random(1);
        for (int run = 0; run < 30_000; run++)
        {
            int tasks = 1 + run % 7;
            // Two body types in turn: a helper that comes late with the other's function or memory would spoil the sums.
            var sum = new Sum { Value = run };
            pool.Run(tasks, ref sum);
            Assert.Equal((long)tasks * run, sum.Total);
            var squares = new Squares();
            pool.Run(tasks, ref squares);
            Assert.Equal(tasks * (tasks - 1) * (2 * tasks - 1) / 6, squares.Total);
            // Now and then long enough for helpers to be about to sleep, or asleep.
            if (run % 100 == 0)
                Spin(TimeSpan.FromMicroseconds(random.Next(400)));
        }
    });

    [Fact]
    public void SeveralThreadsWorkAtTheSameTime() => Within(() =>
    {
        using var pool = new WorkerPool(3);
        // Each piece waits for the others to have begun: only possible when three threads are inside, asleep before or not.
        for (int i = 0; i < 20; i++)
        {
            var body = new Rendezvous { Expected = 3 };
            pool.Run(3, ref body);
            Assert.Equal(3, body.Arrived);
            Spin(TimeSpan.FromMicroseconds(500));
        }
    });

    [Fact]
    public void AFailureComesBackAndThePoolGoesOn() => Within(() =>
    {
        using var pool = new WorkerPool(4);
        for (int run = 0; run < 200; run++)
        {
            var failing = new Fail { At = run % 50 };
            InvalidOperationException e = Assert.Throws<InvalidOperationException>(() => RunFailing(pool, failing));
            Assert.Equal($"piece {run % 50}", e.Message);
            var sum = new Sum { Value = 3 };
            pool.Run(10, ref sum);
            Assert.Equal(30, sum.Total);
        }
        var single = new Fail { At = 0 };
        Assert.Throws<InvalidOperationException>(() => pool.Run(1, ref single));
    });

    [Fact]
    public void ARunInsideABodyIsDoneByItsThread() => Within(() =>
    {
        using var pool = new WorkerPool(4);
        for (int run = 0; run < 200; run++)
        {
            var body = new Nest { Pool = System.Runtime.InteropServices.GCHandle.Alloc(pool) };
            pool.Run(20, ref body);
            body.Pool.Free();
            Assert.Equal(20 * 6, body.Done);
            Assert.Equal(0, body.Strangers);
        }
        Assert.False(pool.IsInsideBody);
    });

    [Fact]
    public void CallersTakeTurns() => Within(() =>
    {
        using var pool = new WorkerPool(3);
        long wrong = 0;
        var callers = new Thread[4];
        for (int i = 0; i < callers.Length; i++)
        {
            int value = i + 1;
            callers[i] = new Thread(() =>
            {
                for (int run = 0; run < 2000; run++)
                {
                    var sum = new Sum { Value = value };
                    pool.Run(5, ref sum);
                    if (sum.Total != 5 * value)
                        Interlocked.Increment(ref wrong);
                }
            });
            callers[i].Start();
        }
        foreach (Thread caller in callers)
            caller.Join();
        Assert.Equal(0, wrong);
    });

    [Fact]
    public void EndsOnceAndRefusesWorkAfterwards() => Within(() =>
    {
        for (int i = 0; i < 100; i++)
        {
            var pool = new WorkerPool(4);
            if (i % 2 == 0)
                Spin(TimeSpan.FromMicroseconds(i * 8));
            pool.Dispose();
            pool.Dispose();
            var sum = default(Sum);
            Assert.Throws<ObjectDisposedException>(() => pool.Run(1, ref sum));
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => new WorkerPool(0));
    });

    [Fact]
    public void RunningAllocatesNothing() => Within(() =>
    {
        using var pool = new WorkerPool(2);
        var sum = new Sum { Value = 1 };
        pool.Run(5, ref sum);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
            pool.Run(5, ref sum);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    });

    private static void RunFailing(WorkerPool pool, Fail body) => pool.Run(50, ref body);

    private static void Spin(TimeSpan time)
    {
        long start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start) < time)
            Thread.SpinWait(10);
    }

    private static void Within(Action test)
    {
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                test();
            }
            catch (Exception e)
            {
                failure = e;
            }
        })
        { IsBackground = true };
        thread.Start();
        Assert.True(thread.Join(Patience), "the pool hangs");
        if (failure is not null)
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
    }

    private struct Count : IParallelBody
    {
        public int* Counts;
        public int Workers;
        public int WrongWorkers;

        public void Invoke(int task, int worker)
        {
            Interlocked.Increment(ref Counts[task]);
            if (worker < 0 || worker >= Workers)
                Interlocked.Increment(ref WrongWorkers);
        }
    }

    private struct Sum : IParallelBody
    {
        public long Value;
        public long Total;

        public void Invoke(int task, int worker) => Interlocked.Add(ref Total, Value);
    }

    private struct Squares : IParallelBody
    {
        public long Total;

        public void Invoke(int task, int worker) => Interlocked.Add(ref Total, (long)task * task);
    }

    private struct Rendezvous : IParallelBody
    {
        public int Expected;
        public int Arrived;

        public void Invoke(int task, int worker)
        {
            Interlocked.Increment(ref Arrived);
            var spin = default(SpinWait);
            while (Volatile.Read(ref Arrived) < Expected)
                spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    private struct Fail : IParallelBody
    {
        public int At;

        public readonly void Invoke(int task, int worker)
        {
            if (task == At)
                throw new InvalidOperationException($"piece {task}");
        }
    }

    private struct Nest : IParallelBody
    {
        public System.Runtime.InteropServices.GCHandle Pool;
        public int Done;
        public int Strangers;

        public void Invoke(int task, int worker)
        {
            var inner = new Inner { Worker = worker, Thread = Environment.CurrentManagedThreadId };
            ((WorkerPool)Pool.Target!).Run(6, ref inner);
            Interlocked.Add(ref Done, inner.Done);
            Interlocked.Add(ref Strangers, inner.Strangers);
        }
    }

    private struct Inner : IParallelBody
    {
        public int Worker;
        public int Thread;
        public int Done;
        public int Strangers;

        public void Invoke(int task, int worker)
        {
            Done++;
            if (worker != Worker || Environment.CurrentManagedThreadId != Thread)
                Strangers++;
        }
    }
}
