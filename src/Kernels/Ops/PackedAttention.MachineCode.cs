// Attention's work on one head with bf16 operands on machine code. As in PackedAttention.Managed.cs scores are transposed, queries across and keys down; the tiles
// take their operand by rows as it lies, so that k, v, p and ds are only rounded on the way there, and turned only where they are summed over.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

public static partial class PackedAttention
{
    /// <summary>
    /// One thread's memory for one example and head; a null start only counts. Rows lie <see cref="BF16Tile.StripStep"/> bytes apart, of which short ones touch the beginning: with heads of 64
    /// 1.6 MB of addresses backward at 228 positions, half a megabyte of it used.
    /// </summary>
    private readonly unsafe struct BF16Workspace
    {
        public const int Columns = BF16Tile.Columns, RowWords = BF16Tile.StripStep / sizeof(uint);

        // Floats of p and ds of one block of queries, as in the float tiles' workspace with half the bytes.
        private const int BlockElements = 64 * 1024;

        private const int MostBlockQueries = 256;

        // By rows, pairs along K: keys, values. By rows, pairs along keys, 768 of them in each of several parts: v^T or k^T.
        public readonly uint* Key, Value, Across;

        // One panel of queries: q^T and dc^T in pairs along K, p^T or ds^T in pairs along keys.
        public readonly uint* Query, DContext, Mixed;

        // Backward, for a block of queries: p^T and ds^T by rows, q and dc by columns, all in pairs along queries.
        public readonly uint* P, Ds, Queries, DContexts;

        // One panel of queries: scores and their gradient, a result [K, width] and its transpose; the bias in reverse, the lanes' numbers, and 1 / sum.
        public readonly float* Scores, DScores, Result, Rows, Bias, Numbers, Scale;

        public readonly int BlockQueries;

        public readonly long Floats, AcrossPart;

        public BF16Workspace(float* start, int queries, int keys, int K, bool backward)
        {
            int panels = GemmBlocking.Pieces(queries, Columns), atOnce = Math.Clamp(BlockElements / Columns / keys, 1, MostBlockQueries / Columns);
            BlockQueries = GemmBlocking.EvenPart(panels, GemmBlocking.Pieces(panels, atOnce), 1) * Columns;
            // The last strip of rows is read whole.
            long keyRows = Whole(keys, BF16Tile.Rows) * RowWords, pairsK = (K + 1) / 2, wholeK = Whole(K, Columns);
            AcrossPart = Whole(K, BF16Tile.Rows) * RowWords;
            long used = 0;
            Key = (uint*)Take(start, ref used, keyRows);
            Across = (uint*)Take(start, ref used, GemmBlocking.Pieces(keys, BF16Tile.Kc) * AcrossPart);
            Query = (uint*)Take(start, ref used, pairsK * Columns);
            Mixed = (uint*)Take(start, ref used, (Math.Min(keys, BF16Tile.Kc) + 1) / 2 * Columns);
            Scores = Take(start, ref used, (long)keys * Columns);
            Result = Take(start, ref used, (long)K * Columns);
            Rows = Take(start, ref used, (long)K * Columns);
            Bias = Take(start, ref used, (long)queries + keys + Columns);
            Numbers = Take(start, ref used, Columns);
            Scale = Take(start, ref used, Columns);
            Value = DContext = P = Ds = Queries = DContexts = null;
            DScores = null;
            if (backward)
            {
                Value = (uint*)Take(start, ref used, keyRows);
                DContext = (uint*)Take(start, ref used, pairsK * Columns);
                DScores = Take(start, ref used, (long)keys * Columns);
                P = (uint*)Take(start, ref used, keyRows);
                Ds = (uint*)Take(start, ref used, keyRows);
                Queries = (uint*)Take(start, ref used, wholeK * BlockQueries / 2);
                DContexts = (uint*)Take(start, ref used, wholeK * BlockQueries / 2);
            }
            Floats = used;
        }

        private static long Whole(int count, int unit) => (long)GemmBlocking.Pieces(count, unit) * unit;

        private static float* Take(float* start, ref long used, long floats)
        {
            float* taken = start + used;
            used += (floats + 15) & ~15L;
            return taken;
        }
    }

    /// <summary>The bf16 tiles' loops.</summary>
    private readonly unsafe struct MachineCodeHead(in Operands operands, BF16Kernels.Entries kernels) : IHeadWork
    {
        private const int RowWords = BF16Workspace.RowWords, Columns = BF16Tile.Columns;

        private readonly HeadTensors _t = new(operands);
        private readonly BF16Kernels.Entries _kernels = kernels;

        private int K => _t.Width;

        private int PairsK => (_t.Width + 1) / 2;

        public long Floats(int queries, int keys) => new BF16Workspace(null, queries, keys, K, _t.Dk != null).Floats;

        public void Run(float* memory, int h, int queries, int keys, long atQuery, long atKey)
        {
            var space = new BF16Workspace(memory, queries, keys, K, _t.Dk != null);
            _t.Prepare(h, queries, keys, Columns, space.Numbers, space.Bias);
            BF16Packing.AlongRows(new F32Source(_t.K + atKey, _t.Step), 0, 0, keys, K, space.Key, RowWords, 1);
            if (_t.Dk != null)
                Backward(space, queries, keys, atQuery, atKey);
            else
                Forward(space, queries, keys, atQuery, atKey);
        }

        private void Forward(in BF16Workspace space, int queries, int keys, long atQuery, long atKey)
        {
            PackAcross(space, _t.V + atKey, keys);
            for (int q = 0; q < queries; q += Columns)
            {
                int columns = Math.Min(Columns, queries - q), width = Width(columns);
                int visible = Exponentials(space, q, columns, keys, atQuery);
                // context^T = v^T p^T; p's scale is a factor of each column.
                MixAcross(space, space.Scores, width, visible);
                Softmax.Scale<F32x16>(space.Result, width, K, space.Scale);
                _t.StoreRows(space.Result, _t.Context + atQuery + q * _t.Step, columns, width, space.Rows);
            }
        }

        private void Backward(in BF16Workspace space, int queries, int keys, long atQuery, long atKey)
        {
            BF16Packing.AlongRows(new F32Source(_t.V + atKey, _t.Step), 0, 0, keys, K, space.Value, RowWords, 1);
            if (_t.Dq != null)
                PackAcross(space, _t.K + atKey, keys);
            var q = new F32Source(_t.Q + atQuery, _t.Step);
            var dcontext = new F32Source(_t.Context + atQuery, _t.Step);
            // From the last block on: it sees every key, so it may overwrite dk and dv, and the others add.
            int blocks = GemmBlocking.Pieces(queries, space.BlockQueries);
            for (int block = blocks - 1; block >= 0; block--)
            {
                int q0 = block * space.BlockQueries, count = Math.Min(space.BlockQueries, queries - q0), pairs = (count + 1) / 2;
                int covered = _t.Causal ? Math.Min(keys, q0 + count) : keys;
                for (int d = 0; d < K; d += Columns)
                {
                    int valid = Math.Min(Columns, K - d);
                    BF16Packing.AcrossRows(q, q0, d, valid, count, space.Queries + (long)d * pairs, 1, Width(valid));
                    BF16Packing.AcrossRows(dcontext, q0, d, valid, count, space.DContexts + (long)d * pairs, 1, Width(valid));
                }
                for (int i = 0; i < count; i += Columns)
                {
                    int columns = Math.Min(Columns, count - i), width = Width(columns);
                    int visible = Exponentials(space, q0 + i, columns, keys, atQuery);
                    // forward: c = p v, so: dp = dc v^T
                    BF16Packing.AlongRows(dcontext, q0 + i, 0, columns, K, space.DContext, 1, width);
                    Multiply(space.Value, visible, space.DContext, PairsK, width, space.DScores, width, false);
                    Softmax.Backward<F32x16>(space.Scores, space.DScores, width, visible, space.Scale);
                    if (_t.Dq != null)
                    {
                        // forward: s = q k^T, so: dq = ds k
                        MixAcross(space, space.DScores, width, visible);
                        _t.StoreRows(space.Result, _t.Dq + atQuery + (q0 + i) * _t.Step, columns, width, space.Rows);
                    }
                    KeepRows(space.Scores, width, columns, visible, covered, space.P + i / 2);
                    KeepRows(space.DScores, width, columns, visible, covered, space.Ds + i / 2);
                }
                // forward: c = p v and s = q k^T, so: dv = p^T dc, dk = ds^T q
                Multiply(space.P, covered, space.DContexts, pairs, K, _t.Dv + atKey, _t.Step, block < blocks - 1);
                Multiply(space.Ds, covered, space.Queries, pairs, K, _t.Dk + atKey, _t.Step, block < blocks - 1);
            }
        }

        // e^T of one panel of queries and its scale; returns how many keys any of them sees.
        private int Exponentials(in BF16Workspace space, int q, int columns, int keys, long atQuery)
        {
            int width = Width(columns);
            int visible = _t.Causal ? q + columns : keys;
            BF16Packing.AlongRows(new F32Source(_t.Q + atQuery, _t.Step), q, 0, columns, K, space.Query, 1, width);
            Multiply(space.Key, visible, space.Query, PairsK, width, space.Scores, width, false);
            Softmax.Forward<F32x16>(space.Scores, width, visible, _t.Bias == null ? null : space.Bias + q + keys - 1, _t.Causal ? q + 1 : keys, space.Numbers, space.Scale);
            return visible;
        }

        // Result [K, width] = across [K, visible] times the panel.
        private void MixAcross(in BF16Workspace space, float* panel, int width, int visible)
        {
            for (int k0 = 0; k0 < visible; k0 += BF16Tile.Kc)
            {
                int kc = Math.Min(BF16Tile.Kc, visible - k0);
                BF16Packing.AcrossRows(new F32Source(panel, width), k0, 0, width, kc, space.Mixed, 1, width);
                Multiply(space.Across + k0 / BF16Tile.Kc * space.AcrossPart, K, space.Mixed, (kc + 1) / 2, width, space.Result, width, k0 > 0);
            }
        }

        private void PackAcross(in BF16Workspace space, float* from, int keys)
        {
            for (int k0 = 0; k0 < keys; k0 += BF16Tile.Kc)
                BF16Packing.AcrossRows(new F32Source(from, _t.Step), k0, 0, K, Math.Min(BF16Tile.Kc, keys - k0), space.Across + k0 / BF16Tile.Kc * space.AcrossPart, RowWords, 1);
        }

        // A panel's part of the operand by rows in the sums over queries, 16 words a key; queries that do not exist and keys that the panel does not see count as zero.
        [MethodImpl(Jit.Loop)]
        private static void KeepRows(float* panel, int width, int columns, int visible, int covered, uint* to)
        {
            var numbers = Vector512.CreateSequence(0, 1);
            Vector512<uint> first = Vector512.LessThan(numbers, Vector512.Create(columns)).AsUInt32(), second = Vector512.LessThan(numbers, Vector512.Create(columns - 16)).AsUInt32();
            for (int key = 0; key < visible; key++, panel += width, to += RowWords)
            {
                Vector512<uint> lower = (BF16Bits.RoundUpper(Vector512.Load(panel)) >> 16) & first;
                Vector512<uint> upper = width > 16 ? (BF16Bits.RoundUpper(Vector512.Load(panel + 16)) >> 16) & second : Vector512<uint>.Zero;
                Vector512.Narrow(lower, upper).AsUInt32().Store(to);
            }
            for (int key = visible; key < covered; key++, to += RowWords)
                Vector512<uint>.Zero.Store(to);
        }

        private static int Width(int columns) => columns <= BF16Tile.EdgeColumns ? BF16Tile.EdgeColumns : Columns;

        // c (= or +=) a b: rows of pairs times packed panels, the last of 16 columns if that is enough.
        private void Multiply(uint* a, int rows, uint* b, int pairs, int columns, float* c, long stepC, bool accumulate)
        {
            int rest = columns % Columns, narrow = rest <= BF16Tile.EdgeColumns ? rest : 0, wide = columns - narrow;
            var call = new TileCall { StepC = stepC * sizeof(float), Pairs = pairs, Alpha = 1, Accumulate = accumulate ? 1u : 0u };
            for (int i = 0; i < rows;)
            {
                // Whole strips in one call; then what is left, in the low tile where that is high enough.
                int left = rows - i, strips = Math.Max(1, left / BF16Tile.Rows);
                bool edge = left <= BF16Tile.EdgeRows;
                call.Rows = Math.Min(left, BF16Tile.Rows);
                if (wide > 0)
                    _kernels.Run(edge, false, &call, a + (long)i * RowWords, b, c + i * stepC, strips, GemmBlocking.Pieces(wide, Columns), wide % Columns);
                if (narrow > 0)
                    _kernels.Run(edge, true, &call, a + (long)i * RowWords, b + (long)wide * pairs, c + i * stepC + wide, strips, 1, narrow);
                i += strips * BF16Tile.Rows;
            }
        }
    }
}
