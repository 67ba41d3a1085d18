// The host's threads that carry emulated ones, and how one lets another run. Exactly one of a launch runs at a time, so a switch is what costs: the threads of a
// launch stay on one core, and a switch there is one sleeping and one waking call of the system.
using System.Runtime.InteropServices;

namespace ILGPU.Emulation;

/// <summary>Leave to run, given by one thread to another. Deliberately no SemaphoreSlim: it spins before it sleeps, and exactly one thread has work.</summary>
internal sealed unsafe partial class Turn
{
    private const int None = 0, Given = 1, Awaited = 2;

    // futex(2), with FUTEX_PRIVATE_FLAG.
    private const int WaitWhile = 128, Wake = 129;

    private static readonly nint FutexCall = !OperatingSystem.IsLinux() ? 0 : RuntimeInformation.ProcessArchitecture switch
    {
        Architecture.X64 => 202,
        Architecture.Arm64 => 98,
        _ => 0,
    };

    // Kept for the process's life, as the threads are.
    private readonly int* _state = (int*)NativeMemory.AllocZeroed(64);

    public void Give()
    {
        if (FutexCall == 0)
        {
            lock (this)
            {
                *_state = Given;
                Monitor.Pulse(this);
            }
        }
        else if (Interlocked.Exchange(ref *_state, Given) == Awaited)
        {
            _ = SystemCall(FutexCall, _state, Wake, 1, 0);
        }
    }

    public void Wait()
    {
        if (FutexCall == 0)
        {
            lock (this)
            {
                while (*_state != Given)
                    Monitor.Wait(this);
                *_state = None;
            }
            return;
        }
        if (Interlocked.CompareExchange(ref *_state, Awaited, None) == None)
        {
            // It also returns for signals and for no reason.
            while (Volatile.Read(ref *_state) == Awaited)
                _ = SystemCall(FutexCall, _state, WaitWhile, Awaited, 0);
        }
        Volatile.Write(ref *_state, None);
    }

    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint SystemCall(nint number, int* address, int operation, int value, nint timeout);
}

/// <summary>A thread of the host. It carries an emulated thread from its start to its end, then the next one that has not begun; where one stops, it waits with it.</summary>
internal sealed class Carrier
{
    private readonly Turn _turn = new();
    private EmulatedThread? _begin;

    public Carrier(Action place)
    {
        // A kernel is shallow; a thousand threads of the default size would not be.
        new Thread(() => Loop(place), 256 * 1024) { IsBackground = true, Name = "emulated GPU thread" }.Start();
    }

    public void Begin(EmulatedThread thread)
    {
        _begin = thread;
        _turn.Give();
    }

    public void GoOn() => _turn.Give();

    public void Wait() => _turn.Wait();

    private void Loop(Action place)
    {
        place();
        while (true)
        {
            _turn.Wait();
            EmulatedThread? thread = _begin;
            while (thread is not null)
                thread = thread.Run(this);
        }
    }
}

/// <summary>What a launch needs of threads, kept for the next: the emulated ones and those that carry them, all on one core.</summary>
internal sealed class ThreadRack
{
    private static readonly Stack<ThreadRack> Kept = new();
    private static int s_racks;
    private readonly Action _place;
    private readonly Stack<Carrier> _idle = new();

    private ThreadRack(Action<int> place)
    {
        int number = s_racks++;
        _place = () => place(number);
    }

    public List<EmulatedThread> Threads { get; } = [];

    /// <summary>One that nobody uses.</summary>
    /// <param name="threads">Emulated threads that it has to have.</param>
    /// <param name="place">Binds the calling thread to the core of a number.</param>
    public static ThreadRack Rent(int threads, Action<int> place)
    {
        ThreadRack? rack;
        lock (Kept)
        {
            if (!Kept.TryPop(out rack))
                rack = new ThreadRack(place);
        }
        while (rack.Threads.Count < threads)
            rack.Threads.Add(new EmulatedThread());
        return rack;
    }

    public void Return()
    {
        lock (Kept)
            Kept.Push(this);
    }

    /// <summary>Lets an emulated thread begin on a host's thread that carries none.</summary>
    public void Begin(EmulatedThread thread)
    {
        if (!_idle.TryPop(out Carrier? carrier))
            carrier = new Carrier(_place);
        carrier.Begin(thread);
    }

    /// <summary>Takes back what <see cref="Begin"/> took; called before anything else may run.</summary>
    public void PutBack(Carrier carrier) => _idle.Push(carrier);
}
