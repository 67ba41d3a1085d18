// Runs a kernel group by group. The threads of a group are real threads of which one at a time runs, from one point of synchronisation to the next,
// always in the same order: results repeat, and what differs between orders shows as a race (Memory.cs).
using System.Reflection;
using System.Runtime.ExceptionServices;
using ILGPU.Runtime;

namespace ILGPU.Emulation;

/// <summary>One kernel launch.</summary>
internal sealed class KernelLaunch
{
    private static int s_launches;
    private readonly Action _body;
    private readonly List<EmulatedThread> _threads;

    private KernelLaunch(Accelerator accelerator, MethodInfo kernel, KernelConfig config, Action body, List<EmulatedThread> threads)
    {
        GridDim = config.GridDim;
        GroupDim = config.GroupDim;
        WarpSize = accelerator.WarpSize;
        Kernel = $"{kernel.DeclaringType?.FullName?.Split('.')[^1]}.{kernel.Name}";
        Number = Interlocked.Increment(ref s_launches);
        _body = body;
        _threads = threads;
    }

    public Index3D GridDim { get; }

    public Index3D GroupDim { get; }

    public int WarpSize { get; }

    public string Kernel { get; }

    public int Number { get; }

    public static void Run(Accelerator accelerator, MethodInfo kernel, KernelConfig config, Action body)
    {
        int threads = config.GroupDim.X * config.GroupDim.Y * config.GroupDim.Z;
        if (threads < 1 || threads > accelerator.MaxNumThreadsPerGroup || config.GridDim.X < 1 || config.GridDim.Y < 1 || config.GridDim.Z < 1 || config.GridDim.Y > 65535 || config.GridDim.Z > 65535)
            throw new InvalidOperationException($"{kernel.Name}: {config.GridDim} groups of {threads} threads were asked for; a group has 1 to {accelerator.MaxNumThreadsPerGroup}, a grid at most 65535 in y and z.");
        List<EmulatedThread> rented = ThreadRack.Rent(threads);
        var launch = new KernelLaunch(accelerator, kernel, config, body, rented);
        try
        {
            for (int z = 0; z < config.GridDim.Z; z++)
            {
                for (int y = 0; y < config.GridDim.Y; y++)
                {
                    for (int x = 0; x < config.GridDim.X; x++)
                        launch.RunGroup(new Index3D(x, y, z));
                }
            }
        }
        finally
        {
            ThreadRack.Return(rented);
        }
    }

    private void RunGroup(Index3D index)
    {
        var group = new EmulatedGroup(this, index, _threads);
        for (int i = 0; i < _threads.Count; i++)
            _threads[i].Prepare(group, i, _body);
        group.Run();
    }
}

/// <summary>Leave to run, given by one thread to another. Deliberately no SemaphoreSlim: it spins before it sleeps, and exactly one thread has work.</summary>
internal sealed class Turn
{
    private bool _given;

    public void Give()
    {
        lock (this)
        {
            _given = true;
            Monitor.Pulse(this);
        }
    }

    public void Wait()
    {
        lock (this)
        {
            while (!_given)
                Monitor.Wait(this);
            _given = false;
        }
    }
}

/// <summary>Where a thread stands.</summary>
internal enum ThreadState
{
    Ready,
    AtGroupBarrier,
    AtWarpExchange,
    Done,
}

/// <summary>The threads of one group, what they share, and whose turn it is.</summary>
internal sealed class EmulatedGroup(KernelLaunch launch, Index3D index, List<EmulatedThread> threads)
{
    private readonly List<MemoryBlock> _shared = [];
    private readonly ulong[] _exchange = new ulong[2 * threads.Count];
    private readonly Turn _finished = new();
    private ExceptionDispatchInfo? _failure;

    public KernelLaunch Launch => launch;

    public Index3D Index => index;

    /// <summary>Stretches between group barriers, counted.</summary>
    public int Interval { get; private set; }

    public bool Failed => _failure is not null;

    public void Run()
    {
        threads[0].Wake();
        _finished.Wait();
        foreach (MemoryBlock block in _shared)
            block.Free();
        _failure?.Throw();
    }

    public void Fail(Exception e) => _failure ??= ExceptionDispatchInfo.Capture(e);

    public MemoryBlock Shared(int ordinal, long bytes)
    {
        if (ordinal == _shared.Count)
            _shared.Add(new MemoryBlock(bytes, 4));
        return _shared[ordinal].Bytes == bytes ? _shared[ordinal]
            : throw new InvalidOperationException($"{launch.Kernel}: threads of one group take different shared memory: {_shared[ordinal].Bytes} and {bytes} bytes.");
    }

    public ref ulong Slot(int thread, int parity) => ref _exchange[2 * thread + parity];

    /// <summary>Called by the running thread when it stops or ends: lets the next one run. True where that is the caller itself.</summary>
    public bool Next(EmulatedThread current)
    {
        if (current.State == ThreadState.AtWarpExchange)
            ReleaseWarp(current);
        EmulatedThread? next = FirstReady(current.Index);
        if (next is null && !Failed && threads.Any(thread => thread.State != ThreadState.Done))
        {
            ReleaseGroup();
            next = FirstReady(-1);
        }
        if (next == current)
            return true;
        if (next is null)
            _finished.Give();
        else
            next.Wake();
        return false;
    }

    /// <summary>After a failure every thread is let run once more, to leave.</summary>
    private EmulatedThread? FirstReady(int after)
    {
        for (int i = 1; i <= threads.Count; i++)
        {
            EmulatedThread thread = threads[(after + i) % threads.Count];
            if (thread.State == ThreadState.Ready || (Failed && thread.State != ThreadState.Done))
                return thread;
        }
        return null;
    }

    private void ReleaseWarp(EmulatedThread current)
    {
        int first = current.Index / launch.WarpSize * launch.WarpSize, end = Math.Min(first + launch.WarpSize, threads.Count);
        for (int i = first; i < end; i++)
        {
            if (threads[i].State != ThreadState.AtWarpExchange)
                return;
        }
        RequireSamePlace(first, end, "a shuffle");
        for (int i = first; i < end; i++)
            threads[i].Release(warp: true);
    }

    // Nobody can run: all wait at one barrier, or the kernel is wrong.
    private void ReleaseGroup()
    {
        if (threads.Find(thread => thread.State != ThreadState.AtGroupBarrier) is { } other)
        {
            EmulatedThread waiting = threads.First(thread => thread.State is ThreadState.AtGroupBarrier or ThreadState.AtWarpExchange);
            Fail(new InvalidOperationException($"{waiting.Name} waits at {waiting.Place}, {other.Name} {(other.State == ThreadState.Done ? "has ended" : $"waits at {other.Place}")}: a divergent barrier. A GPU hangs here."));
            return;
        }
        RequireSamePlace(0, threads.Count, "a barrier");
        Interval++;
        foreach (EmulatedThread thread in threads)
            thread.Release(warp: false);
    }

    private void RequireSamePlace(int first, int end, string what)
    {
        for (int i = first + 1; i < end; i++)
        {
            if (threads[i].Place != threads[first].Place)
                Fail(new InvalidOperationException($"{threads[first].Name} is at {what} in {threads[first].Place}, {threads[i].Name} in {threads[i].Place}: divergent."));
        }
    }
}

/// <summary>One thread of a group.</summary>
internal sealed class EmulatedThread
{
    [ThreadStatic]
    private static EmulatedThread? t_current;

    private readonly Turn _turn = new();
    private readonly Thread _thread;
    private EmulatedGroup? _group;
    private Action? _body;
    private int _sharedArrays;
    private int _warpInterval;

    public EmulatedThread()
    {
        Log = new AccessLog(this);
        // A kernel is shallow; a thousand threads of the default size would not be.
        _thread = new Thread(Loop, 256 * 1024) { IsBackground = true, Name = "emulated GPU thread" };
        _thread.Start();
    }

    public static EmulatedThread? Current => t_current;

    public static EmulatedThread Required => t_current ?? throw new InvalidOperationException("This is only there inside a kernel.");

    public AccessLog Log { get; }

    public int Index { get; private set; }

    public ThreadState State { get; private set; }

    /// <summary>File and line where it waits.</summary>
    public string Place { get; private set; } = "";

    public EmulatedGroup Group => _group ?? throw new InvalidOperationException("The thread has no group.");

    public string Name => $"{Group.Launch.Kernel}, group ({Group.Index.X}, {Group.Index.Y}, {Group.Index.Z}), thread {Index}";

    public Stamp Now => new(Group.Launch.Number, GroupNumber, Group.Interval, Index, _warpInterval);

    // Counted from 1: a stamp of zeros is no access.
    private int GroupNumber => 1 + Group.Index.X + Group.Launch.GridDim.X * (Group.Index.Y + Group.Launch.GridDim.Y * Group.Index.Z);

    public static string Describe() => t_current?.Name ?? "The host";

    public int WarpOf(int thread) => thread / Group.Launch.WarpSize;

    public void Prepare(EmulatedGroup group, int index, Action body)
    {
        (_group, Index, _body, _sharedArrays, _warpInterval, State) = (group, index, body, 0, 0, ThreadState.Ready);
    }

    public void Wake() => _turn.Give();

    public void Release(bool warp)
    {
        State = ThreadState.Ready;
        if (warp)
            _warpInterval++;
    }

    public void GroupBarrier(string file, int line) => Stop(ThreadState.AtGroupBarrier, file, line);

    public ulong WarpExchange(ulong sent, int sourceLane, string file, int line)
    {
        int warp = Group.Launch.WarpSize, parity = _warpInterval & 1;
        Group.Slot(Index, parity) = sent;
        Stop(ThreadState.AtWarpExchange, file, line);
        int source = Index / warp * warp + sourceLane;
        if (sourceLane < 0 || sourceLane >= warp || source >= Group.Launch.GroupDim.X)
            throw new InvalidOperationException($"{Name} shuffles with lane {sourceLane}, which is not there.");
        return Group.Slot(source, parity);
    }

    public unsafe ArrayView<T> Shared<T>(int extent)
        where T : unmanaged
    {
        MemoryBlock block = Group.Shared(_sharedArrays++, (long)extent * sizeof(T));
        return new ArrayView<T>(block, block.Address, extent);
    }

    private void Stop(ThreadState state, string file, int line)
    {
        Log.Judge();
        Place = $"{Path.GetFileName(file)}:{line}";
        State = state;
        if (!Group.Next(this))
            _turn.Wait();
        if (Group.Failed)
            throw new AbandonedException();
    }

    private void Loop()
    {
        t_current = this;
        while (true)
        {
            _turn.Wait();
            try
            {
                if (!Group.Failed)
                    _body!(); // not null: Prepare came before Wake
                Log.Judge();
            }
            catch (AbandonedException)
            {
                // Another thread's failure is the one to report.
            }
            catch (Exception e)
            {
                Group.Fail(new InvalidOperationException($"{Name}: {e.Message}", e));
            }
            State = ThreadState.Done;
            Group.Next(this);
        }
    }

    private sealed class AbandonedException : Exception;
}

/// <summary>Threads are kept from launch to launch.</summary>
internal static class ThreadRack
{
    private static readonly Stack<EmulatedThread> Idle = new();

    public static List<EmulatedThread> Rent(int count)
    {
        var threads = new List<EmulatedThread>(count);
        lock (Idle)
        {
            while (threads.Count < count && Idle.TryPop(out EmulatedThread? thread))
                threads.Add(thread);
        }
        while (threads.Count < count)
            threads.Add(new EmulatedThread());
        return threads;
    }

    public static void Return(List<EmulatedThread> threads)
    {
        lock (Idle)
        {
            foreach (EmulatedThread thread in threads)
                Idle.Push(thread);
        }
    }
}
