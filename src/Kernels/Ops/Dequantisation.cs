// A quantised matrix expanded whole: for tests, comparisons and runtimes that take floats only. Deliberately not part of a training step: Gemm reads the codes.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>y = (code - zero point) * scale.</summary>
/// <remarks>
/// Numerics  the difference is exact, the product rounded once: the very numbers that Gemm multiplies by, and ONNX's DequantizeLinear gives.
/// Shapes    x, y: [elements], whole rows.
/// </remarks>
public static unsafe partial class Dequantisation
{
    /// <summary>Expands a matrix.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">i8 or u4 with scales.</param>
    /// <param name="y">f32, as many elements; overwritten.</param>
    /// <exception cref="ArgumentException">A tensor has another type or size, or no scales.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor x, Tensor y)
    {
        const string Op = "Dequantisation.Forward";
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[elements]", x.Elements);
        if (x.DType is not (DType.I8 or DType.U4) || !x.Scales.IsPresent || x.Scales.RowLength < 1 || x.Elements % x.Scales.RowLength != 0)
            throw new ArgumentException($"{Op}: found {x.DType.Name()} [{x.Elements}] with {(x.Scales.IsPresent ? $"scales for rows of {x.Scales.RowLength}" : "no scales")}, expected i8 or u4 with scales for whole rows.", nameof(x));
        using OpScope trace = OpTrace.Enter(Op, x.Elements);
#if ILGPU
        if (device is IlgpuDevice gpu)
        {
            Ilgpu.Forward(gpu, x, y);
            return;
        }
#endif
        if (device is not CpuDevice cpu)
            throw Require.NoKernel(Op, device);
        long width = x.Scales.RowLength;
        CpuRows.Run(cpu, x.Elements / width, width, new Kernel { Codes = x.Address, Type = x.DType, Scales = new ScaleTable(x.Scales), Y = (float*)y.Address, Width = width });
    }

    private struct Kernel : IRowKernel
    {
        public nint Codes;
        public DType Type;
        public ScaleTable Scales;
        public float* Y;
        public long Width;

        [MethodImpl(Jit.Loop)]
        public readonly void Rows<V>(long first, long end)
            where V : unmanaged, ISimd<V>
        {
            if (Type == DType.I8)
                Expand<V, I8Source>(new I8Source((sbyte*)Codes, Width, Scales), first, end);
            else
                Expand<V, U4Source>(new U4Source((byte*)Codes, Width, Scales), first, end);
        }

        private readonly void Expand<V, TSource>(TSource source, long first, long end)
            where V : unmanaged, ISimd<V>
            where TSource : unmanaged, IPackSource<TSource>
        {
            for (long row = first; row < end; row++)
            {
                float* y = Y + row * Width;
                long i = 0;
                for (; i <= Width - V.Lanes; i += V.Lanes)
                    source.Load<V>(row, i).Store(y + i);
                for (; i < Width; i++)
                    source.Load<F32x1>(row, i).Store(y + i);
            }
        }
    }
}
