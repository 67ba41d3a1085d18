// The position bias on a GPU, read from the table through the buckets that the host computed once: distances beyond max_distance share their buckets.
// Contract: RelativePositionBias.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class RelativePositionBias
{
    internal static class Ilgpu
    {
        public static void Run(IlgpuDevice gpu, Tensor table, Tensor bias, int buckets, int H, int Tq, int Tk, bool bidirectional, int maxDistance, bool byDistance)
        {
            var kernel = new BiasKernel
            {
                Table = gpu.View<float>(table),
                Bias = gpu.View<float>(bias),
                Buckets = gpu.View<int>(gpu.DistanceBuckets(bidirectional, buckets, maxDistance)),
                H = H,
                Tq = Tq,
                Tk = Tk,
                MaxDistance = maxDistance,
                ByDistance = byDistance,
            };
            gpu.Launch(kernel, gpu.Groups((bias.Elements + gpu.Threads - 1) / gpu.Threads), gpu.Threads);
        }

        internal struct BiasKernel : IGpuKernel<BiasKernel>
        {
            public ArrayView<float> Table, Bias;
            public ArrayView<int> Buckets;
            public int H, Tq, Tk, MaxDistance;
            public GpuFlag ByDistance;

            public static void Run(BiasKernel k)
            {
                long width = k.ByDistance ? (long)k.Tq + k.Tk - 1 : (long)k.Tq * k.Tk, stride = (long)Grid.DimX * Group.DimX;
                for (long i = (long)Grid.IdxX * Group.DimX + Group.IdxX; i < width * k.H; i += stride)
                {
                    long h = i / width, at = i % width;
                    long distance = k.ByDistance ? at - (k.Tq - 1) : at % k.Tk - at / k.Tk;
                    distance = distance < -k.MaxDistance ? -k.MaxDistance : distance > k.MaxDistance ? k.MaxDistance : distance;
                    k.Bias[i] = k.Table[(long)k.Buckets[distance + k.MaxDistance] * k.H + h];
                }
            }
        }
    }
}
