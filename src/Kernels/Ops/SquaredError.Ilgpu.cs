// Squared distances of rows on a GPU: one group a row, sums in double by a fixed tree. Contract: SquaredError.cs.
using System.Runtime.InteropServices;
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class SquaredError
{
    internal static class Ilgpu
    {
        public static void Forward(IlgpuDevice gpu, Tensor x, Tensor y, int rows, long n, Span<double> loss)
        {
            Tensor sums = gpu.Scratch(DType.F64, rows);
            gpu.Launch(new ForwardKernel { X = gpu.View<float>(x), Y = gpu.View<float>(y), Loss = gpu.View<double>(sums), Rows = rows, N = n }, gpu.Groups(rows), gpu.Threads);
            gpu.CopyToHost(sums, MemoryMarshal.AsBytes(loss));
        }

        public static void BackwardAccumulate(IlgpuDevice gpu, Tensor x, Tensor y, ReadOnlySpan<float> weights, Tensor dx, int rows, long n)
        {
            Tensor w = gpu.Scratch(DType.F32, rows);
            gpu.Upload(MemoryMarshal.AsBytes(weights), w.Address);
            var kernel = new BackwardKernel { X = gpu.View<float>(x), Y = gpu.View<float>(y), W = gpu.View<float>(w), Dx = gpu.View<float>(dx), Elements = rows * n, N = n };
            gpu.Launch(kernel, gpu.Groups((rows * n + gpu.Threads - 1) / gpu.Threads), gpu.Threads);
        }

        internal struct ForwardKernel : IGpuKernel<ForwardKernel>
        {
            public ArrayView<float> X, Y;
            public ArrayView<double> Loss;
            public long Rows, N;

            public static void Run(ForwardKernel k)
            {
                ArrayView<double> shared = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                for (long row = Grid.IdxX; row < k.Rows; row += Grid.DimX)
                {
                    double sum = 0;
                    for (long i = Group.IdxX; i < k.N; i += Group.DimX)
                    {
                        float d = k.X[row * k.N + i] - k.Y[row * k.N + i];
                        sum += (double)d * d;
                    }
                    sum = GpuSums.Group(sum, shared);
                    if (Group.IdxX == 0)
                        k.Loss[row] = sum;
                }
            }
        }

        internal struct BackwardKernel : IGpuKernel<BackwardKernel>
        {
            public ArrayView<float> X, Y, W, Dx;
            public long Elements, N;

            public static void Run(BackwardKernel k)
            {
                long stride = (long)Grid.DimX * Group.DimX;
                for (long i = (long)Grid.IdxX * Group.DimX + Group.IdxX; i < k.Elements; i += stride)
                {
                    // forward: loss = sum (x - y)^2, so: 2 (x - y).
                    float w = 2 * k.W[i / k.N];
                    k.Dx[i] = (k.X[i] - k.Y[i]) * w + k.Dx[i];
                }
            }
        }
    }
}
