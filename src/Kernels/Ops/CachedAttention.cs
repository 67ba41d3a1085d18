// Attention of one query per row over keys and values that are kept from step to step, every row over memory of its own. Deliberately not: filling that
// memory, many queries at once (PackedAttention).
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>What one row attends to.</summary>
/// <param name="Keys">f32 [H*K, Capacity]: transposed, so that the scores of neighbouring keys are neighbouring lanes.</param>
/// <param name="Values">f32 [Capacity, H*K].</param>
/// <param name="Count">Positions that are filled, 1 or more.</param>
/// <param name="Capacity">Positions that there is memory for, a multiple of <see cref="CachedAttention.Granule"/>.</param>
public readonly record struct CachedKeys(Tensor Keys, Tensor Values, int Count, int Capacity);

/// <summary>One decoding step's attention (HF: T5Attention with past_key_values, without its linear layers).</summary>
/// <remarks>
/// Forward   s = q K^T + bias;   p = softmax(s);   context = p V, for each row and head on its own.
/// Shapes    q, context: [R, H*K];  head h is columns h*K to h*K + K - 1.
/// Numerics  f32 products, the row maximum subtracted, the normaliser in double. A row's bits depend on nothing but that row: not on its neighbours, their
///           lengths, its capacity or the number of threads. That is what makes a text in a batch the same bits as the text alone.
/// </remarks>
public static unsafe class CachedAttention
{
    /// <summary>Capacities are whole multiples of this: the widest vector, so that no load leaves a row of keys.</summary>
    public const int Granule = 16;

    private const int MostRows = 512;

    /// <summary>context from q and what is kept.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="q">f32 [R, H*K].</param>
    /// <param name="rows">[R], each row's keys and values.</param>
    /// <param name="bias">Position bias by distance, the query standing at its row's last key; for the longest row at least. Default: none.</param>
    /// <param name="scores">f32, scratch of [R, H, largest capacity] at least.</param>
    /// <param name="context">f32 [R, H*K], overwritten; may be <paramref name="q"/>.</param>
    /// <param name="H">Heads, 1 or more.</param>
    /// <param name="dKv">K, width of a head, 1 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a row does not fit.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor q, ReadOnlySpan<CachedKeys> rows, DistanceBias bias, Tensor scores, Tensor context, int H, int dKv)
    {
        const string Op = "CachedAttention.Forward";
        Require.Dim(Op, H, nameof(H));
        Require.Dim(Op, dKv, nameof(dKv));
        Require.Dim(Op, rows.Length, "R");
        long inner = (long)H * dKv;
        int capacity = 0, longest = 0;
        for (int r = 0; r < rows.Length; r++)
        {
            ref readonly CachedKeys row = ref rows[r];
            if (row.Count < 1 || row.Count > row.Capacity || row.Capacity % Granule != 0)
                throw new ArgumentException($"{Op}: row {r} has {row.Count} positions in room for {row.Capacity}, expected 1 to its capacity, and a multiple of {Granule} of that.", nameof(rows));
            Require.Shape(Op, device, row.Keys, "rows.Keys", DType.F32, "[H*K, Capacity]", inner, row.Capacity);
            Require.Shape(Op, device, row.Values, "rows.Values", DType.F32, "[Capacity, H*K]", row.Capacity, inner);
            capacity = Math.Max(capacity, row.Capacity);
            longest = Math.Max(longest, row.Count);
        }
        Require.Shape(Op, device, q, nameof(q), DType.F32, "[R, H*K]", rows.Length, inner);
        Require.Shape(Op, device, context, nameof(context), DType.F32, "[R, H*K]", rows.Length, inner);
        long needed = (long)rows.Length * H * capacity;
        Require.Shape(Op, device, scores.Elements > needed ? scores.Slice(0, needed) : scores, nameof(scores), DType.F32, "[R, H, capacity]", rows.Length, H, capacity);
        if (!bias.Table.IsEmpty)
        {
            if (longest > bias.Length)
                throw new ArgumentException($"{Op}: a row has {longest} positions, expected {bias.Length} at most, the length of the bias table. Make it for the longest row.", nameof(bias));
            Require.Shape(Op, device, bias.Table, "bias.Table", DType.F32, "[H, 2 Length - 1]", H, 2L * bias.Length - 1);
        }
        if (device is not CpuDevice cpu)
            throw Require.NoKernel(Op, device);
        KeptRow* kept = stackalloc KeptRow[Math.Min(rows.Length, MostRows)];
        for (int first = 0; first < rows.Length; first += MostRows)
        {
            int count = Math.Min(MostRows, rows.Length - first);
            for (int r = 0; r < count; r++)
                kept[r] = new KeptRow { Keys = (float*)rows[first + r].Keys.Address, Values = (float*)rows[first + r].Values.Address, Count = rows[first + r].Count, Capacity = rows[first + r].Capacity };
            CpuRows.Run(cpu, (long)count * H, 2L * longest * dKv, new Kernel
            {
                Kept = kept,
                Q = (float*)q.Address + first * inner,
                Context = (float*)context.Address + first * inner,
                Scores = (float*)scores.Address + (long)first * H * capacity,
                Bias = bias.Table.IsEmpty ? null : (float*)bias.Table.Address,
                BiasLength = bias.Length,
                Heads = H,
                Width = dKv,
                ScoreWidth = capacity,
            });
        }
    }

    private struct KeptRow
    {
        public float* Keys, Values;
        public int Count, Capacity;
    }

    // A row of the kernel is one query and head.
    private struct Kernel : IRowKernel
    {
        public KeptRow* Kept;
        public float* Q, Context, Scores, Bias;
        public int BiasLength, Heads, Width, ScoreWidth;

        [MethodImpl(Jit.Loop)]
        public readonly void Rows<V>(long first, long end)
            where V : unmanaged, ISimd<V>
        {
            for (long item = first; item < end; item++)
            {
                long row = item / Heads, head = item % Heads;
                KeptRow kept = Kept[row];
                float* q = Q + item * Width;
                float* s = Scores + item * ScoreWidth;
                // A crowd's keys and values are more than L2. These are on their way while the scores are made, the others while these are read.
                for (int j = 0; j < AheadValues && j < kept.Count; j++)
                    Ahead(kept.Values + head * Width + j * (long)Heads * Width);
                Multiply<V>(q, kept.Keys + head * Width * kept.Capacity, kept.Capacity, kept.Count, s);
                if (Bias != null)
                    Add<V>(s, Bias + head * (2L * BiasLength - 1) + BiasLength - kept.Count, kept.Count);
                float max = RowMath.Max<V>(s, kept.Count);
                double sum = RowMath.ExpShifted<V>(s, max, s, kept.Count);
                Mix<V>(s, kept.Values + head * Width, (long)Heads * Width, kept.Count, (float)(1 / sum), Context + item * Width);
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
