// The matrix product on tensor cores, sm_80 and newer: bf16 (m16n8k16) where the weight is stored so, else tf32 (m16n8k8), sums in f32. A group of 8 warps
// owns 64 by 128 numbers of C; the next slice of both operands is on its way (cp.async) while this one is multiplied. Accumulators, fragments and shared
// memory are declared inside the assembly: a value that ILGPU hands to an inline instruction by reference lives in local memory.
// Deliberately not: a transposed A, f16, or operands whose rows do not begin at multiples of 16 bytes. PlainGemm.cs takes those.
using ILGPU;
using ILGPU.Runtime.Cuda;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Gpu;

/// <summary>What both formats share.</summary>
internal struct TensorGemmArgs
{
    public long A, B, C, LdA, LdB, LdC, OuterA, InnerA, OuterB, InnerB, OuterC, InnerC;
    public int M, N, K, Batches, InnerBatches;
    public float Alpha;
    public GpuFlag TransB, Accumulate;
}

/// <summary>Chooses and launches.</summary>
internal static class TensorGemm
{
    public const int Rows = 64;
    public const int Columns = 128;
    public const int Threads = 256;
    private const int MaxGrid = 65535;

    // Fragments follow the tables of mma.m16n8k16 and mma.m16n8k8 in the PTX manual: g = lane / 4 is a row of A and a column of B, t = lane % 4 counts
    // pairs (bf16) or single numbers (tf32) along k.
    internal const string Declare =
        ".reg .u32 base, pa, pb, sa;\n.reg .f32 x, y;\n.reg .b32 a<8>, b<8>;\n.reg .f32 c<32>;\n";

    internal const string Clear =
        "mov.f32 c0, 0f00000000;\nmov.f32 c1, 0f00000000;\nmov.f32 c2, 0f00000000;\nmov.f32 c3, 0f00000000;\nmov.f32 c4, 0f00000000;\nmov.f32 c5, 0f00000000;\nmov.f32 c6, 0f00000000;\nmov.f32 c7, 0f00000000;\nmov.f32 c8, 0f00000000;\nmov.f32 c9, 0f00000000;\nmov.f32 c10, 0f00000000;\nmov.f32 c11, 0f00000000;\nmov.f32 c12, 0f00000000;\nmov.f32 c13, 0f00000000;\nmov.f32 c14, 0f00000000;\nmov.f32 c15, 0f00000000;\nmov.f32 c16, 0f00000000;\nmov.f32 c17, 0f00000000;\nmov.f32 c18, 0f00000000;\nmov.f32 c19, 0f00000000;\nmov.f32 c20, 0f00000000;\nmov.f32 c21, 0f00000000;\nmov.f32 c22, 0f00000000;\nmov.f32 c23, 0f00000000;\nmov.f32 c24, 0f00000000;\nmov.f32 c25, 0f00000000;\nmov.f32 c26, 0f00000000;\nmov.f32 c27, 0f00000000;\nmov.f32 c28, 0f00000000;\nmov.f32 c29, 0f00000000;\nmov.f32 c30, 0f00000000;\nmov.f32 c31, 0f00000000;";

    /// <summary>16 bytes, or fewer and zeros, from global (%1) to shared (%0) memory.</summary>
    internal const string CopyAsync = "add.u32 sa, base, %0;\ncp.async.cg.shared.global [sa], [%1], 16, %2;";

    internal const string Commit = "cp.async.commit_group;";

    internal const string WaitForAllButNewest = "cp.async.wait_group 1;";

    private const string StoreHead = "{\n.reg .pred p, q, r;\n.reg .f32 s, t, u;\nsetp.ne.s32 p, %1, 0;\nsetp.ne.s32 q, %2, 0;\nmul.f32 t, %3, ";
    private const string StoreMiddle = ";\nmul.f32 u, %3, ";
    private const string StoreTail =
        ";\nsetp.ne.and.s32 r, %4, 0, p;\n@r ld.global.f32 s, [%0];\n@r add.f32 t, t, s;\nsetp.ne.and.s32 r, %4, 0, q;\n@r ld.global.f32 s, [%0+4];\n@r add.f32 u, u, s;\n"
        + "@p st.global.f32 [%0], t;\n@q st.global.f32 [%0+4], u;\n}";

    /// <summary>True where the shapes and addresses suit the tensor cores' way in.</summary>
    public static bool Fits(in GemmArgs args)
    {
        long mask = args.B.DType == DType.F32 ? 3 : 7;
        return !args.TransA && args.A.DType == DType.F32 && args.B.DType is (DType.F32 or DType.BF16)
            && ((args.A.Address | args.B.Address) & 15) == 0
            && ((args.StepA | args.StrideA.Outer | args.StrideA.Inner) & 3) == 0
            && ((args.StepB | args.StrideB.Outer | args.StrideB.Inner) & mask) == 0;
    }

    public static void Run(IlgpuDevice gpu, in GemmArgs args)
    {
        var arguments = new TensorGemmArgs
        {
            A = args.A.Address,
            B = args.B.Address,
            C = args.C.Address,
            LdA = args.StepA,
            LdB = args.StepB,
            LdC = args.StepC,
            OuterA = args.StrideA.Outer,
            InnerA = args.StrideA.Inner,
            OuterB = args.StrideB.Outer,
            InnerB = args.StrideB.Inner,
            OuterC = args.StrideC.Outer,
            InnerC = args.StrideC.Inner,
            M = args.M,
            N = args.N,
            K = args.K,
            Batches = args.Batches,
            InnerBatches = args.InnerBatches,
            Alpha = args.Alpha,
            TransB = args.TransB,
            Accumulate = args.Accumulate,
        };
        int rowTiles = (args.M + Rows - 1) / Rows, columnTiles = (args.N + Columns - 1) / Columns;
        if (rowTiles > MaxGrid)
            throw new ArgumentException($"Gemm: M is {args.M}, expected at most {(long)Rows * MaxGrid} on {gpu.Name}. Split the batch.");
        var grid = new Index3D(columnTiles, rowTiles, Math.Min(args.Batches, MaxGrid));
        if (args.B.DType == DType.BF16)
            gpu.Launch(new BF16GemmKernel { P = arguments }, grid, Threads);
        else
            gpu.Launch(new TF32GemmKernel { P = arguments }, grid, Threads);
    }

    /// <summary>Where the thread's numbers of C lie: address of row g, column 2 t of its warp's 32 by 32.</summary>
    internal struct Corner
    {
        public long Address, LdC;
        public int RowsLeft, ColumnsLeft;
    }

    internal static Corner CornerOf(TensorGemmArgs p, long start)
    {
        int lane = Group.IdxX % 32, warp = Group.IdxX / 32;
        int row = Grid.IdxY * Rows + warp / 4 * 32 + lane / 4, column = Grid.IdxX * Columns + warp % 4 * 32 + lane % 4 * 2;
        return new Corner { Address = p.C + 4 * (start + row * p.LdC + column), LdC = p.LdC, RowsLeft = p.M - row, ColumnsLeft = p.N - column };
    }

    private static long Row(Corner c, int row, int column) => c.Address + 4 * (row * c.LdC + column);

    private static int InRange(Corner c, int row, int column) => row < c.RowsLeft && column < c.ColumnsLeft ? 1 : 0;

    /// <summary>C = (C +) alpha times the accumulators.</summary>
    internal static void Store(Corner c, float alpha, int accumulate)
    {
        CudaAsm.Emit(StoreHead + "c0" + StoreMiddle + "c1" + StoreTail, Row(c, 0, 0), InRange(c, 0, 0), InRange(c, 0, 1), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c2" + StoreMiddle + "c3" + StoreTail, Row(c, 8, 0), InRange(c, 8, 0), InRange(c, 8, 1), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c4" + StoreMiddle + "c5" + StoreTail, Row(c, 0, 8), InRange(c, 0, 8), InRange(c, 0, 9), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c6" + StoreMiddle + "c7" + StoreTail, Row(c, 8, 8), InRange(c, 8, 8), InRange(c, 8, 9), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c8" + StoreMiddle + "c9" + StoreTail, Row(c, 0, 16), InRange(c, 0, 16), InRange(c, 0, 17), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c10" + StoreMiddle + "c11" + StoreTail, Row(c, 8, 16), InRange(c, 8, 16), InRange(c, 8, 17), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c12" + StoreMiddle + "c13" + StoreTail, Row(c, 0, 24), InRange(c, 0, 24), InRange(c, 0, 25), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c14" + StoreMiddle + "c15" + StoreTail, Row(c, 8, 24), InRange(c, 8, 24), InRange(c, 8, 25), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c16" + StoreMiddle + "c17" + StoreTail, Row(c, 16, 0), InRange(c, 16, 0), InRange(c, 16, 1), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c18" + StoreMiddle + "c19" + StoreTail, Row(c, 24, 0), InRange(c, 24, 0), InRange(c, 24, 1), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c20" + StoreMiddle + "c21" + StoreTail, Row(c, 16, 8), InRange(c, 16, 8), InRange(c, 16, 9), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c22" + StoreMiddle + "c23" + StoreTail, Row(c, 24, 8), InRange(c, 24, 8), InRange(c, 24, 9), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c24" + StoreMiddle + "c25" + StoreTail, Row(c, 16, 16), InRange(c, 16, 16), InRange(c, 16, 17), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c26" + StoreMiddle + "c27" + StoreTail, Row(c, 24, 16), InRange(c, 24, 16), InRange(c, 24, 17), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c28" + StoreMiddle + "c29" + StoreTail, Row(c, 16, 24), InRange(c, 16, 24), InRange(c, 16, 25), alpha, accumulate);
        CudaAsm.Emit(StoreHead + "c30" + StoreMiddle + "c31" + StoreTail, Row(c, 24, 24), InRange(c, 24, 24), InRange(c, 24, 25), alpha, accumulate);
    }

    /// <summary>Bytes of a 16-byte piece that are there: none where the row is not.</summary>
    internal static int Bytes(bool rowExists, long left, int size)
    {
        long bytes = left * size;
        return !rowExists || bytes <= 0 ? 0 : bytes < 16 ? (int)bytes : 16;
    }

    /// <summary>A piece of an operand on its way to shared memory; nothing is read where no bytes are there.</summary>
    internal static void Bring(int shared, long origin, long address, int bytes) => CudaAsm.Emit(CopyAsync, shared, bytes > 0 ? address : origin, bytes);
}
