// The matrix product: entry, choice of micro-kernel and of stored format, cutting into pieces. The loops are in GemmBodies.cs.
using System.Runtime.Intrinsics;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>C (= or +=) alpha op(A) op(B), batched.</summary>
/// <remarks>
/// Numerics  f32 sums over k ascending in blocks of 768, fused multiply-add where the machine has it: |error| &lt;= (K + blocks + 2) eps sum|a||b|.
///           The order does not depend on threads, so a result is the same bits for any number of them; it does on the vector width (fused or not).
///           With <see cref="ComputeType.BF16"/> that bound holds against the rounded operands; on AVX512-BF16 two products enter
///           a sum at a time, and subnormal sums become zero.
/// Source    Goto and van de Geijn 2008, Anatomy of High-Performance Matrix Multiplication; BLIS's five loops.
/// </remarks>
public static class Gemm
{
    /// <summary>Computes the product; allocates nothing.</summary>
    /// <param name="device">Holds the operands and does the work.</param>
    /// <param name="args">Operands and dimensions.</param>
    /// <exception cref="ArgumentException">Dimensions, strides or element types do not fit.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Run(ComputeDevice device, in GemmArgs args)
    {
        ArgumentNullException.ThrowIfNull(device);
        args.Validate(device);
        using OpScope trace = OpTrace.Enter(args);
#if ILGPU
        if (device is IlgpuDevice gpu)
        {
            if (FewRowsGemm.Takes(gpu, args))
                FewRowsGemm.Run(gpu, args);
            else
                gpu.Multiply(args);
            return;
        }
#endif
        if (device is not CpuDevice cpu)
            throw Require.NoKernel("Gemm.Run", device);
        if (args.ComputesIn(cpu) == ComputeType.BF16 && cpu.MachineCode.Status.IsActive)
            BF16Gemm.Run(cpu, args);
        else
            RunManaged(cpu, args);
    }

    /// <summary>The product by the widest managed micro-kernel, validated arguments; bf16 operands are rounded while packing.</summary>
    internal static void RunManaged(CpuDevice cpu, in GemmArgs args)
    {
        if (Vector512.IsHardwareAccelerated)
            RunWith<MicroKernel512>(cpu, args);
        else if (Vector256.IsHardwareAccelerated)
            RunWith<MicroKernel256>(cpu, args);
        else if (Vector128.IsHardwareAccelerated)
            RunWith<MicroKernel128>(cpu, args);
        else
            RunWith<MicroKernelScalar>(cpu, args);
    }

    /// <summary>The product by a named micro-kernel, validated arguments; tests compare them all on one machine.</summary>
    internal static void RunWith<TKernel>(CpuDevice cpu, in GemmArgs args)
        where TKernel : struct, IMicroKernel => StoredB.Choose(args, new ExecuteWith<TKernel>(cpu, args));

    private readonly struct ExecuteWith<TKernel>(CpuDevice cpu, GemmArgs args) : IWithStoredB
        where TKernel : struct, IMicroKernel
    {
        public void Run<TSource>(TSource b)
            where TSource : unmanaged, IPackSource<TSource> => Execute<TKernel, TSource>(cpu, args, b);
    }

    private static void Execute<TKernel, TSource>(CpuDevice cpu, in GemmArgs args, TSource b)
        where TKernel : struct, IMicroKernel
        where TSource : unmanaged, IPackSource<TSource>
    {
        var problem = new GemmProblem<TSource>(cpu, args, b);
        bool packOnce = args.M > GemmBlocking.MostRows && args.Flops / args.Batches >= GemmBlocking.SharedFlops;
        // Inside another op's body the shared block may be in use; one thread that packs for itself is always safe.
        if (packOnce && !cpu.Pool.IsInsideBody)
            PackOnce<TKernel, TSource>(cpu, args, ref problem);
        else
            PackEach<TKernel, TSource>(cpu, args, ref problem);
    }

    // B's block is packed by all threads, then all multiply their rows by it.
    private static void PackOnce<TKernel, TSource>(CpuDevice cpu, in GemmArgs args, ref GemmProblem<TSource> problem)
        where TKernel : struct, IMicroKernel
        where TSource : unmanaged, IPackSource<TSource>
    {
        // As large as they may be, and as many for each thread.
        int even = GemmBlocking.Pieces(GemmBlocking.Pieces(args.M, GemmBlocking.MostRows), cpu.Pool.Workers) * cpu.Pool.Workers;
        int rows = GemmBlocking.EvenPart(args.M, Math.Min(even, GemmBlocking.Pieces(args.M, GemmBlocking.LeastRows)), TKernel.Rows);
        int rowBlocks = GemmBlocking.Pieces(args.M, rows);
        lock (cpu.Pool.Gate)
        {
            for (int batch = 0; batch < args.Batches; batch++)
            {
                for (int n0 = 0; n0 < args.N; n0 += GemmBlocking.Nc)
                {
                    int nc = Math.Min(GemmBlocking.Nc, args.N - n0);
                    int panels = GemmBlocking.Pieces(nc, TKernel.Columns);
                    // Few rows for many threads: the columns are shared out too.
                    int groups = Math.Min(panels, GemmBlocking.Pieces(GemmBlocking.PiecesPerWorker * cpu.Pool.Workers, rowBlocks));
                    int groupColumns = GemmBlocking.EvenPart(nc, groups, TKernel.Columns);
                    groups = GemmBlocking.Pieces(nc, groupColumns);
                    for (int k0 = 0; k0 < args.K; k0 += GemmBlocking.Kc)
                    {
                        var block = new GemmBlock(batch, n0, nc, k0, Math.Min(GemmBlocking.Kc, args.K - k0), rows, groupColumns, groups);
                        var pack = new PackSharedB<TKernel, TSource>(problem, block);
                        cpu.Pool.Run(panels, ref pack);
                        var multiply = new MultiplySharedB<TKernel, TSource>(problem, block);
                        cpu.Pool.Run(rowBlocks * groups, ref multiply);
                    }
                }
            }
        }
    }

    // Every piece packs what it needs: small products, few rows, batches.
    private static void PackEach<TKernel, TSource>(CpuDevice cpu, in GemmArgs args, ref GemmProblem<TSource> problem)
        where TKernel : struct, IMicroKernel
        where TSource : unmanaged, IPackSource<TSource>
    {
        GemmCut cut = GemmCut.ForPrivatePacking(args, cpu.Pool.Workers, GemmBlocking.MostRows, TKernel.Rows, TKernel.Columns);
        var body = new MultiplyPrivately<TKernel, TSource>(problem, cut);
        cpu.Pool.Run(cut.Pieces, ref body);
    }
}
