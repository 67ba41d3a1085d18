// Runs a kernel group by group. Of a group's threads one at a time runs, from one point of synchronisation to the next, always in the same order: results repeat,
// and what differs between orders shows as a race (Memory.cs). Those that stop are real threads of the host; those that do not follow each other on one (Threads.cs).
using System.Reflection;
using System.Runtime.ExceptionServices;
using ILGPU.Runtime;

namespace ILGPU.Emulation;

/// <summary>One kernel launch.</summary>
internal sealed class KernelLaunch
{
    private static int s_launches;
    private readonly Action _body;
    private readonly ThreadRack _rack;
    private readonly Turn _finished = new();
    private int _group;
    private ExceptionDispatchInfo? _failure;

    private KernelLaunch(Accelerator accelerator, MethodInfo kernel, KernelConfig config, Action body, ThreadRack rack)
    {
        GridDim = config.GridDim;
        GroupDim = config.GroupDim;
        WarpSize = accelerator.WarpSize;
        Kernel = $"{kernel.DeclaringType?.FullName?.Split('.')[^1]}.{kernel.Name}";
        Number = Interlocked.Increment(ref s_launches);
        _body = body;
        _rack = rack;
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
        var rack = ThreadRack.Rent(threads, accelerator.PlaceThread);
        var launch = new KernelLaunch(accelerator, kernel, config, body, rack);
        rack.Begin(launch.NextGroup(threads));
        launch._finished.Wait();
        rack.Return();
        launch._failure?.Throw();
    }

    /// <summary>Lets a thread run that has not begun.</summary>
    public void Begin(EmulatedThread thread) => _rack.Begin(thread);

    /// <summary>Called by the last thread of a group when it ends.</summary>
    /// <returns>The next group's first thread; null where there is none.</returns>
    public EmulatedThread? GroupEnded(EmulatedGroup group)
    {
        group.FreeShared();
        _failure = group.Failure;
        return _failure is null && _group < (long)GridDim.X * GridDim.Y * GridDim.Z ? NextGroup(group.Count) : null;
    }

    /// <summary>Called by a carrier that has nothing to carry, before it lets another run.</summary>
    public void PutBack(Carrier carrier) => _rack.PutBack(carrier);

    public void Finish() => _finished.Give();

    private EmulatedThread NextGroup(int threads)
    {
        var index = new Index3D(_group % GridDim.X, _group / GridDim.X % GridDim.Y, _group / GridDim.X / GridDim.Y);
        _group++;
        var group = new EmulatedGroup(this, index, _rack.Threads, threads);
        for (int i = 0; i < threads; i++)
            _rack.Threads[i].Prepare(group, i, _body);
        return _rack.Threads[0];
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
internal sealed class EmulatedGroup(KernelLaunch launch, Index3D index, List<EmulatedThread> threads, int count)
{
    private readonly List<MemoryBlock> _shared = [];
    private readonly ulong[] _exchange = new ulong[2 * count];

    public KernelLaunch Launch => launch;

    public Index3D Index => index;

    public int Count => count;

    /// <summary>Stretches between group barriers, counted.</summary>
    public int Interval { get; private set; }

    public ExceptionDispatchInfo? Failure { get; private set; }

    public bool Failed => Failure is not null;

    public void FreeShared()
    {
        foreach (MemoryBlock block in _shared)
            block.Free();
    }

    public void Fail(Exception e) => Failure ??= ExceptionDispatchInfo.Capture(e);

    public MemoryBlock Shared(int ordinal, long bytes)
    {
        if (ordinal == _shared.Count)
            _shared.Add(new MemoryBlock(bytes, 4));
        return _shared[ordinal].Bytes == bytes ? _shared[ordinal]
            : throw new InvalidOperationException($"{launch.Kernel}: threads of one group take different shared memory: {_shared[ordinal].Bytes} and {bytes} bytes.");
    }

    public ref ulong Slot(int thread, int parity) => ref _exchange[2 * thread + parity];

    /// <summary>Called by the running thread when it stops or ends: whose turn it is then, which may be the caller's own. Null where all have ended.</summary>
    public EmulatedThread? Next(EmulatedThread current)
    {
        if (current.State == ThreadState.AtWarpExchange)
            ReleaseWarp(current);
        EmulatedThread? next = FirstReady(current.Index);
        if (next is null && !Failed && !AllDone())
        {
            ReleaseGroup();
            next = FirstReady(-1);
        }
        return next;
    }

    private bool AllDone()
    {
        for (int i = 0; i < count; i++)
        {
            if (threads[i].State != ThreadState.Done)
                return false;
        }
        return true;
    }

    /// <summary>After a failure every thread is let run once more, to leave.</summary>
    private EmulatedThread? FirstReady(int after)
    {
        for (int i = 1; i <= count; i++)
        {
            EmulatedThread thread = threads[(after + i) % count];
            if (thread.State == ThreadState.Ready || (Failed && thread.State != ThreadState.Done))
                return thread;
        }
        return null;
    }

    private void ReleaseWarp(EmulatedThread current)
    {
        int first = current.Index / launch.WarpSize * launch.WarpSize, end = Math.Min(first + launch.WarpSize, count);
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
        for (int i = 0; i < count; i++)
        {
            EmulatedThread other = threads[i];
            if (other.State == ThreadState.AtGroupBarrier)
                continue;
            EmulatedThread waiting = threads.Take(count).First(thread => thread.State is ThreadState.AtGroupBarrier or ThreadState.AtWarpExchange);
            Fail(new InvalidOperationException($"{waiting.Name} waits at {waiting.Place}, {other.Name} {(other.State == ThreadState.Done ? "has ended" : $"waits at {other.Place}")}: a divergent barrier. A GPU hangs here."));
            return;
        }
        RequireSamePlace(0, count, "a barrier");
        Interval++;
        for (int i = 0; i < count; i++)
            threads[i].Release(warp: false);
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

    // Not null from its start to its end.
    private Carrier? _carrier;
    private EmulatedGroup? _group;
    private Action? _body;
    private int _sharedArrays;
    private int _warpInterval;

    public EmulatedThread() => Log = new AccessLog(this);

    public static EmulatedThread? Current => t_current;

    public static EmulatedThread Required => t_current ?? throw new InvalidOperationException("This is only there inside a kernel.");

    public AccessLog Log { get; }

    public int Index { get; private set; }

    public ThreadState State { get; private set; }

    /// <summary>File and line where it waits.</summary>
    public CodePlace Place { get; private set; }

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
        Log.Clear();
    }

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

    /// <summary>Runs its part of the kernel.</summary>
    /// <param name="carrier">The host's thread that calls.</param>
    /// <returns>A thread that is to begin on this carrier; null where it is to wait.</returns>
    public EmulatedThread? Run(Carrier carrier)
    {
        (t_current, _carrier) = (this, carrier);
        try
        {
            if (!Group.Failed)
                _body!(); // not null: Prepare came before
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
        (t_current, _carrier) = (null, null);
        KernelLaunch launch = Group.Launch;
        EmulatedThread? next = Group.Next(this) ?? launch.GroupEnded(Group);
        if (next is not null && next._carrier is null)
            return next;
        launch.PutBack(carrier);
        if (next is null)
            launch.Finish();
        else
            next._carrier!.GoOn(); // not null: just asked
        return null;
    }

    private void Stop(ThreadState state, string file, int line)
    {
        Log.Judge();
        Place = new CodePlace(file, line);
        State = state;
        EmulatedThread next = Group.Next(this) ?? throw new InvalidOperationException($"{Name} has stopped, and all have ended.");
        if (next != this)
        {
            Carrier own = _carrier!; // not null: it runs
            if (next._carrier is { } carrier)
                carrier.GoOn();
            else
                Group.Launch.Begin(next);
            own.Wait();
        }
        if (Group.Failed)
            throw new AbandonedException();
    }

    private sealed class AbandonedException : Exception;
}

/// <summary>A place in a kernel's source.</summary>
internal readonly record struct CodePlace(string File, int Line)
{
    public override string ToString() => $"{Path.GetFileName(File)}:{Line}";
}
