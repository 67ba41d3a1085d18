// The tensor cores' product for operands stored as f32. How it works: TensorGemm.cs.
using ILGPU;
using ILGPU.Runtime.Cuda;

namespace IptNative.Kernels.Gpu;

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
