// How an op's rows or elements are cut into pieces for the worker pool, and which vector width runs them. The cut depends on
// sizes only, never on the number of threads, so results do not either.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Cpu;

/// <summary>Work on whole rows, at any vector width.</summary>
internal interface IRowKernel
{
    /// <summary>Does rows <paramref name="first"/> to <paramref name="end"/> - 1.</summary>
    void Rows<V>(long first, long end)
        where V : unmanaged, ISimd<V>;
}

/// <summary>Work on the lanes that begin at one element; loads, computes and stores.</summary>
internal interface IElementKernel
{
    void At<V>(long i)
        where V : unmanaged, ISimd<V>;
}

/// <summary>Runs kernels over a CPU device's threads.</summary>
internal static class CpuRows
{
    // 16 K floats are 64 KB: a few microseconds of work, far above the cost of handing a piece over, and inside L2.
    private const long ElementsPerTask = 16 * 1024;

    /// <summary>Runs <paramref name="kernel"/> over all rows.</summary>
    /// <param name="cpu">Whose threads.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="rowElements">Elements that one row touches, to size the pieces.</param>
    /// <param name="kernel">The work.</param>
    public static void Run<TKernel>(CpuDevice cpu, long rows, long rowElements, in TKernel kernel)
        where TKernel : unmanaged, IRowKernel
    {
        // A piece counter is an int: very many tiny rows get larger pieces.
        long perTask = Math.Max(Math.Max(1, ElementsPerTask / Math.Max(1, rowElements)), rows / (1 << 30) + 1);
        var body = new RowBody<TKernel>(kernel, rows, perTask);
        cpu.Pool.Run((int)((rows + perTask - 1) / perTask), ref body);
    }

    /// <summary>Runs <paramref name="kernel"/> over <paramref name="elements"/> elements, remainders lane by lane.</summary>
    public static void RunElements<TKernel>(CpuDevice cpu, long elements, in TKernel kernel)
        where TKernel : unmanaged, IElementKernel => Run(cpu, elements, 1, new ElementRows<TKernel>(kernel));

    /// <summary>Calls the kernel at the machine's widest vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Widest<TKernel>(ref TKernel kernel, long first, long end)
        where TKernel : unmanaged, IRowKernel
    {
        if (Vector512.IsHardwareAccelerated)
            kernel.Rows<F32x16>(first, end);
        else if (Vector256.IsHardwareAccelerated)
            kernel.Rows<F32x8>(first, end);
        else if (Vector128.IsHardwareAccelerated)
            kernel.Rows<F32x4>(first, end);
        else
            kernel.Rows<F32x1>(first, end);
    }

    private struct RowBody<TKernel>(TKernel kernel, long rows, long perTask) : IParallelBody
        where TKernel : unmanaged, IRowKernel
    {
        private TKernel _kernel = kernel;

        public void Invoke(int task, int worker)
        {
            long first = task * perTask;
            Widest(ref _kernel, first, Math.Min(rows, first + perTask));
        }
    }

    private struct ElementRows<TKernel>(TKernel kernel) : IRowKernel
        where TKernel : unmanaged, IElementKernel
    {
        [MethodImpl(Jit.Loop)]
        public readonly void Rows<V>(long first, long end)
            where V : unmanaged, ISimd<V>
        {
            // A copy on this thread's stack: fields then live in registers.
            TKernel local = kernel;
            long i = first;
            for (; i <= end - V.Lanes; i += V.Lanes)
                local.At<V>(i);
            for (; i < end; i++)
                local.At<F32x1>(i);
        }
    }
}
