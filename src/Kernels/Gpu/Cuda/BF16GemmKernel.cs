// The tensor cores' product for weights stored as bf16. How it works: TensorGemm.cs.
using ILGPU;
using ILGPU.Runtime.Cuda;

namespace IptNative.Kernels.Gpu;

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
