// Inner products of rows on a GPU: one group a pair, sums in double by a fixed tree. Contract: GramMatrix.cs.
using System.Runtime.InteropServices;
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class GramMatrix
{
    internal static class Ilgpu
    {
        public static void Run(IlgpuDevice gpu, Tensor x, int rows, long n, Span<double> gram)
        {
            Tensor results = gpu.Scratch(DType.F64, (long)rows * rows);
            gpu.Launch(new PairKernel { X = gpu.View<float>(x), Results = gpu.View<double>(results), Rows = rows, N = n }, gpu.Groups((long)rows * rows), gpu.Threads);
            gpu.CopyToHost(results, MemoryMarshal.AsBytes(gram));
        }

        internal struct PairKernel : IGpuKernel<PairKernel>
        {
            public ArrayView<float> X;
            public ArrayView<double> Results;
            public long Rows, N;

            public static void Run(PairKernel k)
            {
                ArrayView<double> shared = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                for (long pair = Grid.IdxX; pair < k.Rows * k.Rows; pair += Grid.DimX)
                {
                    long a = pair / k.Rows, b = pair % k.Rows;
                    // The upper half is the lower one's mirror. All threads of the group leave alike.
                    if (b > a)
                        continue;
                    double sum = 0;
                    for (long i = Group.IdxX; i < k.N; i += Group.DimX)
                        sum += (double)k.X[a * k.N + i] * k.X[b * k.N + i];
                    sum = GpuSums.Group(sum, shared);
                    if (Group.IdxX == 0)
                    {
                        k.Results[a * k.Rows + b] = sum;
                        if (a != b)
                            k.Results[b * k.Rows + a] = sum;
                    }
                }
            }
        }
    }
}
