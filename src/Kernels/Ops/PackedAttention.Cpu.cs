// Packed attention on the CPU: one thread per example and head, all intermediate results in that thread's working memory. Contract: PackedAttention.cs.
// Scores are made transposed, a panel of queries across and keys down: a panel of p is then at once the packed operand of the next product, and
// the softmax runs lane by lane. A head's k and v are packed before anything is written, and a block of queries before its dq: that is what lets
// the gradients overwrite q, k and v.
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

public static partial class PackedAttention
{
    /// <summary>The work by a named micro-kernel and its vector, validated arguments; tests compare them all on one machine.</summary>
    internal static void RunWith<TKernel, V>(CpuDevice cpu, in Operands operands, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets)
        where TKernel : unmanaged, IMicroKernel
        where V : unmanaged, ISimd<V> => Cpu.Execute<TKernel, V>(cpu, operands, queryOffsets, keyOffsets);

    private static unsafe class Cpu
    {
        public static void Run(CpuDevice cpu, in Operands operands, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets)
        {
            if (Vector512.IsHardwareAccelerated)
                Execute<MicroKernel512, F32x16>(cpu, operands, queryOffsets, keyOffsets);
            else if (Vector256.IsHardwareAccelerated)
                Execute<MicroKernel256, F32x8>(cpu, operands, queryOffsets, keyOffsets);
            else if (Vector128.IsHardwareAccelerated)
                Execute<MicroKernel128, F32x4>(cpu, operands, queryOffsets, keyOffsets);
            else
                Execute<MicroKernelScalar, F32x1>(cpu, operands, queryOffsets, keyOffsets);
        }

        public static void Execute<TKernel, V>(CpuDevice cpu, in Operands operands, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets)
            where TKernel : unmanaged, IMicroKernel
            where V : unmanaged, ISimd<V>
        {
            const string Purpose = "attention's working memory";
            int examples = queryOffsets.Length - 1;
            bool backward = !operands.Dk.IsEmpty;
            long floats = 0;
            double flops = 0;
            for (int b = 0; b < examples; b++)
            {
                int queries = queryOffsets[b + 1] - queryOffsets[b], keys = keyOffsets[b + 1] - keyOffsets[b];
                floats = Math.Max(floats, new Workspace<TKernel>(null, queries, keys, operands.Width, backward).Floats);
                flops += (backward ? 10.0 : 4.0) * queries * keys * operands.Width * operands.Heads;
            }
            int items = checked(examples * operands.Heads);
            int perTask = flops < GemmBlocking.SerialFlops ? items : 1;
            int tasks = GemmBlocking.Pieces(items, perTask);
            fixed (int* q = queryOffsets, k = keyOffsets)
            {
                if (cpu.Pool.IsInsideBody)
                {
                    // The workers' memory may be in use around this call.
                    float* own = WorkerMemory.Allocate(floats, Purpose);
                    try
                    {
                        var body = new Body<TKernel, V>(operands, q, k, own, 0, items, perTask);
                        cpu.Pool.Run(tasks, ref body);
                    }
                    finally
                    {
                        NativeMemory.AlignedFree(own);
                    }
                    return;
                }
                lock (cpu.Pool.Gate)
                {
                    float* memory = cpu.Memory.Take(floats, Purpose, out long perWorker);
                    var body = new Body<TKernel, V>(operands, q, k, memory, perWorker, items, perTask);
                    cpu.Pool.Run(tasks, ref body);
                }
            }
        }
    }

    /// <summary>
    /// One thread's memory for one example and head; a null start only counts. With heads of 64: 0.2 MB forward and 0.6 MB backward at 228 positions, 1 MB backward at 700.
    /// Beyond that packed k and v are read from L3, once for each panel of queries: no loss forward, a tenth backward at 2048 positions (Zen 5, bench/results.csv).
    /// </summary>
    private readonly unsafe struct Workspace<TKernel>
        where TKernel : unmanaged, IMicroKernel
    {
        // Floats of p^T that are kept until dk and dv are brought up to date: 128 KB, so with ds^T a quarter of L2.
        private const int BlockFloats = 32 * 1024;

        /// <summary>Keys, or queries, that one sum goes over before the next is added to it.</summary>
        public const int Steps = 256;

        // Panels by rows: keys along K; keys along K; K along keys.
        public readonly float* Key, Value, Across;

        // Panels by columns of one panel of queries: q^T and dc^T, scores and their gradient, a result [K, width] and its transpose.
        public readonly float* Query, DContext, Scores, DScores, Result, Rows;

        // Backward, for a block of queries: p^T and ds^T by rows, q and dc by columns.
        public readonly float* P, Ds, Queries, DContexts;

        // The bias in reverse, the lanes' numbers, and 1 / sum.
        public readonly float* Bias, Numbers, Scale;

        public readonly int BlockQueries;

        public readonly long Floats;

        public Workspace(float* start, int queries, int keys, int K, bool backward)
        {
            int columns = TKernel.Columns;
            long paddedKeys = Panels.PaddedRows<TKernel>(keys), paddedK = Panels.PaddedRows<TKernel>(K);
            int panels = GemmBlocking.Pieces(queries, columns);
            int atOnce = Math.Clamp(BlockFloats / columns / keys, 1, Steps / columns);
            BlockQueries = GemmBlocking.EvenPart(panels, GemmBlocking.Pieces(panels, atOnce), 1) * columns;
            long used = 0;
            Key = Take(start, ref used, paddedKeys * K);
            Across = Take(start, ref used, paddedK * keys);
            Query = Take(start, ref used, (long)columns * K);
            Scores = Take(start, ref used, paddedKeys * columns);
            Result = Take(start, ref used, paddedK * columns);
            Rows = Take(start, ref used, (long)columns * K);
            Bias = Take(start, ref used, (long)queries + keys + columns);
            Numbers = Take(start, ref used, columns);
            Scale = Take(start, ref used, columns);
            Value = DContext = DScores = P = Ds = Queries = DContexts = null;
            if (backward)
            {
                long wholeK = (long)GemmBlocking.Pieces(K, columns) * columns;
                Value = Take(start, ref used, paddedKeys * K);
                DContext = Take(start, ref used, (long)columns * K);
                DScores = Take(start, ref used, paddedKeys * columns);
                P = Take(start, ref used, paddedKeys * BlockQueries);
                Ds = Take(start, ref used, paddedKeys * BlockQueries);
                Queries = Take(start, ref used, wholeK * BlockQueries);
                DContexts = Take(start, ref used, wholeK * BlockQueries);
            }
            Floats = used;
        }

        private static float* Take(float* start, ref long used, long floats)
        {
            float* taken = start + used;
            used += (floats + 15) & ~15L;
            return taken;
        }
    }

    /// <summary>One piece: one example's head, or all of them where there is little to do.</summary>
    private readonly unsafe struct Body<TKernel, V>(in Operands operands, int* queryOffsets, int* keyOffsets, float* memory, long perWorker, int items, int perTask) : IParallelBody
        where TKernel : unmanaged, IMicroKernel
        where V : unmanaged, ISimd<V>
    {
        private readonly float* _q = (float*)operands.Q.Address, _k = (float*)operands.K.Address, _v = (float*)operands.V.Address;
        private readonly float* _context = (float*)operands.Context.Address, _bias = (float*)operands.Bias.Table.Address;
        private readonly float* _dq = (float*)operands.Dq.Address, _dk = (float*)operands.Dk.Address, _dv = (float*)operands.Dv.Address;
        private readonly int _heads = operands.Heads, K = operands.Width, _biasLength = operands.Bias.Length;
        private readonly bool _causal = operands.Causal;
        private readonly int* _queryOffsets = queryOffsets, _keyOffsets = keyOffsets;
        private readonly float* _memory = memory;
        private readonly long _perWorker = perWorker;
        private readonly int _items = items, _perTask = perTask;

        private long Step => (long)_heads * K;

        public void Invoke(int task, int worker)
        {
            float* memory = _memory + worker * _perWorker;
            int end = Math.Min(_items, (task + 1) * _perTask);
            for (int item = task * _perTask; item < end; item++)
            {
                int b = item / _heads, h = item % _heads;
                int queries = _queryOffsets[b + 1] - _queryOffsets[b], keys = _keyOffsets[b + 1] - _keyOffsets[b];
                long atQuery = _queryOffsets[b] * Step + (long)h * K, atKey = _keyOffsets[b] * Step + (long)h * K;
                var space = new Workspace<TKernel>(memory, queries, keys, K, _dk != null);
                Prepare(space, h, queries, keys);
                if (_dk != null)
                    Backward(space, queries, keys, atQuery, atKey);
                else
                    Forward(space, queries, keys, atQuery, atKey);
            }
        }

        private void Prepare(in Workspace<TKernel> space, int h, int queries, int keys)
        {
            for (int i = 0; i < TKernel.Columns; i++)
                space.Numbers[i] = i;
            if (_bias == null)
                return;
            // Queries run across the panel, and the bias falls back by one with each: read in reverse it is a plain load.
            int distances = queries + keys - 1;
            new ReadOnlySpan<float>(_bias + h * (2L * _biasLength - 1) + _biasLength - queries, distances).CopyTo(new Span<float>(space.Bias, distances));
            new Span<float>(space.Bias, distances).Reverse();
            new Span<float>(space.Bias + distances, TKernel.Columns).Clear();
        }

        private void Forward(in Workspace<TKernel> space, int queries, int keys, long atQuery, long atKey)
        {
            Panels.PackRows<TKernel, F32Source>(new F32Source(_k + atKey, Step), false, 0, keys, 0, K, space.Key);
            Panels.PackRows<TKernel, F32Source>(new F32Source(_v + atKey, Step), true, 0, K, 0, keys, space.Across);
            for (int q = 0; q < queries; q += TKernel.Columns)
            {
                int columns = Math.Min(TKernel.Columns, queries - q), width = Panels.Width<TKernel>(columns);
                int visible = Exponentials(space, q, columns, keys, atQuery);
                // context^T = v^T p^T; p's scale is a factor of each column.
                MixAcross(space, space.Scores, width, visible, keys);
                Softmax.Scale<V>(space.Result, width, K, space.Scale);
                StoreRows(space, _context + atQuery + q * Step, columns, width);
            }
        }

        private void Backward(in Workspace<TKernel> space, int queries, int keys, long atQuery, long atKey)
        {
            Panels.PackRows<TKernel, F32Source>(new F32Source(_k + atKey, Step), false, 0, keys, 0, K, space.Key);
            Panels.PackRows<TKernel, F32Source>(new F32Source(_v + atKey, Step), false, 0, keys, 0, K, space.Value);
            if (_dq != null)
                Panels.PackRows<TKernel, F32Source>(new F32Source(_k + atKey, Step), true, 0, K, 0, keys, space.Across);
            var q = new F32Source(_q + atQuery, Step);
            var dcontext = new F32Source(_context + atQuery, Step);
            // From the last block on: it sees every key, so it may overwrite dk and dv, and the others add.
            int blocks = GemmBlocking.Pieces(queries, space.BlockQueries);
            for (int block = blocks - 1; block >= 0; block--)
            {
                int q0 = block * space.BlockQueries, count = Math.Min(space.BlockQueries, queries - q0);
                // Whole panels of keys: the rows beyond the visible ones are zero.
                int covered = Covered(_causal ? Math.Min(keys, q0 + count) : keys, keys);
                for (int d = 0; d < K; d += TKernel.Columns)
                {
                    int columns = Math.Min(TKernel.Columns, K - d);
                    Panels.PackColumns<TKernel, F32Source>(q, false, d, columns, q0, count, space.Queries + (long)d * count);
                    Panels.PackColumns<TKernel, F32Source>(dcontext, false, d, columns, q0, count, space.DContexts + (long)d * count);
                }
                for (int i = 0; i < count; i += TKernel.Columns)
                {
                    int columns = Math.Min(TKernel.Columns, count - i), width = Panels.Width<TKernel>(columns);
                    int visible = Exponentials(space, q0 + i, columns, keys, atQuery);
                    // forward: c = p v, so: dp = dc v^T
                    Panels.PackColumns<TKernel, F32Source>(dcontext, true, q0 + i, columns, 0, K, space.DContext);
                    Panels.Multiply<TKernel>(Covered(visible, keys), width, K, space.Value, K, 0, space.DContext, space.DScores, width, 1, false);
                    Softmax.Backward<V>(space.Scores, space.DScores, width, visible, space.Scale);
                    if (_dq != null)
                    {
                        // forward: s = q k^T, so: dq = ds k
                        MixAcross(space, space.DScores, width, visible, keys);
                        StoreRows(space, _dq + atQuery + (q0 + i) * Step, columns, width);
                    }
                    new Span<float>(space.Scores + (long)visible * width, (covered - visible) * width).Clear();
                    new Span<float>(space.DScores + (long)visible * width, (covered - visible) * width).Clear();
                    Turn(space.Scores, width, columns, covered, count, i, space.P);
                    Turn(space.DScores, width, columns, covered, count, i, space.Ds);
                }
                for (int d = 0; d < K; d += TKernel.Columns)
                {
                    int columns = Math.Min(TKernel.Columns, K - d);
                    // forward: c = p v and s = q k^T, so: dv = p^T dc, dk = ds^T q
                    Panels.Multiply<TKernel>(covered, columns, count, space.P, count, 0, space.DContexts + (long)d * count, _dv + atKey + d, Step, 1, block < blocks - 1);
                    Panels.Multiply<TKernel>(covered, columns, count, space.Ds, count, 0, space.Queries + (long)d * count, _dk + atKey + d, Step, 1, block < blocks - 1);
                }
            }
        }

        // e^T of one panel of queries and its scale; returns how many keys any of them sees.
        private int Exponentials(in Workspace<TKernel> space, int q, int columns, int keys, long atQuery)
        {
            int width = Panels.Width<TKernel>(columns);
            int visible = _causal ? q + columns : keys;
            Panels.PackColumns<TKernel, F32Source>(new F32Source(_q + atQuery, Step), true, q, columns, 0, K, space.Query);
            Panels.Multiply<TKernel>(Covered(visible, keys), width, K, space.Key, K, 0, space.Query, space.Scores, width, 1, false);
            Softmax.Forward<V>(space.Scores, width, visible, _bias == null ? null : space.Bias + q + keys - 1, _causal ? q + 1 : keys, space.Numbers, space.Scale);
            return visible;
        }

        // result [K, width] = across [K, visible] times the panel.
        private void MixAcross(in Workspace<TKernel> space, float* panel, int width, int visible, int keys)
        {
            for (int k0 = 0; k0 < visible; k0 += Workspace<TKernel>.Steps)
            {
                int kc = Math.Min(Workspace<TKernel>.Steps, visible - k0);
                Panels.Multiply<TKernel>(K, width, kc, space.Across, keys, k0, panel + (long)k0 * width, space.Result, width, 1, k0 > 0);
            }
        }

        // The result is a panel of queries across: turned, its rows are those of the tensor.
        private void StoreRows(in Workspace<TKernel> space, float* to, int columns, int width)
        {
            Packing.AlongRows(new F32Source(space.Result, width), 0, 0, columns, K, K, space.Rows);
            for (int i = 0; i < columns; i++)
                new ReadOnlySpan<float>(space.Rows + (long)i * K, K).CopyTo(new Span<float>(to + i * Step, K));
        }

        // Part of the operand by rows that a panel of p^T or ds^T becomes in the sums over queries: its queries are k from `first` on, of `count`.
        private static void Turn(float* panel, int width, int columns, int rows, int count, int first, float* to)
        {
            for (int i = 0; i < rows;)
            {
                int height = rows - i >= TKernel.Rows ? TKernel.Rows : TKernel.EdgeRows;
                Packing.AlongRows(new F32Source(panel, width), i, 0, columns, Math.Min(height, rows - i), height, to + (long)i * count + (long)first * height);
                i += height;
            }
        }

        // As many rows of packed keys as end on a whole panel, or all of them.
        private static int Covered(int visible, int keys) => Math.Min(keys, GemmBlocking.Pieces(visible, TKernel.Rows) * TKernel.Rows);
    }
}
