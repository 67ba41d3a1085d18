// RMSNorm on the CPU: one thread a row, two passes over it while it lies in L1. Contract: RmsNorm.cs.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

public static partial class RmsNorm
{
    private static unsafe class Cpu
    {
        public static void Forward(CpuDevice cpu, Tensor x, Tensor delta, Tensor sum, Tensor w, Tensor r, Tensor y, long rows, long D, float epsilon) =>
            CpuRows.Run(cpu, rows, D, new ForwardKernel
            {
                X = (float*)x.Address,
                Delta = (float*)delta.Address,
                Sum = (float*)sum.Address,
                W = (float*)w.Address,
                R = (float*)r.Address,
                Y = (float*)y.Address,
                D = D,
                Epsilon = epsilon,
            });

        public static void InverseRms(CpuDevice cpu, Tensor x, Tensor r, long rows, long D, float epsilon) =>
            CpuRows.Run(cpu, rows, D, new InverseRmsKernel { X = (float*)x.Address, R = (float*)r.Address, D = D, Epsilon = epsilon });

        public static void Backward(CpuDevice cpu, Tensor x, Tensor w, Tensor r, Tensor dy, Tensor dx, long rows, long D, bool accumulate) =>
            CpuRows.Run(cpu, rows, D, new BackwardKernel
            {
                X = (float*)x.Address,
                W = (float*)w.Address,
                R = (float*)r.Address,
                Dy = (float*)dy.Address,
                Dx = (float*)dx.Address,
                D = D,
                Accumulate = accumulate,
            });

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static float Reciprocal<V>(float* x, long D, float epsilon)
            where V : unmanaged, ISimd<V> => (float)(1 / Math.Sqrt(RowMath.Dot<V>(x, x, D) / D + epsilon));

        private struct InverseRmsKernel : IRowKernel
        {
            public float* X, R;
            public long D;
            public float Epsilon;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                    R[row] = Reciprocal<V>(X + row * D, D, Epsilon);
            }
        }

        private struct ForwardKernel : IRowKernel
        {
            public float* X, Delta, Sum, W, R, Y;
            public long D;
            public float Epsilon;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                {
                    float* x = X + row * D;
                    if (Delta != null)
                    {
                        Add<V>(x, Delta + row * D, Sum + row * D);
                        x = Sum + row * D;
                    }
                    float r = Reciprocal<V>(x, D, Epsilon);
                    if (R != null)
                        R[row] = r;
                    float* y = Y + row * D;
                    V scale = V.Broadcast(r);
                    long i = 0;
                    for (; i <= D - V.Lanes; i += V.Lanes)
                        (V.Load(x + i) * scale * V.Load(W + i)).Store(y + i);
                    for (; i < D; i++)
                        y[i] = x[i] * r * W[i];
                }
            }

            [MethodImpl(Jit.Loop)]
            private readonly void Add<V>(float* x, float* delta, float* sum)
                where V : unmanaged, ISimd<V>
            {
                long i = 0;
                for (; i <= D - V.Lanes; i += V.Lanes)
                    (V.Load(x + i) + V.Load(delta + i)).Store(sum + i);
                for (; i < D; i++)
                    sum[i] = x[i] + delta[i];
            }
        }

        private struct BackwardKernel : IRowKernel
        {
            public float* X, W, R, Dy, Dx;
            public long D;
            public bool Accumulate;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                {
                    float* x = X + row * D, dy = Dy + row * D, dx = Dx + row * D;
                    // forward: y_i = w_i r x_i, where r is a function of every x_j, so: its own term less the common one.
                    double r = R[row];
                    float common = (float)(r * r * r * RowMath.WeightedDot<V>(W, dy, x, D) / D);
                    long i = 0;
                    for (; i <= D - V.Lanes; i += V.Lanes)
                        At<V>(x, dy, dx, i, (float)r, common);
                    for (; i < D; i++)
                        At<F32x1>(x, dy, dx, i, (float)r, common);
                }
            }

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            private readonly void At<V>(float* x, float* dy, float* dx, long i, float r, float common)
                where V : unmanaged, ISimd<V>
            {
                V g = V.Load(W + i) * V.Load(dy + i);
                V d = V.Broadcast(r) * g - V.Broadcast(common) * V.Load(x + i);
                if (Accumulate)
                    d = V.Load(dx + i) + d;
                d.Store(dx + i);
            }
        }
    }
}
