// Device memory of the emulation and its shadow: for every element, which thread wrote and read it last, and when. Two accesses to one element race
// when threads of different groups make them in one launch, or different threads of a group between two barriers, and one is a write. A view hands
// out references, so a write is seen by the element having changed when the thread next lets others run: a write of the same value is not seen.
using System.Runtime.InteropServices;

namespace ILGPU.Emulation;

/// <summary>All allocations of one accelerator, by address.</summary>
internal sealed class DeviceMemory : IDisposable
{
    private readonly SortedList<nint, MemoryBlock> _blocks = [];

    public MemoryBlock Allocate(long bytes, int granularity)
    {
        var block = new MemoryBlock(bytes, granularity);
        lock (_blocks)
            _blocks.Add(block.Address, block);
        return block;
    }

    public void Free(MemoryBlock block)
    {
        lock (_blocks)
        {
            if (_blocks.Remove(block.Address))
                block.Free();
        }
    }

    /// <summary>The allocation that holds a range.</summary>
    public MemoryBlock Find(nint address, long bytes)
    {
        lock (_blocks)
        {
            int low = 0, high = _blocks.Count;
            while (low < high)
            {
                int middle = (low + high) / 2;
                if (_blocks.Keys[middle] <= address)
                    low = middle + 1;
                else
                    high = middle;
            }
            if (low > 0 && _blocks.Values[low - 1] is { } block && address + bytes <= block.Address + block.Bytes)
                return block;
        }
        throw new InvalidOperationException($"A view of {bytes} bytes at {address:x} is inside no allocation.");
    }

    public void Dispose()
    {
        foreach (MemoryBlock block in _blocks.Values)
            block.Free();
        _blocks.Clear();
    }
}

/// <summary>One allocation, or one array of a group's shared memory.</summary>
internal sealed unsafe class MemoryBlock
{
    private const int PageWords = 1024;
    private readonly Word[]?[] _pages;

    public MemoryBlock(long bytes, int granularity)
    {
        Bytes = bytes;
        Granularity = granularity;
        Address = (nint)NativeMemory.AlignedAlloc((nuint)Math.Max(bytes, 1), 256);
        _pages = new Word[]?[bytes / granularity / PageWords + 1];
        Scramble();
    }

    public nint Address { get; }

    public long Bytes { get; }

    /// <summary>Bytes that are watched as one.</summary>
    public int Granularity { get; }

    public bool IsFreed { get; private set; }

    /// <summary>0xFF everywhere: NaN, or -1.</summary>
    public void Scramble() => NativeMemory.Fill((void*)Address, (nuint)Bytes, 0xFF);

    public void Free()
    {
        if (!IsFreed)
            NativeMemory.AlignedFree((void*)Address);
        IsFreed = true;
    }

    public ref Word Shadow(long word) => ref (_pages[word / PageWords] ??= new Word[PageWords])[word % PageWords];
}

/// <summary>When a thread touched an element.</summary>
internal readonly record struct Stamp(int Launch, int Group, int Interval, int Thread, int WarpInterval);

/// <summary>The last write of an element and the reads since; of several reads the last, and whether there were others.</summary>
internal struct Word
{
    public Stamp Write;
    public Stamp Read;
    public bool OtherThreadsRead;
    public bool OtherWarpsRead;
}

/// <summary>What a thread touched since it last let others run.</summary>
internal sealed unsafe class AccessLog(EmulatedThread thread)
{
    // A long stretch without a barrier is looked at in between; the newest entries wait, because a write comes after its reference.
    private const int Longest = 1 << 14;
    private const int Newest = 16;
    private Entry[] _entries = new Entry[64];
    private int _count;

    private struct Entry
    {
        public MemoryBlock Block;
        public nint Address;
        public int Bytes;
        public ulong Low, High;
    }

    public void Add(MemoryBlock block, nint address, int bytes)
    {
        if (_count >= Longest)
            Judge(Newest);
        if (_count == _entries.Length)
            Array.Resize(ref _entries, 2 * _count);
        ref Entry entry = ref _entries[_count++];
        entry.Block = block;
        entry.Address = address;
        entry.Bytes = bytes;
        (entry.Low, entry.High) = Content(address, bytes);
    }

    /// <summary>Forgets an access that turned out to be atomic.</summary>
    public void RemoveLast(nint address)
    {
        for (int i = _count - 1; i >= 0; i--)
        {
            if (_entries[i].Address == address)
            {
                Array.Copy(_entries, i + 1, _entries, i, --_count - i);
                return;
            }
        }
    }

    /// <summary>Forgets what a failed kernel left.</summary>
    public void Clear() => _count = 0;

    /// <summary>Compares what was touched with what others did, and writes it down.</summary>
    public void Judge(int keep = 0)
    {
        int judged = Math.Max(0, _count - keep);
        for (int i = 0; i < judged; i++)
        {
            Entry entry = _entries[i];
            bool wrote = !entry.Block.IsFreed && Content(entry.Address, entry.Bytes) != (entry.Low, entry.High);
            long first = (entry.Address - entry.Block.Address) / entry.Block.Granularity, words = Math.Max(1, entry.Bytes / entry.Block.Granularity);
            for (long word = first; word < first + words; word++)
                Judge(ref entry.Block.Shadow(word), wrote, entry, word);
        }
        Array.Copy(_entries, judged, _entries, 0, _count - judged);
        _count -= judged;
    }

    private void Judge(ref Word word, bool wrote, in Entry entry, long index)
    {
        Stamp now = thread.Now;
        bool raced = Races(word.Write, now);
        if (wrote)
        {
            raced |= Races(word.Read, now) || (Together(word.Read, now) && (word.OtherWarpsRead || (word.OtherThreadsRead && word.Read.WarpInterval == now.WarpInterval)));
            word.Write = now;
            word.Read = default;
            word.OtherThreadsRead = word.OtherWarpsRead = false;
        }
        else
        {
            bool same = Together(word.Read, now);
            word.OtherThreadsRead = same && (word.OtherThreadsRead || word.Read.Thread != now.Thread);
            word.OtherWarpsRead = same && (word.OtherWarpsRead || thread.WarpOf(word.Read.Thread) != thread.WarpOf(now.Thread));
            word.Read = now;
        }
        if (raced)
        {
            throw new InvalidOperationException(
                $"{thread.Name} {(wrote ? "writes" : "reads")} element {index} of {entry.Block.Bytes} bytes, which another thread {(wrote ? "touches" : "writes")} without a barrier between.");
        }
    }

    private static bool Together(Stamp then, Stamp now) => then.Launch == now.Launch && (then.Group != now.Group || then.Interval == now.Interval);

    private bool Races(Stamp then, Stamp now) =>
        Together(then, now) && (then.Group != now.Group
            || (then.Thread != now.Thread && (thread.WarpOf(then.Thread) != thread.WarpOf(now.Thread) || then.WarpInterval == now.WarpInterval)));

    private static (ulong Low, ulong High) Content(nint address, int bytes) => bytes switch
    {
        1 => (*(byte*)address, 0),
        2 => (*(ushort*)address, 0),
        4 => (*(uint*)address, 0),
        8 => (*(ulong*)address, 0),
        16 => (*(ulong*)address, *(ulong*)(address + 8)),
        _ => throw new InvalidOperationException($"A kernel moves {bytes} bytes at once; a GPU moves 1, 2, 4, 8 or 16."),
    };
}
