// RMSNorm on a GPU: one warp a row, shuffles instead of shared memory, so that no warp waits for another. The row is read twice; the second time it
// comes from the cache, 8 rows of 4 KB beside each other. Contract: RmsNorm.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class RmsNorm
{
    internal static class Ilgpu
    {
        /// <summary>Without y: r alone.</summary>
        public static void Forward(IlgpuDevice gpu, Tensor x, Tensor delta, Tensor sum, Tensor w, Tensor r, Tensor y, long rows, long D, float epsilon)
        {
            if (rows == 0)
                return;
            var kernel = new ForwardKernel
            {
                X = gpu.View<float>(x),
                Delta = gpu.View<float>(delta),
                Sum = gpu.View<float>(delta.IsEmpty ? x : sum),
                W = gpu.View<float>(w),
                R = gpu.View<float>(r),
                Y = gpu.View<float>(y),
                Rows = rows,
                D = D,
                Epsilon = epsilon,
                Adds = !delta.IsEmpty,
                Saves = !r.IsEmpty,
                Norms = !y.IsEmpty,
                Quads = GpuRows.Quads(D, x.Address | delta.Address | sum.Address | w.Address | y.Address),
            };
            gpu.Launch(kernel, GpuRows.WarpGroups(gpu, rows), gpu.Threads);
        }

        public static void Backward(IlgpuDevice gpu, Tensor x, Tensor w, Tensor r, Tensor dy, Tensor dx, long rows, long D, bool accumulate)
        {
            if (rows == 0)
                return;
            var kernel = new BackwardKernel
            {
                X = gpu.View<float>(x),
                W = gpu.View<float>(w),
                R = gpu.View<float>(r),
                Dy = gpu.View<float>(dy),
                Dx = gpu.View<float>(dx),
                Rows = rows,
                D = D,
                Accumulate = accumulate,
                Quads = GpuRows.Quads(D, x.Address | w.Address | dy.Address | dx.Address),
            };
            gpu.Launch(kernel, GpuRows.WarpGroups(gpu, rows), gpu.Threads);
        }

        internal struct ForwardKernel : IGpuKernel<ForwardKernel>
        {
            public ArrayView<float> X, Delta, Sum, W, R, Y;
            public long Rows, D, Quads;
            public float Epsilon;
            public GpuFlag Adds, Saves, Norms;

            public static void Run(ForwardKernel k)
            {
                int lane = Warp.LaneIdx, warp = Warp.WarpSize;
                ArrayView<F4> x4 = k.X.Cast<F4>(), delta4 = k.Delta.Cast<F4>(), sum4 = k.Sum.Cast<F4>(), w4 = k.W.Cast<F4>(), y4 = k.Y.Cast<F4>();
                for (long row = GpuRows.First(); row < k.Rows; row += GpuRows.Stride())
                {
                    long start = row * k.D;
                    double squares = 0;
                    for (long q = lane; q < k.Quads; q += warp)
                    {
                        F4 x = x4[start / 4 + q];
                        if (k.Adds)
                        {
                            F4 d = delta4[start / 4 + q];
                            x = new F4(x.X + d.X, x.Y + d.Y, x.Z + d.Z, x.W + d.W);
                            sum4[start / 4 + q] = x;
                        }
                        squares += ((double)x.X * x.X + (double)x.Y * x.Y) + ((double)x.Z * x.Z + (double)x.W * x.W);
                    }
                    for (long i = 4 * k.Quads + lane; i < k.D; i += warp)
                    {
                        float x = k.X[start + i];
                        if (k.Adds)
                        {
                            x += k.Delta[start + i];
                            k.Sum[start + i] = x;
                        }
                        squares += (double)x * x;
                    }
                    float r = (float)(1 / Math.Sqrt(GpuSums.Warp(squares) / k.D + k.Epsilon));
                    if (k.Saves && lane == 0)
                        k.R[row] = r;
                    if (!k.Norms)
                        continue;
                    // Each lane reads what it has read or written itself: Sum is X where nothing is added.
                    for (long q = lane; q < k.Quads; q += warp)
                    {
                        F4 x = sum4[start / 4 + q], w = w4[q];
                        y4[start / 4 + q] = new F4(x.X * r * w.X, x.Y * r * w.Y, x.Z * r * w.Z, x.W * r * w.W);
                    }
                    for (long i = 4 * k.Quads + lane; i < k.D; i += warp)
                        k.Y[start + i] = k.Sum[start + i] * r * k.W[i];
                }
            }
        }

        internal struct BackwardKernel : IGpuKernel<BackwardKernel>
        {
            public ArrayView<float> X, W, R, Dy, Dx;
            public long Rows, D, Quads;
            public GpuFlag Accumulate;

            public static void Run(BackwardKernel k)
            {
                int lane = Warp.LaneIdx, warp = Warp.WarpSize;
                ArrayView<F4> x4 = k.X.Cast<F4>(), w4 = k.W.Cast<F4>(), dy4 = k.Dy.Cast<F4>(), dx4 = k.Dx.Cast<F4>();
                for (long row = GpuRows.First(); row < k.Rows; row += GpuRows.Stride())
                {
                    long start = row * k.D;
                    double inner = 0;
                    for (long q = lane; q < k.Quads; q += warp)
                    {
                        F4 x = x4[start / 4 + q], w = w4[q], dy = dy4[start / 4 + q];
                        inner += ((double)(w.X * dy.X) * x.X + (double)(w.Y * dy.Y) * x.Y) + ((double)(w.Z * dy.Z) * x.Z + (double)(w.W * dy.W) * x.W);
                    }
                    for (long i = 4 * k.Quads + lane; i < k.D; i += warp)
                        inner += (double)(k.W[i] * k.Dy[start + i]) * k.X[start + i];
                    // forward: y_i = w_i r x_i, where r is a function of every x_j, so: its own term less the common one.
                    double root = k.R[row];
                    float r = (float)root, common = (float)(root * root * root * GpuSums.Warp(inner) / k.D);
                    for (long q = lane; q < k.Quads; q += warp)
                    {
                        F4 x = x4[start / 4 + q], w = w4[q], dy = dy4[start / 4 + q];
                        var d = new F4(At(r, w.X, dy.X, common, x.X), At(r, w.Y, dy.Y, common, x.Y), At(r, w.Z, dy.Z, common, x.Z), At(r, w.W, dy.W, common, x.W));
                        if (k.Accumulate)
                        {
                            F4 old = dx4[start / 4 + q];
                            d = new F4(old.X + d.X, old.Y + d.Y, old.Z + d.Z, old.W + d.W);
                        }
                        dx4[start / 4 + q] = d;
                    }
                    for (long i = 4 * k.Quads + lane; i < k.D; i += warp)
                    {
                        float d = At(r, k.W[i], k.Dy[start + i], common, k.X[start + i]);
                        k.Dx[start + i] = k.Accumulate ? k.Dx[start + i] + d : d;
                    }
                }
            }

            private static float At(float r, float w, float dy, float common, float x) => r * (w * dy) - common * x;
        }
    }
}
