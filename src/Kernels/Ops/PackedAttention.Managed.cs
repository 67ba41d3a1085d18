// Attention's work on one head in float tiles, on any vector width; with bf16 operands they are rounded as they are packed.
// Scores are made transposed, a panel of queries across and keys down: a panel of p is then at once the packed operand of the next product, and
// the softmax runs lane by lane. A head's k and v are packed before anything is written, and a block of queries before its dq: that is what lets
// the gradients overwrite q, k and v.
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

public static partial class PackedAttention
{
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

    /// <summary>The float tiles' loops.</summary>
    private readonly unsafe struct ManagedHead<TKernel, V>(in Operands operands) : IHeadWork
        where TKernel : unmanaged, IMicroKernel
        where V : unmanaged, ISimd<V>
    {
        private readonly HeadTensors _t = new(operands);
        private readonly bool _rounds = operands.Compute == ComputeType.BF16;

        private int K => _t.Width;

        private long Step => _t.Step;

        public long Floats(int queries, int keys) => new Workspace<TKernel>(null, queries, keys, K, _t.Dk != null).Floats;

        public void Run(float* memory, int h, int queries, int keys, long atQuery, long atKey)
        {
            var space = new Workspace<TKernel>(memory, queries, keys, K, _t.Dk != null);
            _t.Prepare(h, queries, keys, TKernel.Columns, space.Numbers, space.Bias);
            if (_t.Dk != null)
                Backward(space, queries, keys, atQuery, atKey);
            else
                Forward(space, queries, keys, atQuery, atKey);
        }

        private void Forward(in Workspace<TKernel> space, int queries, int keys, long atQuery, long atKey)
        {
            Panels.PackRows<TKernel, F32Source>(new F32Source(_t.K + atKey, Step), false, 0, keys, 0, K, space.Key);
            Round(space.Key, (long)Panels.PaddedRows<TKernel>(keys) * K);
            Panels.PackRows<TKernel, F32Source>(new F32Source(_t.V + atKey, Step), true, 0, K, 0, keys, space.Across);
            Round(space.Across, (long)Panels.PaddedRows<TKernel>(K) * keys);
            for (int q = 0; q < queries; q += TKernel.Columns)
            {
                int columns = Math.Min(TKernel.Columns, queries - q), width = Panels.Width<TKernel>(columns);
                int visible = Exponentials(space, q, columns, keys, atQuery);
                Round(space.Scores, (long)width * visible);
                // context^T = v^T p^T; p's scale is a factor of each column.
                MixAcross(space, space.Scores, width, visible, keys);
                Softmax.Scale<V>(space.Result, width, K, space.Scale);
                _t.StoreRows(space.Result, _t.Context + atQuery + q * Step, columns, width, space.Rows);
            }
        }

        private void Backward(in Workspace<TKernel> space, int queries, int keys, long atQuery, long atKey)
        {
            Panels.PackRows<TKernel, F32Source>(new F32Source(_t.K + atKey, Step), false, 0, keys, 0, K, space.Key);
            Round(space.Key, (long)Panels.PaddedRows<TKernel>(keys) * K);
            Panels.PackRows<TKernel, F32Source>(new F32Source(_t.V + atKey, Step), false, 0, keys, 0, K, space.Value);
            Round(space.Value, (long)Panels.PaddedRows<TKernel>(keys) * K);
            if (_t.Dq != null)
            {
                Panels.PackRows<TKernel, F32Source>(new F32Source(_t.K + atKey, Step), true, 0, K, 0, keys, space.Across);
                Round(space.Across, (long)Panels.PaddedRows<TKernel>(K) * keys);
            }
            var q = new F32Source(_t.Q + atQuery, Step);
            var dcontext = new F32Source(_t.Context + atQuery, Step);
            // From the last block on: it sees every key, so it may overwrite dk and dv, and the others add.
            int blocks = GemmBlocking.Pieces(queries, space.BlockQueries);
            for (int block = blocks - 1; block >= 0; block--)
            {
                int q0 = block * space.BlockQueries, count = Math.Min(space.BlockQueries, queries - q0);
                // Whole panels of keys: the rows beyond the visible ones are zero.
                int covered = Covered(_t.Causal ? Math.Min(keys, q0 + count) : keys, keys);
                for (int d = 0; d < K; d += TKernel.Columns)
                {
                    int columns = Math.Min(TKernel.Columns, K - d);
                    Panels.PackColumns<TKernel, F32Source>(q, false, d, columns, q0, count, space.Queries + (long)d * count);
                    Round(space.Queries + (long)d * count, (long)Panels.Width<TKernel>(columns) * count);
                    Panels.PackColumns<TKernel, F32Source>(dcontext, false, d, columns, q0, count, space.DContexts + (long)d * count);
                    Round(space.DContexts + (long)d * count, (long)Panels.Width<TKernel>(columns) * count);
                }
                for (int i = 0; i < count; i += TKernel.Columns)
                {
                    int columns = Math.Min(TKernel.Columns, count - i), width = Panels.Width<TKernel>(columns);
                    int visible = Exponentials(space, q0 + i, columns, keys, atQuery);
                    // forward: c = p v, so: dp = dc v^T
                    Panels.PackColumns<TKernel, F32Source>(dcontext, true, q0 + i, columns, 0, K, space.DContext);
                    Round(space.DContext, (long)width * K);
                    Panels.Multiply<TKernel>(Covered(visible, keys), width, K, space.Value, K, 0, space.DContext, space.DScores, width, 1, false);
                    Softmax.Backward<V>(space.Scores, space.DScores, width, visible, space.Scale);
                    Round(space.Scores, (long)width * visible);
                    Round(space.DScores, (long)width * visible);
                    if (_t.Dq != null)
                    {
                        // forward: s = q k^T, so: dq = ds k
                        MixAcross(space, space.DScores, width, visible, keys);
                        _t.StoreRows(space.Result, _t.Dq + atQuery + (q0 + i) * Step, columns, width, space.Rows);
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
                    Panels.Multiply<TKernel>(covered, columns, count, space.P, count, 0, space.DContexts + (long)d * count, _t.Dv + atKey + d, Step, 1, block < blocks - 1);
                    Panels.Multiply<TKernel>(covered, columns, count, space.Ds, count, 0, space.Queries + (long)d * count, _t.Dk + atKey + d, Step, 1, block < blocks - 1);
                }
            }
        }

        // e^T of one panel of queries and its scale; returns how many keys any of them sees.
        private int Exponentials(in Workspace<TKernel> space, int q, int columns, int keys, long atQuery)
        {
            int width = Panels.Width<TKernel>(columns);
            int visible = _t.Causal ? q + columns : keys;
            Panels.PackColumns<TKernel, F32Source>(new F32Source(_t.Q + atQuery, Step), true, q, columns, 0, K, space.Query);
            Round(space.Query, (long)width * K);
            Panels.Multiply<TKernel>(Covered(visible, keys), width, K, space.Key, K, 0, space.Query, space.Scores, width, 1, false);
            Softmax.Forward<V>(space.Scores, width, visible, _t.Bias == null ? null : space.Bias + q + keys - 1, _t.Causal ? q + 1 : keys, space.Numbers, space.Scale);
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

        // What the machine code does to an operand while packing it.
        private void Round(float* operand, long floats)
        {
            if (_rounds)
                BF16Bits.ToOperandInPlace(operand, floats);
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
