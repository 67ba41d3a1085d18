// Between the layout of the projections and the layout of the attention products. Needed only where a strided GEMM does not suffice.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Brings the positions of one head together.</summary>
/// <remarks>
/// Forward   y[b, h, s, k] = x[b, s, h, k]
/// Backward  dx[b, s, h, k] = dy[b, h, s, k]
/// Shapes    x, dx: [B, S, H, K];  y, dy: [B, H, S, K].  Nothing is kept. Exact.
/// </remarks>
public static partial class HeadTranspose
{
    /// <summary>[B, S, H, K] to [B, H, S, K].</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [B, S, H, K].</param>
    /// <param name="y">f32 [B, H, S, K], overwritten; not overlapping <paramref name="x"/>.</param>
    /// <param name="B">Examples.</param>
    /// <param name="S">Positions.</param>
    /// <param name="H">Heads.</param>
    /// <param name="K">d_kv.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor x, Tensor y, long B, long S, long H, long K)
    {
        const string Op = "HeadTranspose.Forward";
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[B, S, H, K]", B, S, H, K);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[B, H, S, K]", B, H, S, K);
        Transpose(Op, device, x, y, B, S, H, K);
    }

    /// <summary>[B, H, S, K] to [B, S, H, K].</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="dy">f32 [B, H, S, K]: a gradient, or the context vectors on their way to the output projection.</param>
    /// <param name="dx">f32 [B, S, H, K], overwritten; not overlapping <paramref name="dy"/>.</param>
    /// <param name="B">Examples.</param>
    /// <param name="S">Positions.</param>
    /// <param name="H">Heads.</param>
    /// <param name="K">d_kv.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor dy, Tensor dx, long B, long S, long H, long K)
    {
        const string Op = "HeadTranspose.Backward";
        Require.Shape(Op, device, dy, nameof(dy), DType.F32, "[B, H, S, K]", B, H, S, K);
        Require.Shape(Op, device, dx, nameof(dx), DType.F32, "[B, S, H, K]", B, S, H, K);
        Transpose(Op, device, dy, dx, B, H, S, K);
    }

    // Its own inverse with the two axes' sizes exchanged.
    private static void Transpose(string op, ComputeDevice device, Tensor x, Tensor y, long B, long outer, long inner, long K)
    {
        switch (device)
        {
            case CpuDevice cpu: Cpu.Transpose(cpu, x, y, B, outer, inner, K); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Transpose(gpu, x, y, B, outer, inner, K); break;
#endif
            default: throw Require.NoKernel(op, device);
        }
    }

    private static unsafe class Cpu
    {
        public static void Transpose(CpuDevice cpu, Tensor x, Tensor y, long B, long outer, long inner, long K) =>
            CpuRows.Run(cpu, B * outer, inner * K, new Kernel { X = (float*)x.Address, Y = (float*)y.Address, Outer = outer, Inner = inner, K = K });

        private struct Kernel : IRowKernel
        {
            public float* X, Y;
            public long Outer, Inner, K;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                {
                    long b = row / Outer, o = row % Outer;
                    for (long i = 0; i < Inner; i++)
                    {
                        long bytes = K * sizeof(float);
                        Buffer.MemoryCopy(X + (row * Inner + i) * K, Y + ((b * Inner + i) * Outer + o) * K, bytes, bytes);
                    }
                }
            }
        }
    }
}
