// The exchange of two axes on a GPU: a warp copies the K numbers of each (position, head). Contract: HeadTranspose.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class HeadTranspose
{
    internal static class Ilgpu
    {
        public static void Transpose(IlgpuDevice gpu, Tensor x, Tensor y, long B, long outer, long inner, long K)
        {
            if (x.Elements == 0)
                return;
            long quads = GpuRows.Quads(K, x.Address | y.Address);
            var kernel = new TransposeKernel { X = gpu.View<float>(x), Y = gpu.View<float>(y), Outer = outer, Inner = inner, K = K, Quads = quads, Pieces = x.Elements / (quads > 0 ? 4 : 1) };
            gpu.Launch(kernel, gpu.Groups((kernel.Pieces + gpu.Threads - 1) / gpu.Threads), gpu.Threads);
        }

        internal struct TransposeKernel : IGpuKernel<TransposeKernel>
        {
            public ArrayView<float> X, Y;
            public long Outer, Inner, K, Quads, Pieces;

            public static void Run(TransposeKernel k)
            {
                ArrayView<F4> x4 = k.X.Cast<F4>(), y4 = k.Y.Cast<F4>();
                long stride = (long)Grid.DimX * Group.DimX, width = k.Quads > 0 ? k.Quads : k.K;
                for (long i = (long)Grid.IdxX * Group.DimX + Group.IdxX; i < k.Pieces; i += stride)
                {
                    long column = i % width, row = i / width;
                    long inner = row % k.Inner, outer = row / k.Inner % k.Outer, b = row / k.Inner / k.Outer;
                    long to = ((b * k.Inner + inner) * k.Outer + outer) * width + column;
                    if (k.Quads > 0)
                        y4[to] = x4[i];
                    else
                        k.Y[to] = k.X[i];
                }
            }
        }
    }
}
