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
        return !args.TransA && args.B.DType != DType.F16
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

/// <summary>A in f32, rounded to bf16 on its way to the tensor cores; B as it is stored.</summary>
internal struct BF16GemmKernel : IGpuKernel<BF16GemmKernel>
{
    // Slices of 32 along k. Rows of A take 160 bytes, of B 80 (k inside) or 272 (n inside): the fragments' loads then meet no bank twice.
    private const int Slice = 32;
    private const int StepA = 160;
    private const int StepB = 80;
    private const int StepBPlain = 272;
    private const int BytesA = TensorGemm.Rows * StepA;
    private const int Stage = BytesA + TensorGemm.Columns * StepB;

    private const string Shared = ".shared .align 16 .b8 bf16_gemm_tiles[40960];\nmov.u32 base, bf16_gemm_tiles;";

    private const string MultiplyTransposed =
        "add.u32 pa, base, %0;\nadd.u32 pb, base, %1;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+0];\ncvt.rn.bf16x2.f32 a0, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+1280];\ncvt.rn.bf16x2.f32 a1, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+32];\ncvt.rn.bf16x2.f32 a2, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+1312];\ncvt.rn.bf16x2.f32 a3, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+2560];\ncvt.rn.bf16x2.f32 a4, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+3840];\ncvt.rn.bf16x2.f32 a5, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+2592];\ncvt.rn.bf16x2.f32 a6, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+3872];\ncvt.rn.bf16x2.f32 a7, y, x;\n"
        + "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {b0,b1,b2,b3}, [pb+0];\n"
        + "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {b4,b5,b6,b7}, [pb+1280];\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c0,c1,c2,c3}, {a0,a1,a2,a3}, {b0,b1}, {c0,c1,c2,c3};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c4,c5,c6,c7}, {a0,a1,a2,a3}, {b2,b3}, {c4,c5,c6,c7};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c8,c9,c10,c11}, {a0,a1,a2,a3}, {b4,b5}, {c8,c9,c10,c11};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c12,c13,c14,c15}, {a0,a1,a2,a3}, {b6,b7}, {c12,c13,c14,c15};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c16,c17,c18,c19}, {a4,a5,a6,a7}, {b0,b1}, {c16,c17,c18,c19};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c20,c21,c22,c23}, {a4,a5,a6,a7}, {b2,b3}, {c20,c21,c22,c23};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c24,c25,c26,c27}, {a4,a5,a6,a7}, {b4,b5}, {c24,c25,c26,c27};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c28,c29,c30,c31}, {a4,a5,a6,a7}, {b6,b7}, {c28,c29,c30,c31};\n"
        + "ld.shared.v2.f32 {x,y}, [pa+64];\ncvt.rn.bf16x2.f32 a0, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+1344];\ncvt.rn.bf16x2.f32 a1, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+96];\ncvt.rn.bf16x2.f32 a2, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+1376];\ncvt.rn.bf16x2.f32 a3, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+2624];\ncvt.rn.bf16x2.f32 a4, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+3904];\ncvt.rn.bf16x2.f32 a5, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+2656];\ncvt.rn.bf16x2.f32 a6, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+3936];\ncvt.rn.bf16x2.f32 a7, y, x;\n"
        + "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {b0,b1,b2,b3}, [pb+32];\n"
        + "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {b4,b5,b6,b7}, [pb+1312];\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c0,c1,c2,c3}, {a0,a1,a2,a3}, {b0,b1}, {c0,c1,c2,c3};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c4,c5,c6,c7}, {a0,a1,a2,a3}, {b2,b3}, {c4,c5,c6,c7};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c8,c9,c10,c11}, {a0,a1,a2,a3}, {b4,b5}, {c8,c9,c10,c11};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c12,c13,c14,c15}, {a0,a1,a2,a3}, {b6,b7}, {c12,c13,c14,c15};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c16,c17,c18,c19}, {a4,a5,a6,a7}, {b0,b1}, {c16,c17,c18,c19};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c20,c21,c22,c23}, {a4,a5,a6,a7}, {b2,b3}, {c20,c21,c22,c23};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c24,c25,c26,c27}, {a4,a5,a6,a7}, {b4,b5}, {c24,c25,c26,c27};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c28,c29,c30,c31}, {a4,a5,a6,a7}, {b6,b7}, {c28,c29,c30,c31};\n";

    private const string MultiplyPlain =
        "add.u32 pa, base, %0;\nadd.u32 pb, base, %1;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+0];\ncvt.rn.bf16x2.f32 a0, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+1280];\ncvt.rn.bf16x2.f32 a1, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+32];\ncvt.rn.bf16x2.f32 a2, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+1312];\ncvt.rn.bf16x2.f32 a3, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+2560];\ncvt.rn.bf16x2.f32 a4, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+3840];\ncvt.rn.bf16x2.f32 a5, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+2592];\ncvt.rn.bf16x2.f32 a6, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+3872];\ncvt.rn.bf16x2.f32 a7, y, x;\n"
        + "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {b0,b1,b2,b3}, [pb+0];\n"
        + "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {b4,b5,b6,b7}, [pb+32];\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c0,c1,c2,c3}, {a0,a1,a2,a3}, {b0,b1}, {c0,c1,c2,c3};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c4,c5,c6,c7}, {a0,a1,a2,a3}, {b2,b3}, {c4,c5,c6,c7};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c8,c9,c10,c11}, {a0,a1,a2,a3}, {b4,b5}, {c8,c9,c10,c11};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c12,c13,c14,c15}, {a0,a1,a2,a3}, {b6,b7}, {c12,c13,c14,c15};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c16,c17,c18,c19}, {a4,a5,a6,a7}, {b0,b1}, {c16,c17,c18,c19};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c20,c21,c22,c23}, {a4,a5,a6,a7}, {b2,b3}, {c20,c21,c22,c23};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c24,c25,c26,c27}, {a4,a5,a6,a7}, {b4,b5}, {c24,c25,c26,c27};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c28,c29,c30,c31}, {a4,a5,a6,a7}, {b6,b7}, {c28,c29,c30,c31};\n"
        + "ld.shared.v2.f32 {x,y}, [pa+64];\ncvt.rn.bf16x2.f32 a0, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+1344];\ncvt.rn.bf16x2.f32 a1, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+96];\ncvt.rn.bf16x2.f32 a2, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+1376];\ncvt.rn.bf16x2.f32 a3, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+2624];\ncvt.rn.bf16x2.f32 a4, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+3904];\ncvt.rn.bf16x2.f32 a5, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+2656];\ncvt.rn.bf16x2.f32 a6, y, x;\n"
        + "ld.shared.v2.f32 {x,y}, [pa+3936];\ncvt.rn.bf16x2.f32 a7, y, x;\n"
        + "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {b0,b1,b2,b3}, [pb+4352];\n"
        + "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {b4,b5,b6,b7}, [pb+4384];\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c0,c1,c2,c3}, {a0,a1,a2,a3}, {b0,b1}, {c0,c1,c2,c3};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c4,c5,c6,c7}, {a0,a1,a2,a3}, {b2,b3}, {c4,c5,c6,c7};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c8,c9,c10,c11}, {a0,a1,a2,a3}, {b4,b5}, {c8,c9,c10,c11};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c12,c13,c14,c15}, {a0,a1,a2,a3}, {b6,b7}, {c12,c13,c14,c15};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c16,c17,c18,c19}, {a4,a5,a6,a7}, {b0,b1}, {c16,c17,c18,c19};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c20,c21,c22,c23}, {a4,a5,a6,a7}, {b2,b3}, {c20,c21,c22,c23};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c24,c25,c26,c27}, {a4,a5,a6,a7}, {b4,b5}, {c24,c25,c26,c27};\n"
        + "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c28,c29,c30,c31}, {a4,a5,a6,a7}, {b6,b7}, {c28,c29,c30,c31};\n";

    public TensorGemmArgs P;

    public static void Run(BF16GemmKernel k)
    {
        TensorGemmArgs p = k.P;
        CudaAsm.Emit(TensorGemm.Declare + Shared);
        int lane = Group.IdxX % 32, warp = Group.IdxX / 32, slices = (p.K + Slice - 1) / Slice;
        int fromA = (warp / 4 * 32 + lane / 4) * StepA + lane % 4 * 8;
        int fromB = p.TransB
            ? BytesA + (warp % 4 * 32 + lane / 16 * 8 + lane % 8) * StepB + lane / 8 % 2 * 16
            : BytesA + (lane / 8 % 2 * 8 + lane % 8) * StepBPlain + (warp % 4 * 32 + lane / 16 * 8) * 2;
        for (int batch = Grid.IdxZ; batch < p.Batches; batch += Grid.DimZ)
        {
            long outer = batch / p.InnerBatches, inner = batch % p.InnerBatches;
            long a = p.A + 4 * (outer * p.OuterA + inner * p.InnerA), b = p.B + 2 * (outer * p.OuterB + inner * p.InnerB);
            CudaAsm.Emit(TensorGemm.Clear);
            Bring(p, a, b, 0, 0);
            CudaAsm.Emit(TensorGemm.Commit);
            for (int slice = 0; slice < slices; slice++)
            {
                // Beyond the last slice nothing is there to read, and the group of copies is empty of bytes but counts.
                Bring(p, a, b, (slice + 1) * Slice, (slice + 1) % 2 * Stage);
                CudaAsm.Emit(TensorGemm.Commit);
                CudaAsm.Emit(TensorGemm.WaitForAllButNewest);
                Group.Barrier();
                int stage = slice % 2 * Stage;
                if (p.TransB)
                    CudaAsm.Emit(MultiplyTransposed, stage + fromA, stage + fromB);
                else
                    CudaAsm.Emit(MultiplyPlain, stage + fromA, stage + fromB);
                Group.Barrier();
            }
            TensorGemm.Store(TensorGemm.CornerOf(p, outer * p.OuterC + inner * p.InnerC), p.Alpha, p.Accumulate ? 1 : 0);
        }
    }

    private static void Bring(TensorGemmArgs p, long a, long b, int k0, int stage)
    {
        int row0 = Grid.IdxY * TensorGemm.Rows, column0 = Grid.IdxX * TensorGemm.Columns;
        for (int e = Group.IdxX; e < TensorGemm.Rows * 8; e += TensorGemm.Threads)
        {
            int row = e / 8, piece = e % 8, at = k0 + 4 * piece;
            TensorGemm.Bring(stage + row * StepA + piece * 16, a, a + 4 * ((row0 + row) * p.LdA + at), TensorGemm.Bytes(row0 + row < p.M, p.K - at, 4));
        }
        for (int e = Group.IdxX; e < TensorGemm.Columns * 4; e += TensorGemm.Threads)
        {
            int row = p.TransB ? e / 4 : e / 16, piece = p.TransB ? e % 4 : e % 16;
            if (p.TransB)
            {
                int at = k0 + 8 * piece;
                TensorGemm.Bring(stage + BytesA + row * StepB + piece * 16, b, b + 2 * ((column0 + row) * p.LdB + at), TensorGemm.Bytes(column0 + row < p.N, p.K - at, 2));
            }
            else
            {
                int at = column0 + 8 * piece;
                TensorGemm.Bring(stage + BytesA + row * StepBPlain + piece * 16, b, b + 2 * ((k0 + row) * p.LdB + at), TensorGemm.Bytes(k0 + row < p.K, p.N - at, 2));
            }
        }
    }
}

/// <summary>Both operands in f32, rounded to 10 bits of mantissa.</summary>
internal struct TF32GemmKernel : IGpuKernel<TF32GemmKernel>
{
    // Slices of 16 along k. Rows take 80 bytes (k inside) or 544 (n inside): the fragments' loads then meet no bank twice.
    private const int Slice = 16;
    private const int Step = 80;
    private const int StepBPlain = 544;
    private const int BytesA = TensorGemm.Rows * Step;
    private const int Stage = BytesA + TensorGemm.Columns * Step;

    private const string Shared = ".shared .align 16 .b8 tf32_gemm_tiles[30720];\nmov.u32 base, tf32_gemm_tiles;";

    private const string MultiplyTransposed =
        "add.u32 pa, base, %0;\nadd.u32 pb, base, %1;\n"
        + "ld.shared.f32 x, [pa+0];\ncvt.rna.tf32.f32 a0, x;\n"
        + "ld.shared.f32 x, [pa+640];\ncvt.rna.tf32.f32 a1, x;\n"
        + "ld.shared.f32 x, [pa+16];\ncvt.rna.tf32.f32 a2, x;\n"
        + "ld.shared.f32 x, [pa+656];\ncvt.rna.tf32.f32 a3, x;\n"
        + "ld.shared.f32 x, [pa+1280];\ncvt.rna.tf32.f32 a4, x;\n"
        + "ld.shared.f32 x, [pa+1920];\ncvt.rna.tf32.f32 a5, x;\n"
        + "ld.shared.f32 x, [pa+1296];\ncvt.rna.tf32.f32 a6, x;\n"
        + "ld.shared.f32 x, [pa+1936];\ncvt.rna.tf32.f32 a7, x;\n"
        + "ld.shared.f32 x, [pb+0];\ncvt.rna.tf32.f32 b0, x;\n"
        + "ld.shared.f32 x, [pb+16];\ncvt.rna.tf32.f32 b1, x;\n"
        + "ld.shared.f32 x, [pb+640];\ncvt.rna.tf32.f32 b2, x;\n"
        + "ld.shared.f32 x, [pb+656];\ncvt.rna.tf32.f32 b3, x;\n"
        + "ld.shared.f32 x, [pb+1280];\ncvt.rna.tf32.f32 b4, x;\n"
        + "ld.shared.f32 x, [pb+1296];\ncvt.rna.tf32.f32 b5, x;\n"
        + "ld.shared.f32 x, [pb+1920];\ncvt.rna.tf32.f32 b6, x;\n"
        + "ld.shared.f32 x, [pb+1936];\ncvt.rna.tf32.f32 b7, x;\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c0,c1,c2,c3}, {a0,a1,a2,a3}, {b0,b1}, {c0,c1,c2,c3};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c4,c5,c6,c7}, {a0,a1,a2,a3}, {b2,b3}, {c4,c5,c6,c7};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c8,c9,c10,c11}, {a0,a1,a2,a3}, {b4,b5}, {c8,c9,c10,c11};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c12,c13,c14,c15}, {a0,a1,a2,a3}, {b6,b7}, {c12,c13,c14,c15};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c16,c17,c18,c19}, {a4,a5,a6,a7}, {b0,b1}, {c16,c17,c18,c19};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c20,c21,c22,c23}, {a4,a5,a6,a7}, {b2,b3}, {c20,c21,c22,c23};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c24,c25,c26,c27}, {a4,a5,a6,a7}, {b4,b5}, {c24,c25,c26,c27};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c28,c29,c30,c31}, {a4,a5,a6,a7}, {b6,b7}, {c28,c29,c30,c31};\n"
        + "ld.shared.f32 x, [pa+32];\ncvt.rna.tf32.f32 a0, x;\n"
        + "ld.shared.f32 x, [pa+672];\ncvt.rna.tf32.f32 a1, x;\n"
        + "ld.shared.f32 x, [pa+48];\ncvt.rna.tf32.f32 a2, x;\n"
        + "ld.shared.f32 x, [pa+688];\ncvt.rna.tf32.f32 a3, x;\n"
        + "ld.shared.f32 x, [pa+1312];\ncvt.rna.tf32.f32 a4, x;\n"
        + "ld.shared.f32 x, [pa+1952];\ncvt.rna.tf32.f32 a5, x;\n"
        + "ld.shared.f32 x, [pa+1328];\ncvt.rna.tf32.f32 a6, x;\n"
        + "ld.shared.f32 x, [pa+1968];\ncvt.rna.tf32.f32 a7, x;\n"
        + "ld.shared.f32 x, [pb+32];\ncvt.rna.tf32.f32 b0, x;\n"
        + "ld.shared.f32 x, [pb+48];\ncvt.rna.tf32.f32 b1, x;\n"
        + "ld.shared.f32 x, [pb+672];\ncvt.rna.tf32.f32 b2, x;\n"
        + "ld.shared.f32 x, [pb+688];\ncvt.rna.tf32.f32 b3, x;\n"
        + "ld.shared.f32 x, [pb+1312];\ncvt.rna.tf32.f32 b4, x;\n"
        + "ld.shared.f32 x, [pb+1328];\ncvt.rna.tf32.f32 b5, x;\n"
        + "ld.shared.f32 x, [pb+1952];\ncvt.rna.tf32.f32 b6, x;\n"
        + "ld.shared.f32 x, [pb+1968];\ncvt.rna.tf32.f32 b7, x;\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c0,c1,c2,c3}, {a0,a1,a2,a3}, {b0,b1}, {c0,c1,c2,c3};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c4,c5,c6,c7}, {a0,a1,a2,a3}, {b2,b3}, {c4,c5,c6,c7};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c8,c9,c10,c11}, {a0,a1,a2,a3}, {b4,b5}, {c8,c9,c10,c11};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c12,c13,c14,c15}, {a0,a1,a2,a3}, {b6,b7}, {c12,c13,c14,c15};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c16,c17,c18,c19}, {a4,a5,a6,a7}, {b0,b1}, {c16,c17,c18,c19};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c20,c21,c22,c23}, {a4,a5,a6,a7}, {b2,b3}, {c20,c21,c22,c23};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c24,c25,c26,c27}, {a4,a5,a6,a7}, {b4,b5}, {c24,c25,c26,c27};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c28,c29,c30,c31}, {a4,a5,a6,a7}, {b6,b7}, {c28,c29,c30,c31};\n";

    private const string MultiplyPlain =
        "add.u32 pa, base, %0;\nadd.u32 pb, base, %1;\n"
        + "ld.shared.f32 x, [pa+0];\ncvt.rna.tf32.f32 a0, x;\n"
        + "ld.shared.f32 x, [pa+640];\ncvt.rna.tf32.f32 a1, x;\n"
        + "ld.shared.f32 x, [pa+16];\ncvt.rna.tf32.f32 a2, x;\n"
        + "ld.shared.f32 x, [pa+656];\ncvt.rna.tf32.f32 a3, x;\n"
        + "ld.shared.f32 x, [pa+1280];\ncvt.rna.tf32.f32 a4, x;\n"
        + "ld.shared.f32 x, [pa+1920];\ncvt.rna.tf32.f32 a5, x;\n"
        + "ld.shared.f32 x, [pa+1296];\ncvt.rna.tf32.f32 a6, x;\n"
        + "ld.shared.f32 x, [pa+1936];\ncvt.rna.tf32.f32 a7, x;\n"
        + "ld.shared.f32 x, [pb+0];\ncvt.rna.tf32.f32 b0, x;\n"
        + "ld.shared.f32 x, [pb+2176];\ncvt.rna.tf32.f32 b1, x;\n"
        + "ld.shared.f32 x, [pb+32];\ncvt.rna.tf32.f32 b2, x;\n"
        + "ld.shared.f32 x, [pb+2208];\ncvt.rna.tf32.f32 b3, x;\n"
        + "ld.shared.f32 x, [pb+64];\ncvt.rna.tf32.f32 b4, x;\n"
        + "ld.shared.f32 x, [pb+2240];\ncvt.rna.tf32.f32 b5, x;\n"
        + "ld.shared.f32 x, [pb+96];\ncvt.rna.tf32.f32 b6, x;\n"
        + "ld.shared.f32 x, [pb+2272];\ncvt.rna.tf32.f32 b7, x;\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c0,c1,c2,c3}, {a0,a1,a2,a3}, {b0,b1}, {c0,c1,c2,c3};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c4,c5,c6,c7}, {a0,a1,a2,a3}, {b2,b3}, {c4,c5,c6,c7};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c8,c9,c10,c11}, {a0,a1,a2,a3}, {b4,b5}, {c8,c9,c10,c11};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c12,c13,c14,c15}, {a0,a1,a2,a3}, {b6,b7}, {c12,c13,c14,c15};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c16,c17,c18,c19}, {a4,a5,a6,a7}, {b0,b1}, {c16,c17,c18,c19};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c20,c21,c22,c23}, {a4,a5,a6,a7}, {b2,b3}, {c20,c21,c22,c23};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c24,c25,c26,c27}, {a4,a5,a6,a7}, {b4,b5}, {c24,c25,c26,c27};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c28,c29,c30,c31}, {a4,a5,a6,a7}, {b6,b7}, {c28,c29,c30,c31};\n"
        + "ld.shared.f32 x, [pa+32];\ncvt.rna.tf32.f32 a0, x;\n"
        + "ld.shared.f32 x, [pa+672];\ncvt.rna.tf32.f32 a1, x;\n"
        + "ld.shared.f32 x, [pa+48];\ncvt.rna.tf32.f32 a2, x;\n"
        + "ld.shared.f32 x, [pa+688];\ncvt.rna.tf32.f32 a3, x;\n"
        + "ld.shared.f32 x, [pa+1312];\ncvt.rna.tf32.f32 a4, x;\n"
        + "ld.shared.f32 x, [pa+1952];\ncvt.rna.tf32.f32 a5, x;\n"
        + "ld.shared.f32 x, [pa+1328];\ncvt.rna.tf32.f32 a6, x;\n"
        + "ld.shared.f32 x, [pa+1968];\ncvt.rna.tf32.f32 a7, x;\n"
        + "ld.shared.f32 x, [pb+4352];\ncvt.rna.tf32.f32 b0, x;\n"
        + "ld.shared.f32 x, [pb+6528];\ncvt.rna.tf32.f32 b1, x;\n"
        + "ld.shared.f32 x, [pb+4384];\ncvt.rna.tf32.f32 b2, x;\n"
        + "ld.shared.f32 x, [pb+6560];\ncvt.rna.tf32.f32 b3, x;\n"
        + "ld.shared.f32 x, [pb+4416];\ncvt.rna.tf32.f32 b4, x;\n"
        + "ld.shared.f32 x, [pb+6592];\ncvt.rna.tf32.f32 b5, x;\n"
        + "ld.shared.f32 x, [pb+4448];\ncvt.rna.tf32.f32 b6, x;\n"
        + "ld.shared.f32 x, [pb+6624];\ncvt.rna.tf32.f32 b7, x;\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c0,c1,c2,c3}, {a0,a1,a2,a3}, {b0,b1}, {c0,c1,c2,c3};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c4,c5,c6,c7}, {a0,a1,a2,a3}, {b2,b3}, {c4,c5,c6,c7};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c8,c9,c10,c11}, {a0,a1,a2,a3}, {b4,b5}, {c8,c9,c10,c11};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c12,c13,c14,c15}, {a0,a1,a2,a3}, {b6,b7}, {c12,c13,c14,c15};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c16,c17,c18,c19}, {a4,a5,a6,a7}, {b0,b1}, {c16,c17,c18,c19};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c20,c21,c22,c23}, {a4,a5,a6,a7}, {b2,b3}, {c20,c21,c22,c23};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c24,c25,c26,c27}, {a4,a5,a6,a7}, {b4,b5}, {c24,c25,c26,c27};\n"
        + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {c28,c29,c30,c31}, {a4,a5,a6,a7}, {b6,b7}, {c28,c29,c30,c31};\n";

    public TensorGemmArgs P;

    public static void Run(TF32GemmKernel k)
    {
        TensorGemmArgs p = k.P;
        CudaAsm.Emit(TensorGemm.Declare + Shared);
        int lane = Group.IdxX % 32, warp = Group.IdxX / 32, slices = (p.K + Slice - 1) / Slice;
        int fromA = (warp / 4 * 32 + lane / 4) * Step + lane % 4 * 4;
        int fromB = p.TransB
            ? BytesA + (warp % 4 * 32 + lane / 4) * Step + lane % 4 * 4
            : BytesA + lane % 4 * StepBPlain + (warp % 4 * 32 + lane / 4) * 4;
        for (int batch = Grid.IdxZ; batch < p.Batches; batch += Grid.DimZ)
        {
            long outer = batch / p.InnerBatches, inner = batch % p.InnerBatches;
            long a = p.A + 4 * (outer * p.OuterA + inner * p.InnerA), b = p.B + 4 * (outer * p.OuterB + inner * p.InnerB);
            CudaAsm.Emit(TensorGemm.Clear);
            Bring(p, a, b, 0, 0);
            CudaAsm.Emit(TensorGemm.Commit);
            for (int slice = 0; slice < slices; slice++)
            {
                Bring(p, a, b, (slice + 1) * Slice, (slice + 1) % 2 * Stage);
                CudaAsm.Emit(TensorGemm.Commit);
                CudaAsm.Emit(TensorGemm.WaitForAllButNewest);
                Group.Barrier();
                int stage = slice % 2 * Stage;
                if (p.TransB)
                    CudaAsm.Emit(MultiplyTransposed, stage + fromA, stage + fromB);
                else
                    CudaAsm.Emit(MultiplyPlain, stage + fromA, stage + fromB);
                Group.Barrier();
            }
            TensorGemm.Store(TensorGemm.CornerOf(p, outer * p.OuterC + inner * p.InnerC), p.Alpha, p.Accumulate ? 1 : 0);
        }
    }

    private static void Bring(TensorGemmArgs p, long a, long b, int k0, int stage)
    {
        int row0 = Grid.IdxY * TensorGemm.Rows, column0 = Grid.IdxX * TensorGemm.Columns;
        int rowA = Group.IdxX / 4, atA = k0 + Group.IdxX % 4 * 4;
        TensorGemm.Bring(stage + rowA * Step + Group.IdxX % 4 * 16, a, a + 4 * ((row0 + rowA) * p.LdA + atA), TensorGemm.Bytes(row0 + rowA < p.M, p.K - atA, 4));
        for (int e = Group.IdxX; e < TensorGemm.Columns * 4; e += TensorGemm.Threads)
        {
            int row = p.TransB ? e / 4 : e / 32, piece = p.TransB ? e % 4 : e % 32;
            if (p.TransB)
            {
                int at = k0 + 4 * piece;
                TensorGemm.Bring(stage + BytesA + row * Step + piece * 16, b, b + 4 * ((column0 + row) * p.LdB + at), TensorGemm.Bytes(column0 + row < p.N, p.K - at, 4));
            }
            else
            {
                int at = column0 + 4 * piece;
                TensorGemm.Bring(stage + BytesA + row * StepBPlain + piece * 16, b, b + 4 * ((k0 + row) * p.LdB + at), TensorGemm.Bytes(k0 + row < p.K, p.N - at, 4));
            }
        }
    }
}
