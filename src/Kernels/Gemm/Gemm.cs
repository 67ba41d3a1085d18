// The matrix product: entry, choice of micro-kernel and of stored format, cutting into pieces. The loops are in GemmBodies.cs.
using System.Runtime.Intrinsics;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>C (= or +=) alpha op(A) op(B), batched.</summary>
/// <remarks>
/// Numerics  f32 sums over k ascending in blocks of 256, fused multiply-add where the machine has it: |error| &lt;= (K + blocks + 2) eps sum|a||b|.
///           The order does not depend on threads, so a result is the same bits for any number of them; it does on the vector width (fused or not).
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
#if ILGPU
        if (device is IlgpuDevice gpu)
        {
            gpu.Multiply(args);
            return;
        }
#endif
        if (device is not CpuDevice cpu)
            throw Require.NoKernel("Gemm.Run", device);
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
    internal static unsafe void RunWith<TKernel>(CpuDevice cpu, in GemmArgs args)
        where TKernel : struct, IMicroKernel
    {
        switch (args.B.DType)
        {
            case DType.BF16:
                Execute<TKernel, BF16Source>(cpu, args, new BF16Source((ushort*)args.B.Address, args.StepB));
                break;
            case DType.F16:
                Execute<TKernel, F16Source>(cpu, args, new F16Source((ushort*)args.B.Address, args.StepB));
                break;
            default:
                Execute<TKernel, F32Source>(cpu, args, new F32Source((float*)args.B.Address, args.StepB));
                break;
        }
    }

    private static void Execute<TKernel, TSource>(CpuDevice cpu, in GemmArgs args, TSource b)
        where TKernel : struct, IMicroKernel
        where TSource : unmanaged, IPackSource<TSource>
    {
        var problem = new GemmProblem<TSource>(cpu, args, b);
        bool packOnce = args.M > GemmBlocking.PrivateRows && args.Flops / args.Batches >= GemmBlocking.SharedFlops;
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
        int rowBlocks = GemmBlocking.Pieces(args.M, GemmBlocking.SharedRows);
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
                        var block = new GemmBlock(batch, n0, nc, k0, Math.Min(GemmBlocking.Kc, args.K - k0), groupColumns, groups);
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
        int wanted = args.Flops < GemmBlocking.SerialFlops ? 1 : GemmBlocking.PiecesPerWorker * cpu.Pool.Workers;
        int rowPieces = GemmBlocking.Pieces(args.M, GemmBlocking.PrivateRows);
        int columnPieces = 1;
        if ((long)rowPieces * args.Batches < wanted)
        {
            columnPieces = Math.Max(1, Math.Min(GemmBlocking.Pieces(wanted, rowPieces * args.Batches), args.N / GemmBlocking.PrivateColumns));
            int missing = GemmBlocking.Pieces(wanted, rowPieces * args.Batches * columnPieces);
            rowPieces = Math.Max(rowPieces, Math.Min(rowPieces * missing, args.M / GemmBlocking.SharedRows));
        }
        int rows = GemmBlocking.EvenPart(args.M, rowPieces, TKernel.Rows);
        int columns = GemmBlocking.EvenPart(args.N, columnPieces, TKernel.Columns);
        rowPieces = GemmBlocking.Pieces(args.M, rows);
        columnPieces = GemmBlocking.Pieces(args.N, columns);
        long pieces = (long)args.Batches * rowPieces * columnPieces;
        var body = new MultiplyPrivately<TKernel, TSource>(problem, rows, columns, rowPieces, columnPieces);
        cpu.Pool.Run(checked((int)pieces), ref body);
    }
}
