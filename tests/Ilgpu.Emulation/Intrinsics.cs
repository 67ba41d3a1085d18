// What a kernel may ask of the machine: its indices, barriers, shuffles, shared memory, atomics, bit casts.
using System.Runtime.CompilerServices;
using ILGPU.Emulation;

namespace ILGPU;

/// <summary>The thread's place in its group, and the group's barrier.</summary>
public static class Group
{
    public static int IdxX => EmulatedThread.Required.Index % DimX;

    public static int DimX => EmulatedThread.Required.Group.Launch.GroupDim.X;

    /// <summary>Waits for all threads of the group. All must come to the same line.</summary>
    public static void Barrier([CallerFilePath] string file = "", [CallerLineNumber] int line = 0) => EmulatedThread.Required.GroupBarrier(file, line);
}

/// <summary>The group's place in the grid.</summary>
public static class Grid
{
    public static int IdxX => EmulatedThread.Required.Group.Index.X;

    public static int IdxY => EmulatedThread.Required.Group.Index.Y;

    public static int IdxZ => EmulatedThread.Required.Group.Index.Z;

    public static int DimX => EmulatedThread.Required.Group.Launch.GridDim.X;

    public static int DimY => EmulatedThread.Required.Group.Launch.GridDim.Y;

    public static int DimZ => EmulatedThread.Required.Group.Launch.GridDim.Z;
}

/// <summary>Threads that exchange registers.</summary>
public static class Warp
{
    public static int WarpSize => EmulatedThread.Required.Group.Launch.WarpSize;

    public static int LaneIdx => EmulatedThread.Required.Index % WarpSize;

    public static int WarpIdx => EmulatedThread.Required.Index / WarpSize;

    /// <summary>Orders the warp's memory accesses.</summary>
    public static void Barrier([CallerFilePath] string file = "", [CallerLineNumber] int line = 0) => EmulatedThread.Required.WarpExchange(0, 0, file, line);

    public static T Shuffle<T>(T variable, int sourceLane, [CallerFilePath] string file = "", [CallerLineNumber] int line = 0)
        where T : unmanaged => Exchange(variable, sourceLane, file, line);

    public static T ShuffleXor<T>(T variable, int mask, [CallerFilePath] string file = "", [CallerLineNumber] int line = 0)
        where T : unmanaged => Exchange(variable, LaneIdx ^ mask, file, line);

    private static unsafe T Exchange<T>(T variable, int sourceLane, string file, int line)
        where T : unmanaged
    {
        if (sizeof(T) > sizeof(ulong))
            throw new InvalidOperationException($"{EmulatedThread.Describe()} shuffles {sizeof(T)} bytes; the emulation carries 8.");
        ulong sent = 0;
        Unsafe.WriteUnaligned(&sent, variable);
        ulong received = EmulatedThread.Required.WarpExchange(sent, sourceLane, file, line);
        return Unsafe.ReadUnaligned<T>(&received);
    }
}

/// <summary>Memory that a group shares; filled with NaN patterns before the group begins.</summary>
public static class SharedMemory
{
    public static ArrayView<T> Allocate<T>(int extent)
        where T : unmanaged => EmulatedThread.Required.Shared<T>(extent);
}

/// <summary>Read-modify-write of one element; ordered, so never a race.</summary>
public static unsafe class Atomic
{
    public static int Add(ref int target, int value) => Done(ref target, (nint)Unsafe.AsPointer(ref target), target + value);

    public static long Min(ref long target, long value) => Done(ref target, (nint)Unsafe.AsPointer(ref target), Math.Min(target, value));

    private static T Done<T>(ref T target, nint address, T value)
    {
        EmulatedThread.Required.Log.RemoveLast(address);
        T before = target;
        target = value;
        return before;
    }
}

/// <summary>Bit casts.</summary>
public static class Interop
{
    public static uint FloatAsInt(float value) => BitConverter.SingleToUInt32Bits(value);

    public static float IntAsFloat(uint value) => BitConverter.UInt32BitsToSingle(value);

    public static ulong FloatAsInt(double value) => BitConverter.DoubleToUInt64Bits(value);

    public static double IntAsFloat(ulong value) => BitConverter.UInt64BitsToDouble(value);
}

/// <summary>Three numbers of a grid or a group.</summary>
public readonly record struct Index3D(int X, int Y, int Z);

/// <summary>How many groups of how many threads.</summary>
public readonly record struct KernelConfig(Index3D GridDim, Index3D GroupDim);
