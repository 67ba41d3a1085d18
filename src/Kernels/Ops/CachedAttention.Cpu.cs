// Attention of one query per row on the CPU: keys across the lanes for the scores, a head's columns across the lanes for the mixing. Contract: CachedAttention.cs.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

public static partial class CachedAttention
{
    private static unsafe class Cpu
    {
        public static void Forward(CpuDevice cpu, Tensor q, CachedRows rows, int first, int count, DistanceBias bias, Tensor scores, Tensor context, int H, int dKv, int capacity, int longest) =>
            CpuRows.Run(cpu, (long)count * H, 2L * longest * dKv, new Kernel
            {
                Kept = rows.Host + first,
                Q = (float*)q.Address,
                Context = (float*)context.Address,
                Scores = (float*)scores.Address,
                Bias = bias.Table.IsEmpty ? null : (float*)bias.Table.Address,
                BiasLength = bias.Length,
                Heads = H,
                Width = dKv,
                ScoreWidth = capacity,
            });

        // A row of the kernel is one query and head.
        private struct Kernel : IRowKernel
        {
            public CachedRows.Row* Kept;
            public float* Q, Context, Scores, Bias;
            public int BiasLength, Heads, Width, ScoreWidth;

            [MethodImpl(MethodImplOptions.AggressiveOptimization)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long item = first; item < end; item++)
                {
                    long row = item / Heads, head = item % Heads;
                    CachedRows.Row kept = Kept[row];
                    float* q = Q + item * Width, keys = (float*)kept.Keys, values = (float*)kept.Values;
                    float* s = Scores + item * ScoreWidth;
                    Multiply<V>(q, keys + head * Width * kept.Capacity, kept.Capacity, kept.Count, s);
                    if (Bias != null)
                        Add<V>(s, Bias + head * (2L * BiasLength - 1) + BiasLength - kept.Count, kept.Count);
                    float max = RowMath.Max<V>(s, kept.Count);
                    double sum = RowMath.ExpShifted<V>(s, max, s, kept.Count);
                    Mix<V>(s, values + head * Width, (long)Heads * Width, kept.Count, (float)(1 / sum), Context + item * Width);
                }
            }

            // s = q K^T, keys across the lanes. The last lanes may be of keys that are not there: their numbers are read by nobody.
            private readonly void Multiply<V>(float* q, float* keys, int capacity, int count, float* s)
                where V : unmanaged, ISimd<V>
            {
                int j = 0;
                for (; j + V.Lanes < count; j += 2 * V.Lanes)
                {
                    // The capacity is a multiple of the widest vector; two narrower ones stay inside it too.
                    if (j + 2 * V.Lanes > capacity)
                        break;
                    V a = V.Broadcast(0), b = a;
                    float* at = keys + j;
                    for (int d = 0; d < Width; d++, at += capacity)
                    {
                        V x = V.Broadcast(q[d]);
                        a = V.MultiplyAdd(x, V.Load(at), a);
                        b = V.MultiplyAdd(x, V.Load(at + V.Lanes), b);
                    }
                    a.Store(s + j);
                    b.Store(s + j + V.Lanes);
                }
                for (; j < count; j += V.Lanes)
                {
                    V a = V.Broadcast(0);
                    float* at = keys + j;
                    for (int d = 0; d < Width; d++, at += capacity)
                        a = V.MultiplyAdd(V.Broadcast(q[d]), V.Load(at), a);
                    a.Store(s + j);
                }
            }

            private static void Add<V>(float* s, float* bias, int count)
                where V : unmanaged, ISimd<V>
            {
                int j = 0;
                for (; j <= count - V.Lanes; j += V.Lanes)
                    (V.Load(s + j) + V.Load(bias + j)).Store(s + j);
                for (; j < count; j++)
                    s[j] += bias[j];
            }

            // The head's columns across the lanes, two keys at a time: one chain would wait for each sum.
            private readonly void Mix<V>(float* p, float* values, long step, int count, float scale, float* context)
                where V : unmanaged, ISimd<V>
            {
                int d = 0;
                for (; d <= Width - V.Lanes; d += V.Lanes)
                    (Column<V>(p, values + d, step, count) * V.Broadcast(scale)).Store(context + d);
                for (; d < Width; d++)
                    (Column<F32x1>(p, values + d, step, count) * F32x1.Broadcast(scale)).Store(context + d);
            }

            private static V Column<V>(float* p, float* values, long step, int count)
                where V : unmanaged, ISimd<V>
            {
                V even = V.Broadcast(0), odd = even;
                int j = 0;
                for (; j + 1 < count; j += 2, values += 2 * step)
                {
                    even = V.MultiplyAdd(V.Broadcast(p[j]), V.Load(values), even);
                    odd = V.MultiplyAdd(V.Broadcast(p[j + 1]), V.Load(values + step), odd);
                }
                if (j < count)
                    even = V.MultiplyAdd(V.Broadcast(p[j]), V.Load(values), even);
                return even + odd;
            }
        }
    }
}
