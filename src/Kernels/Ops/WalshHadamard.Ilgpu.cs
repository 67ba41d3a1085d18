// The Walsh-Hadamard transform on a GPU: the stages inside a stretch of 1024 in shared memory, each further one by the whole grid. The same additions in the
// same order as on the CPU, so the same bits. Contract: WalshHadamard.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class WalshHadamard
{
    internal static class Ilgpu
    {
        // 4 KB of shared memory a group: as many groups fit a multiprocessor as its threads allow.
        private const int Stretch = 1024;

        public static void Run(IlgpuDevice gpu, Tensor x, int rows, long n)
        {
            int stretch = (int)Math.Min(n, Stretch);
            long elements = rows * n;
            ArrayView<float> view = gpu.View<float>(x);
            gpu.Launch(new NearKernel { X = view, Stretches = elements / stretch, Stretch = stretch }, gpu.Groups(elements / stretch), gpu.Threads);
            for (long half = stretch; half < n; half *= 2)
                gpu.Launch(new FarKernel { X = view, Pairs = elements / 2, Half = half }, gpu.Groups((elements / 2 + gpu.Threads - 1) / gpu.Threads), gpu.Threads);
        }

        internal struct NearKernel : IGpuKernel<NearKernel>
        {
            public ArrayView<float> X;
            public long Stretches;
            public int Stretch;

            public static void Run(NearKernel k)
            {
                ArrayView<float> shared = SharedMemory.Allocate<float>(Ilgpu.Stretch);
                for (long s = Grid.IdxX; s < k.Stretches; s += Grid.DimX)
                {
                    for (int i = Group.IdxX; i < k.Stretch; i += Group.DimX)
                        shared[i] = k.X[s * k.Stretch + i];
                    Group.Barrier();
                    for (int half = 1; half < k.Stretch; half *= 2)
                    {
                        for (int pair = Group.IdxX; pair < k.Stretch / 2; pair += Group.DimX)
                        {
                            int lower = pair / half * 2 * half + pair % half;
                            float a = shared[lower], b = shared[lower + half];
                            shared[lower] = a + b;
                            shared[lower + half] = a - b;
                        }
                        Group.Barrier();
                    }
                    for (int i = Group.IdxX; i < k.Stretch; i += Group.DimX)
                        k.X[s * k.Stretch + i] = shared[i];
                    Group.Barrier();
                }
            }
        }

        internal struct FarKernel : IGpuKernel<FarKernel>
        {
            public ArrayView<float> X;
            public long Pairs, Half;

            public static void Run(FarKernel k)
            {
                long stride = (long)Grid.DimX * Group.DimX;
                for (long pair = (long)Grid.IdxX * Group.DimX + Group.IdxX; pair < k.Pairs; pair += stride)
                {
                    // A power of two divides every row, so pairs of all rows count on.
                    long lower = pair / k.Half * 2 * k.Half + pair % k.Half;
                    float a = k.X[lower], b = k.X[lower + k.Half];
                    k.X[lower] = a + b;
                    k.X[lower + k.Half] = a - b;
                }
            }
        }
    }
}
