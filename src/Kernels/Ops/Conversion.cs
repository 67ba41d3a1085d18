// Between f32 and the 16-bit floats, in bulk. Deliberately not quantisation: a scale is more than a conversion.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Changes of floating-point type.</summary>
/// <remarks>
/// To f32 exactly; from f32 rounded to nearest, ties to even; overflow becomes infinity, NaN stays NaN (with its quiet bit set).
/// Shapes    x, y: [elements].
/// </remarks>
public static partial class Conversion
{
    /// <summary>y = x as f32.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32, f16 or bf16 [elements].</param>
    /// <param name="y">f32 [elements], overwritten; not overlapping <paramref name="x"/>.</param>
    /// <param name="elements">0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void ToF32(ComputeDevice device, Tensor x, Tensor y, long elements)
    {
        const string Op = "Conversion.ToF32";
        Require.FloatShape(Op, device, x, nameof(x), "[elements]", elements);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[elements]", elements);
        switch (device)
        {
            case CpuDevice cpu: Cpu.ToF32(cpu, x, y); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.ToF32(gpu, x, y); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>y = x rounded to y's type.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="y">f32, f16 or bf16 [elements], overwritten; not overlapping <paramref name="x"/>.</param>
    /// <param name="elements">0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void FromF32(ComputeDevice device, Tensor x, Tensor y, long elements)
    {
        const string Op = "Conversion.FromF32";
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[elements]", elements);
        Require.FloatShape(Op, device, y, nameof(y), "[elements]", elements);
        switch (device)
        {
            case CpuDevice cpu: Cpu.FromF32(cpu, x, y); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.FromF32(gpu, x, y); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static unsafe class Cpu
    {
        // Elements handed to a thread at a time; a power of two, so that every run starts on a whole register.
        private const long Run = 4096;

        public static void ToF32(CpuDevice cpu, Tensor x, Tensor y) =>
            CpuRows.Run(cpu, (x.Elements + Run - 1) / Run, Run, new ToKernel { X = (byte*)x.Address, Type = x.DType, Y = (float*)y.Address, Elements = x.Elements });

        public static void FromF32(CpuDevice cpu, Tensor x, Tensor y) =>
            CpuRows.Run(cpu, (x.Elements + Run - 1) / Run, Run, new FromKernel { X = (float*)x.Address, Type = y.DType, Y = (void*)y.Address, Elements = x.Elements });

        private struct ToKernel : IRowKernel
        {
            public byte* X;
            public DType Type;
            public float* Y;
            public long Elements;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                long start = first * Run;
                Widening.ToF32<V>(X + Type.ByteLength(start), Type, Y + start, Math.Min(Elements, end * Run) - start);
            }
        }

        private struct FromKernel : IRowKernel
        {
            public float* X;
            public DType Type;
            public void* Y;
            public long Elements;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                long last = Math.Min(Elements, end * Run);
                if (Type == DType.BF16)
                {
                    BF16Bits.Round(X + first * Run, (ushort*)Y + first * Run, last - first * Run);
                    return;
                }
                for (long i = first * Run; i < last; i++)
                {
                    switch (Type)
                    {
                        case DType.F16: ((Half*)Y)[i] = (Half)X[i]; break;
                        default: ((float*)Y)[i] = X[i]; break;
                    }
                }
            }
        }
    }
}
