// The bf16 matrix product on machine code: choice of stored formats, cutting into pieces. The loops are in BF16Bodies.cs, the tiles in BF16Table.cs.
// Beside Gemm.cs and not inside it, because here a strip of A stays and panels of B stream by, where the float tiles keep the panel.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Cpu;

/// <summary>Block sizes in words of two bf16, measured on Zen 4 (L1 32 KiB, L2 1 MiB a core).</summary>
internal static class BF16Blocking
{
    /// <summary>Rows of A packed for one piece of work when B is packed for all.</summary>
    public const int SharedRows = 4 * BF16Tile.Rows;

    /// <summary>Rows of A packed at most when a piece packs both operands itself.</summary>
    public const int PrivateRows = 20 * BF16Tile.Rows;

    /// <summary>Words of the block of B that all threads share: 1024 columns at the full depth, more at less. 1.5 MiB come from L3, which keeps up; fewer columns repeat A's packing.</summary>
    public const long SharedPairs = BF16Tile.Kc / 2 * 1024;

    /// <summary>Words of each thread's block of A.</summary>
    public const long BlockPairs = PrivateRows * BF16Tile.StripStep / sizeof(uint);

    /// <summary>Words of each thread's panels of B: 256 columns at the full depth.</summary>
    public const long PanelPairs = BF16Tile.Kc / 2 * 256;

    /// <summary>Columns whose packed panels fit into <paramref name="words"/>.</summary>
    public static int Columns(long words, int pairs) => (int)Math.Min(words / pairs / BF16Tile.Columns * BF16Tile.Columns, int.MaxValue / 2);
}

/// <summary>C (= or +=) alpha op(A) op(B) with operands rounded to bf16, batched.</summary>
internal static unsafe class BF16Gemm
{
    /// <summary>Computes the product of validated arguments; allocates nothing. The device's machine code must be active.</summary>
    public static void Run(CpuDevice cpu, in GemmArgs args)
    {
        if (args.A.DType == DType.BF16)
            StoredB.Choose(args, new ExecuteWith<BF16Source>(cpu, args, new BF16Source((ushort*)args.A.Address, args.StepA)));
        else
            StoredB.Choose(args, new ExecuteWith<F32Source>(cpu, args, new F32Source((float*)args.A.Address, args.StepA)));
    }

    /// <summary>Bits of the first <paramref name="columns"/> of 16 columns, any number.</summary>
    public static uint Mask(int columns) => (uint)((1 << Math.Clamp(columns, 0, 16)) - 1);

    private readonly struct ExecuteWith<TA>(CpuDevice cpu, GemmArgs args, TA a) : IWithStoredB
        where TA : unmanaged, IPackSource<TA>
    {
        public void Run<TB>(TB b)
            where TB : unmanaged, IPackSource<TB> => Execute(cpu, args, a, b);
    }

    private static void Execute<TA, TB>(CpuDevice cpu, in GemmArgs args, TA a, TB b)
        where TA : unmanaged, IPackSource<TA>
        where TB : unmanaged, IPackSource<TB>
    {
        var problem = new BF16Problem<TA, TB>(cpu, args, a, b);
        bool packOnce = args.M > BF16Blocking.PrivateRows && args.Flops / args.Batches >= GemmBlocking.SharedFlops;
        // Inside another op's body the shared block may be in use; one thread that packs for itself is always safe.
        if (packOnce && !cpu.Pool.IsInsideBody)
            PackOnce(cpu, args, problem);
        else
            PackEach(cpu, args, problem);
    }

    // B's block is packed by all threads, then all multiply their rows by it.
    private static void PackOnce<TA, TB>(CpuDevice cpu, in GemmArgs args, in BF16Problem<TA, TB> problem)
        where TA : unmanaged, IPackSource<TA>
        where TB : unmanaged, IPackSource<TB>
    {
        int rowBlocks = GemmBlocking.Pieces(args.M, BF16Blocking.SharedRows);
        int deepest = (Math.Min(BF16Tile.Kc, args.K) + 1) / 2;
        int atOnce = BF16Blocking.Columns(BF16Blocking.SharedPairs, deepest);
        lock (cpu.Pool.Gate)
        {
            for (int batch = 0; batch < args.Batches; batch++)
            {
                for (int n0 = 0; n0 < args.N; n0 += atOnce)
                {
                    int nc = Math.Min(atOnce, args.N - n0);
                    int panels = GemmBlocking.Pieces(nc, BF16Tile.Columns);
                    // Few rows for many threads: the columns are shared out too.
                    int groups = Math.Min(panels, GemmBlocking.Pieces(GemmBlocking.PiecesPerWorker * cpu.Pool.Workers, rowBlocks));
                    int groupColumns = GemmBlocking.EvenPart(nc, groups, BF16Tile.Columns);
                    groups = GemmBlocking.Pieces(nc, groupColumns);
                    for (int k0 = 0; k0 < args.K; k0 += BF16Tile.Kc)
                    {
                        var block = new GemmBlock(batch, n0, nc, k0, Math.Min(BF16Tile.Kc, args.K - k0), BF16Blocking.SharedRows, groupColumns, groups);
                        var pack = new BF16PackShared<TA, TB>(problem, block);
                        cpu.Pool.Run(panels, ref pack);
                        var multiply = new BF16MultiplyShared<TA, TB>(problem, block);
                        cpu.Pool.Run(rowBlocks * groups, ref multiply);
                    }
                }
            }
        }
    }

    // Every piece packs what it needs: small products, few rows, batches.
    private static void PackEach<TA, TB>(CpuDevice cpu, in GemmArgs args, in BF16Problem<TA, TB> problem)
        where TA : unmanaged, IPackSource<TA>
        where TB : unmanaged, IPackSource<TB>
    {
        GemmCut cut = GemmCut.ForPrivatePacking(args, cpu.Pool.Workers, BF16Blocking.PrivateRows, BF16Tile.Rows, BF16Tile.Columns);
        var body = new BF16MultiplyPrivately<TA, TB>(problem, cut);
        cpu.Pool.Run(cut.Pieces, ref body);
    }
}
