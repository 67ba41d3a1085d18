// Attention of one query per row on the CPU: keys across the lanes for the scores, a head's columns across the lanes for the mixing. Contract: CachedAttention.cs.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
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

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long item = first; item < end; item++)
                {
                    long row = item / Heads, head = item % Heads;
                    CachedRows.Row kept = Kept[row];
                    float* q = Q + item * Width, keys = (float*)kept.Keys, values = (float*)kept.Values;
                    float* s = Scores + item * ScoreWidth;
                    // A crowd's keys and values are more than L2. These are on their way while the scores are made, the others while these are read.
                    for (int j = 0; j < AheadValues && j < kept.Count; j++)
                        Ahead(values + head * Width + j * (long)Heads * Width);
                    Multiply<V>(q, keys + head * Width * kept.Capacity, kept.Capacity, kept.Count, s);
                    if (Bias != null)
                        Add<V>(s, Bias + head * (2L * BiasLength - 1) + BiasLength - kept.Count, kept.Count);
                    float max = RowMath.Max<V>(s, kept.Count);
                    double sum = RowMath.ExpShifted<V>(s, max, s, kept.Count);
                    Mix<V>(s, values + head * Width, (long)Heads * Width, kept.Count, (float)(1 / sum), Context + item * Width);
                }
            }

            // s = q K^T, keys across the lanes, four vectors of them at a time: two chains would wait for each sum. The last lanes may be of keys that are not there:
            // their numbers are read by nobody.
            [MethodImpl(Jit.Loop)]
            private readonly void Multiply<V>(float* q, float* keys, int capacity, int count, float* s)
                where V : unmanaged, ISimd<V>
            {
                int j = 0;
                // The capacity is a multiple of the widest vector; four or two of them may leave it.
                for (; j + 2 * V.Lanes < count && j + 4 * V.Lanes <= capacity; j += 4 * V.Lanes)
                {
                    V a = V.Broadcast(0), b = a, c = a, e = a;
                    float* at = keys + j;
                    for (int d = 0; d < Width; d++, at += capacity)
                    {
                        Ahead(at + AheadKeys * capacity);
                        Ahead(at + AheadKeys * capacity + 2 * V.Lanes);
                        V x = V.Broadcast(q[d]);
                        a = V.MultiplyAdd(x, V.Load(at), a);
                        b = V.MultiplyAdd(x, V.Load(at + V.Lanes), b);
                        c = V.MultiplyAdd(x, V.Load(at + 2 * V.Lanes), c);
                        e = V.MultiplyAdd(x, V.Load(at + 3 * V.Lanes), e);
                    }
                    a.Store(s + j);
                    b.Store(s + j + V.Lanes);
                    c.Store(s + j + 2 * V.Lanes);
                    e.Store(s + j + 3 * V.Lanes);
                }
                for (; j + V.Lanes < count && j + 2 * V.Lanes <= capacity; j += 2 * V.Lanes)
                {
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

            [MethodImpl(Jit.Loop)]
            private static void Add<V>(float* s, float* bias, int count)
                where V : unmanaged, ISimd<V>
            {
                int j = 0;
                for (; j <= count - V.Lanes; j += V.Lanes)
                    (V.Load(s + j) + V.Load(bias + j)).Store(s + j);
                for (; j < count; j++)
                    s[j] += bias[j];
            }

            // The head's columns across the lanes, two keys and two vectors of columns at a time: one chain would wait for each sum, and one line of memory for the next.
            private readonly void Mix<V>(float* p, float* values, long step, int count, float scale, float* context)
                where V : unmanaged, ISimd<V>
            {
                int d = 0;
                for (; d <= Width - 2 * V.Lanes; d += 2 * V.Lanes)
                    Columns<V>(p, values + d, step, count, scale, context + d);
                for (; d <= Width - V.Lanes; d += V.Lanes)
                    (Column<V>(p, values + d, step, count) * V.Broadcast(scale)).Store(context + d);
                for (; d < Width; d++)
                    (Column<F32x1>(p, values + d, step, count) * F32x1.Broadcast(scale)).Store(context + d);
            }

            [MethodImpl(Jit.Loop)]
            private static void Columns<V>(float* p, float* values, long step, int count, float scale, float* context)
                where V : unmanaged, ISimd<V>
            {
                V even = V.Broadcast(0), odd = even, even1 = even, odd1 = even;
                int j = 0;
                for (; j + 1 < count; j += 2, values += 2 * step)
                {
                    Ahead(values + AheadValues * step);
                    Ahead(values + (AheadValues + 1) * step);
                    V w = V.Broadcast(p[j]);
                    even = V.MultiplyAdd(w, V.Load(values), even);
                    even1 = V.MultiplyAdd(w, V.Load(values + V.Lanes), even1);
                    w = V.Broadcast(p[j + 1]);
                    odd = V.MultiplyAdd(w, V.Load(values + step), odd);
                    odd1 = V.MultiplyAdd(w, V.Load(values + step + V.Lanes), odd1);
                }
                if (j < count)
                {
                    V w = V.Broadcast(p[j]);
                    even = V.MultiplyAdd(w, V.Load(values), even);
                    even1 = V.MultiplyAdd(w, V.Load(values + V.Lanes), even1);
                }
                ((even + odd) * V.Broadcast(scale)).Store(context);
                ((even1 + odd1) * V.Broadcast(scale)).Store(context + V.Lanes);
            }

            // Rows of K and of V: two to three kilobytes, and an L3's time to answer.
            private const int AheadKeys = 8, AheadValues = 32;

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            private static void Ahead(float* at)
            {
                if (!Sse.IsSupported)
                    return;
                Sse.Prefetch0(at);
                Sse.Prefetch0(at + 16);
            }

            [MethodImpl(Jit.Loop)]
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
