// Changes of floating type on a GPU: eight numbers a thread, 16 bytes on the narrow side. Contract: Conversion.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class Conversion
{
    internal static class Ilgpu
    {
        public static void ToF32(IlgpuDevice gpu, Tensor x, Tensor y)
        {
            if (x.DType == DType.F32)
                Elements.Run<ScaleElement>(gpu, x.Elements, x, out0: y, numbers: new ElementNumbers { N0 = 1 });
            else if (x.Elements > 0)
                gpu.Launch(new WidenKernel { X = gpu.View<ushort>(x), Y = gpu.View<float>(y), IsF16 = x.DType == DType.F16, Elements = x.Elements, Octets = Octets(x, y) }, Groups(gpu, x), gpu.Threads);
        }

        public static void FromF32(IlgpuDevice gpu, Tensor x, Tensor y)
        {
            if (y.DType == DType.F32)
                Elements.Run<ScaleElement>(gpu, x.Elements, x, out0: y, numbers: new ElementNumbers { N0 = 1 });
            else if (x.Elements > 0)
                gpu.Launch(new NarrowKernel { X = gpu.View<float>(x), Y = gpu.View<ushort>(y), IsF16 = y.DType == DType.F16, Elements = x.Elements, Octets = Octets(x, y) }, Groups(gpu, x), gpu.Threads);
        }

        private static long Octets(Tensor x, Tensor y) => ((x.Address | y.Address) & 15) == 0 ? x.Elements / 8 : 0;

        private static int Groups(IlgpuDevice gpu, Tensor x) => gpu.Groups((x.Elements + 8L * gpu.Threads - 1) / (8L * gpu.Threads));

        internal struct WidenKernel : IGpuKernel<WidenKernel>
        {
            public ArrayView<ushort> X;
            public ArrayView<float> Y;
            public GpuFlag IsF16;
            public long Elements, Octets;

            public static void Run(WidenKernel k)
            {
                ArrayView<U4> x8 = k.X.Cast<U4>();
                ArrayView<F4> y4 = k.Y.Cast<F4>();
                long stride = (long)Grid.DimX * Group.DimX, first = (long)Grid.IdxX * Group.DimX + Group.IdxX;
                for (long i = first; i < k.Octets; i += stride)
                {
                    U4 v = x8[i];
                    y4[2 * i] = new F4(At(k, v.X), At(k, v.X >> 16), At(k, v.Y), At(k, v.Y >> 16));
                    y4[2 * i + 1] = new F4(At(k, v.Z), At(k, v.Z >> 16), At(k, v.W), At(k, v.W >> 16));
                }
                for (long i = 8 * k.Octets + first; i < k.Elements; i += stride)
                    k.Y[i] = At(k, k.X[i]);
            }

            private static float At(WidenKernel k, uint bits) => k.IsF16 ? GpuBits.FromF16((ushort)bits) : GpuBits.FromBF16((ushort)bits);
        }

        internal struct NarrowKernel : IGpuKernel<NarrowKernel>
        {
            public ArrayView<float> X;
            public ArrayView<ushort> Y;
            public GpuFlag IsF16;
            public long Elements, Octets;

            public static void Run(NarrowKernel k)
            {
                ArrayView<F4> x4 = k.X.Cast<F4>();
                ArrayView<U4> y8 = k.Y.Cast<U4>();
                long stride = (long)Grid.DimX * Group.DimX, first = (long)Grid.IdxX * Group.DimX + Group.IdxX;
                for (long i = first; i < k.Octets; i += stride)
                {
                    F4 a = x4[2 * i], b = x4[2 * i + 1];
                    y8[i] = new U4 { X = Pair(k, a.X, a.Y), Y = Pair(k, a.Z, a.W), Z = Pair(k, b.X, b.Y), W = Pair(k, b.Z, b.W) };
                }
                for (long i = 8 * k.Octets + first; i < k.Elements; i += stride)
                    k.Y[i] = At(k, k.X[i]);
            }

            private static uint Pair(NarrowKernel k, float low, float high) => At(k, low) | ((uint)At(k, high) << 16);

            private static ushort At(NarrowKernel k, float value) => k.IsF16 ? GpuBits.ToF16(value) : GpuBits.ToBF16(value);
        }
    }
}
