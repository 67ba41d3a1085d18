// Keeps a computing thread on a core of its own while threads of its kind fill the machine. Deliberately not: priorities, NUMA nodes, systems other than Linux.
using System.Numerics;
using System.Runtime.InteropServices;

namespace IptNative.Kernels.Devices;

/// <summary>Where the calling thread may run.</summary>
/// <remarks>
/// Linux leaves two busy threads on one core for tens of milliseconds while the other core serves threads that wake for microseconds: it looks idle too briefly
/// for one of the two to be moved there. A thread per core that stays on its core cannot meet another. Where the system does not allow it, the thread stays where it is put.
/// </remarks>
public static unsafe partial class ThreadPlace
{
    // 1024 cores, as in glibc's cpu_set_t.
    private const int Words = 16;

    private static readonly ulong[] Allowed = Read();

    /// <summary>Binds the calling thread to one of the cores that the process may use.</summary>
    /// <param name="number">Which of them, 0 or more; beyond the last it begins again with the first.</param>
    public static void Stay(int number)
    {
        int cores = 0;
        foreach (ulong word in Allowed)
            cores += BitOperations.PopCount(word);
        if (cores == 0)
            return;
        int left = number % cores;
        ulong* one = stackalloc ulong[Words];
        new Span<ulong>(one, Words).Clear();
        for (int core = 0; ; core++)
        {
            if ((Allowed[core / 64] >> (core % 64) & 1) == 0 || left-- > 0)
                continue;
            one[core / 64] = 1UL << (core % 64);
            Set(one);
            return;
        }
    }

    /// <summary>Lets the calling thread run on every core that the process may use.</summary>
    public static void Roam()
    {
        if (Allowed.Length == 0)
            return;
        fixed (ulong* all = Allowed)
            Set(all);
    }

    /// <summary>Tells the system that the calling thread computes for long stretches: threads that wake for microseconds, such as those of connections, need not wait for its turn to end.</summary>
    /// <remarks>Linux 6.12 and newer: the longest slice that there is, with the same share of the cores. Elsewhere nothing changes.</remarks>
    public static void TakeLongTurns()
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture is not (Architecture.X64 or Architecture.Arm64))
            return;
        var attributes = new SchedulingAttributes { Size = (uint)sizeof(SchedulingAttributes), Nice = GetPriority(0, 0), Runtime = LongestTurn };
        _ = SystemCall(RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 314 : 274, 0, &attributes, 0);
    }

    // Of the main thread, which nobody binds.
    private static ulong[] Read()
    {
        if (!OperatingSystem.IsLinux())
            return [];
        ulong[] mask = new ulong[Words];
        fixed (ulong* to = mask)
            return GetAffinity(Environment.ProcessId, sizeof(ulong) * Words, to) >= 0 ? mask : [];
    }

    // A refusal is no failure: the thread merely stays where it is put.
    private static void Set(ulong* mask) => _ = SetAffinity(0, sizeof(ulong) * Words, mask);

    // Nanoseconds; the kernel takes no more.
    private const ulong LongestTurn = 100_000_000;

    // The kernel's struct sched_attr, in its first size; policy 0 is the normal one.
    private struct SchedulingAttributes
    {
        public uint Size, Policy;
        public ulong Flags;
        public int Nice;
        public uint Priority;
        public ulong Runtime, Deadline, Period;
    }

    // sched_setattr has no wrapper in every libc. A refusal is no failure here either.
    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial long SystemCall(long number, long thread, SchedulingAttributes* attributes, uint flags);

    [LibraryImport("libc", EntryPoint = "getpriority")]
    private static partial int GetPriority(int ofThread, uint thread);

    [LibraryImport("libc", EntryPoint = "sched_getaffinity")]
    private static partial int GetAffinity(int thread, nuint bytes, ulong* mask);

    [LibraryImport("libc", EntryPoint = "sched_setaffinity")]
    private static partial int SetAffinity(int thread, nuint bytes, ulong* mask);
}
