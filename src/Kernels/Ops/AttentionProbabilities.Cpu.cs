// The attention softmax on the CPU: one thread a row; the row stays in L1 through its passes. Contract: AttentionProbabilities.cs.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

public static partial class AttentionProbabilities
{
    private static unsafe class Cpu
    {
        // No score comes near: a maximum below this is HF's float.MinValue, so every key of the row is masked.
        private const float AllMasked = float.MinValue / 2;

        public static void Forward(string op, CpuDevice cpu, Tensor scores, Tensor bias, KeyMask mask, long batch, int H, int Tq, int Tk, BiasLayout layout)
        {
            int* lengths = (int*)mask.Lengths.Address;
            for (long b = 0; lengths != null && b < batch; b++)
            {
                if (lengths[b] < 0 || lengths[b] > Tk)
                    throw new ArgumentException($"{op}: mask.Lengths[{b}] is {lengths[b]}, expected 0 to Tk = {Tk}.", nameof(mask));
            }
            CpuRows.Run(cpu, batch * H * Tq, Tk, new ForwardKernel
            {
                Scores = (float*)scores.Address,
                Bias = (float*)bias.Address,
                Mask = (float*)mask.Mask.Address,
                Lengths = lengths,
                H = H,
                Tq = Tq,
                Tk = Tk,
                Causal = mask.Causal,
                ByDistance = layout == BiasLayout.ByDistance,
            });
        }

        public static void Backward(CpuDevice cpu, Tensor p, Tensor dp, Tensor ds, long rows, int Tk) =>
            CpuRows.Run(cpu, rows, Tk, new BackwardKernel { P = (float*)p.Address, Dp = (float*)dp.Address, Ds = (float*)ds.Address, Tk = Tk });

        private struct ForwardKernel : IRowKernel
        {
            public float* Scores, Bias, Mask;
            public int* Lengths;
            public int H, Tq, Tk;
            public bool Causal, ByDistance;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                {
                    long q = row % Tq, h = row / Tq % H, b = row / Tq / H;
                    long visible = Lengths == null ? Tk : Lengths[b];
                    if (Causal)
                        visible = Math.Clamp(q + Tk - Tq + 1, 0, visible);
                    float* s = Scores + row * Tk;
                    float* bias = Bias == null ? null
                        : ByDistance ? Bias + h * ((long)Tq + Tk - 1) + (Tq - 1 - q)
                        : Bias + (h * Tq + q) * Tk;
                    float* mask = Mask == null ? null : Mask + b * Tk;
                    float max = Add<V>(s, bias, mask, visible);
                    if (max <= AllMasked)
                    {
                        new Span<float>(s, Tk).Fill(1f / Tk);
                        continue;
                    }
                    float scale = (float)(1 / RowMath.ExpShifted<V>(s, max, s, visible));
                    long i = 0;
                    for (; i <= visible - V.Lanes; i += V.Lanes)
                        (V.Load(s + i) * V.Broadcast(scale)).Store(s + i);
                    for (; i < visible; i++)
                        s[i] *= scale;
                    new Span<float>(s + visible, (int)(Tk - visible)).Clear();
                }
            }

            // Returns the largest sum; -infinity where nothing is visible.
            [MethodImpl(Jit.Loop)]
            private static float Add<V>(float* s, float* bias, float* mask, long n)
                where V : unmanaged, ISimd<V>
            {
                V max = V.Broadcast(float.NegativeInfinity);
                long i = 0;
                for (; i <= n - V.Lanes; i += V.Lanes)
                    max = V.Max(max, AddAt<V>(s, bias, mask, i));
                float best = RowMath.MaxLane(max);
                for (; i < n; i++)
                {
                    float v = AddAt<F32x1>(s, bias, mask, i).Value;
                    best = best > v ? best : v;
                }
                return best;
            }

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            private static V AddAt<V>(float* s, float* bias, float* mask, long i)
                where V : unmanaged, ISimd<V>
            {
                V v = V.Load(s + i);
                if (bias != null)
                    v += V.Load(bias + i);
                if (mask != null)
                    v += V.Load(mask + i);
                v.Store(s + i);
                return v;
            }
        }

        private struct BackwardKernel : IRowKernel
        {
            public float* P, Dp, Ds;
            public int Tk;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                {
                    float* p = P + row * Tk, dp = Dp + row * Tk, ds = Ds + row * Tk;
                    // forward: p_k = e_k / sum_j e_j, so: each p_k falls with every s_j by p_k p_j.
                    float mean = (float)RowMath.Dot<V>(p, dp, Tk);
                    long i = 0;
                    for (; i <= Tk - V.Lanes; i += V.Lanes)
                        (V.Load(p + i) * (V.Load(dp + i) - V.Broadcast(mean))).Store(ds + i);
                    for (; i < Tk; i++)
                        ds[i] = p[i] * (dp[i] - mean);
                }
            }
        }
    }
}
