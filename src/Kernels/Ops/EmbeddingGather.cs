// Token ids to rows of the embedding. Deliberately without a Backward: the table is frozen. Prompt rows: PromptGather.cs.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>The embedding lookup (HF: shared).</summary>
/// <remarks>
/// Forward   y[i] = table[ids[i]], widened to f32; a row whose id is <see cref="Keep"/> is left as it is, for the prompt.
/// Shapes    table: [V, D];  ids: [rows];  y: [rows, D].
/// Numerics  exact: f16 and bf16 are subsets of f32.
/// </remarks>
public static partial class EmbeddingGather
{
    /// <summary>The id of a row that is not looked up: y keeps what stands there.</summary>
    public const int Keep = -1;

    /// <summary>Looks rows up.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="table">f32, f16 or bf16 [V, D].</param>
    /// <param name="ids">i32 [rows], 0 to V - 1 or <see cref="Keep"/>.</param>
    /// <param name="y">f32 [rows, D], overwritten where an id says so.</param>
    /// <param name="rows">0 or more.</param>
    /// <param name="V">vocab_size.</param>
    /// <param name="D">d_model.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or an id is no row of the table.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor table, Tensor ids, Tensor y, long rows, long V, long D)
    {
        const string Op = "EmbeddingGather.Forward";
        Require.Dim(Op, V, nameof(V));
        Require.Dim(Op, D, nameof(D));
        Require.FloatShape(Op, device, table, nameof(table), "[V, D]", V, D);
        Require.Shape(Op, device, ids, nameof(ids), DType.I32, "[rows]", rows);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[rows, D]", rows, D);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(Op, cpu, table, ids, y, rows, V, D); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Forward(Op, gpu, table, ids, y, rows, V, D); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static unsafe class Cpu
    {
        public static void Forward(string op, CpuDevice cpu, Tensor table, Tensor ids, Tensor y, long rows, long vocabulary, long D)
        {
            int* id = (int*)ids.Address;
            for (long i = 0; i < rows; i++)
            {
                if (id[i] < Keep || id[i] >= vocabulary)
                    throw new ArgumentException($"{op}: ids[{i}] is {id[i]}, expected 0 to V - 1 = {vocabulary - 1}, or {Keep} to keep the row. Do tokenizer and checkpoint belong together?", nameof(ids));
            }
            CpuRows.Run(cpu, rows, D, new Kernel { Table = (byte*)table.Address, Type = table.DType, Ids = id, Y = (float*)y.Address, D = D });
        }

        private struct Kernel : IRowKernel
        {
            public byte* Table;
            public DType Type;
            public int* Ids;
            public float* Y;
            public long D;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                {
                    if (Ids[row] != Keep)
                        Widening.ToF32<V>(Table + Type.ByteLength(Ids[row] * D), Type, Y + row * D, D);
                }
            }
        }
    }
}
