// Attention by tiles on a GPU. A group of threads owns a tile of rows (queries; keys in the pass for dk and dv) and walks over the other side, so each result
// is summed by one group in one order. Scores live in registers and, as p or ds, in shared memory; never in device memory. Contract: TiledAttention.cs.
using ILGPU;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class TiledAttention
{
    internal static class Ilgpu
    {
        public static void Forward(string op, IlgpuDevice gpu, Tensor q, Tensor k, Tensor v, Tensor bias, KeyMask mask, Tensor logSumExp, Tensor y, long B, int H, int Tq, int Tk, int K)
        {
            if (B == 0)
                return;
            Problem problem = Describe(op, gpu, q, k, v, bias, mask, logSumExp, B, H, Tq, Tk, K);
            if (gpu.Threads >= 256)
                Launch<Tile64x64, ForwardKernel<Tile64x64>>(gpu, new ForwardKernel<Tile64x64> { P = problem, Y = gpu.View<float>(y) }, Tq, B * H, K);
            else
                Launch<Tile8x16, ForwardKernel<Tile8x16>>(gpu, new ForwardKernel<Tile8x16> { P = problem, Y = gpu.View<float>(y) }, Tq, B * H, K);
        }

        public static void Backward(
            string op, IlgpuDevice gpu, Tensor q, Tensor k, Tensor v, Tensor bias, KeyMask mask, Tensor logSumExp, Tensor y, Tensor dy, Tensor dq, Tensor dk, Tensor dv, long B, int H, int Tq, int Tk, int K)
        {
            if (B == 0)
                return;
            Problem problem = Describe(op, gpu, q, k, v, bias, mask, logSumExp, B, H, Tq, Tk, K);
            Tensor delta = gpu.Scratch(DType.F32, B * H * Tq);
            var dots = new DotKernel { Y = gpu.View<float>(y), Dy = gpu.View<float>(dy), Delta = gpu.View<float>(delta), B = B, H = H, Tq = Tq, K = K };
            gpu.Launch(dots, GpuRows.WarpGroups(gpu, B * H * Tq), gpu.Threads);
            if (gpu.Threads >= 256)
                Gradients<Tile64x64>(gpu, problem, dots, dq, dk, dv, B, H, Tq, Tk, K);
            else
                Gradients<Tile8x16>(gpu, problem, dots, dq, dk, dv, B, H, Tq, Tk, K);
        }

        internal static void Gradients<TShape>(IlgpuDevice gpu, Problem problem, DotKernel dots, Tensor dq, Tensor dk, Tensor dv, long B, int H, int Tq, int Tk, int K)
            where TShape : struct, ITileShape
        {
            if (!dq.IsEmpty)
                Launch<TShape, QueryKernel<TShape>>(gpu, new QueryKernel<TShape> { P = problem, Dy = dots.Dy, Delta = dots.Delta, Dq = gpu.View<float>(dq) }, Tq, B * H, K);
            if (!dk.IsEmpty)
                Launch<TShape, KeyKernel<TShape>>(gpu, new KeyKernel<TShape> { P = problem, Dy = dots.Dy, Delta = dots.Delta, Dk = gpu.View<float>(dk), Dv = gpu.View<float>(dv) }, Tk, B * H, K);
        }

        internal static void Launch<TShape, TKernel>(IlgpuDevice gpu, in TKernel kernel, int rows, long heads, int K)
            where TShape : struct, ITileShape
            where TKernel : struct, IGpuKernel<TKernel>
        {
            // Two results of 4 * Columns numbers a row are in registers.
            if (K > 8 * TShape.Columns)
                throw new ArgumentException($"TiledAttention: K is {K}, expected at most {8 * TShape.Columns} on {gpu.Name}.");
            const int MaxGrid = 65535;
            gpu.Launch(kernel, new Index3D((rows + 4 * TShape.Rows - 1) / (4 * TShape.Rows), (int)Math.Min(heads, MaxGrid), 1), TShape.Rows * TShape.Columns);
        }

        private static Problem Describe(string op, IlgpuDevice gpu, Tensor q, Tensor k, Tensor v, Tensor bias, KeyMask mask, Tensor logSumExp, long B, int H, int Tq, int Tk, int K) => new()
        {
            Q = gpu.View<float>(q),
            K = gpu.View<float>(k),
            V = gpu.View<float>(v),
            Bias = gpu.View<float>(bias),
            LogSumExp = gpu.View<float>(logSumExp),
            Lengths = gpu.View<int>(mask.Lengths),
            Fault = gpu.Faults.Expect(static f => $"{f.Op}: mask.Lengths[{f.Index}] is {f.Value}, expected 0 to Tk = {f.Limit}.", op, Tk, nameof(mask)),
            Heads = B * H,
            H = H,
            Tq = Tq,
            Tk = Tk,
            Width = K,
            BiasWidth = Tq + Tk - 1,
            HasBias = !bias.IsEmpty,
            HasLengths = !mask.Lengths.IsEmpty,
            Causal = mask.Causal,
        };

        /// <summary>What all passes read.</summary>
        internal struct Problem
        {
            public ArrayView<float> Q, K, V, Bias, LogSumExp;
            public ArrayView<int> Lengths;
            public DeviceFaults.FaultNote Fault;
            public long Heads;
            public ArrayView<int> QueryOffsets, KeyOffsets;

            /// <summary>First rows of the example, of its numbers per query, and the bias' entry for distance 0; set by <see cref="Of"/>.</summary>
            public long QueryStart, KeyStart, SavedStart, BiasZero;
            public int H, Tq, Tk, Width, BiasWidth;
            public GpuFlag HasBias, HasLengths, Causal, IsPacked;

            /// <summary>The problem of one head of one example.</summary>
            public static Problem Of(Problem p, long head)
            {
                long b = head / p.H, h = head % p.H;
                if (p.IsPacked)
                {
                    p.QueryStart = p.QueryOffsets[b];
                    p.KeyStart = p.KeyOffsets[b];
                    p.Tq = (int)(p.QueryOffsets[b + 1] - p.QueryStart);
                    p.Tk = (int)(p.KeyOffsets[b + 1] - p.KeyStart);
                    p.SavedStart = h * p.QueryOffsets[p.Heads / p.H] + p.QueryStart;
                    p.BiasZero = h * p.BiasWidth + p.BiasWidth / 2;
                    return p;
                }
                p.QueryStart = b * p.Tq;
                p.KeyStart = b * p.Tk;
                p.SavedStart = head * p.Tq;
                p.BiasZero = h * p.BiasWidth + p.Tq - 1;
                return p;
            }

            /// <summary>Positions by width of one head; exchanged, width by positions.</summary>
            public static TileSource Head(Problem p, ArrayView<float> x, long head, long firstRow, long positions, bool exchanged)
            {
                long step = (long)p.H * p.Width;
                return new TileSource
                {
                    Wide = x,
                    Start = firstRow * step + head % p.H * p.Width,
                    RowStep = exchanged ? 1 : step,
                    ColumnStep = exchanged ? step : 1,
                    Rows = exchanged ? p.Width : positions,
                    Columns = exchanged ? positions : p.Width,
                };
            }

            /// <summary>Keys of this example.</summary>
            public static int Keys(Problem p, long head)
            {
                if (!p.HasLengths)
                    return p.Tk;
                int length = p.Lengths[head / p.H];
                if (length >= 0 && length <= p.Tk)
                    return length;
                DeviceFaults.FaultNote.Report(p.Fault, head / p.H, length);
                return p.Tk;
            }

            /// <summary>Of them, how many this query sees: always the first ones.</summary>
            public static int Visible(Problem p, int keys, long query)
            {
                long last = query + p.Tk - p.Tq + 1;
                if (!p.Causal || last >= keys)
                    return keys;
                return last < 0 ? 0 : (int)last;
            }

            /// <summary>Where the walk over keys may end, for queries of a tile: all keys where one of them sees none, and is uniform.</summary>
            public static int End(Problem p, int keys, long firstQuery, long lastQuery) =>
                Visible(p, keys, firstQuery) == 0 ? p.Tk : Visible(p, keys, lastQuery < p.Tq ? lastQuery : p.Tq - 1);

            /// <summary>The score with its bias; -infinity where hidden; 0 for every key of a row that sees none.</summary>
            public static float Score(Problem p, long head, int keys, long query, long key, float product)
            {
                int visible = Visible(p, keys, query);
                if (key >= p.Tk || (visible > 0 && key >= visible))
                    return float.NegativeInfinity;
                if (visible == 0)
                    return 0;
                return p.HasBias && query < p.Tq ? product + p.Bias[p.BiasZero + key - query] : product;
            }

            public static F4 Scores(Problem p, long head, int keys, long query, long key, F4 products) => new(
                Score(p, head, keys, query, key, products.X), Score(p, head, keys, query, key + 1, products.Y),
                Score(p, head, keys, query, key + 2, products.Z), Score(p, head, keys, query, key + 3, products.W));
        }

        private static float Exp(float x) => VectorMath.Exp(new GpuLane(x)).Value;

        private static F4 Exp(F4 s, float shift) => new(Exp(s.X - shift), Exp(s.Y - shift), Exp(s.Z - shift), Exp(s.W - shift));

        private static float Larger(float a, float b) => a > b ? a : b;

        private static float Largest(F4 v) => Larger(Larger(v.X, v.Y), Larger(v.Z, v.W));

        private static float Sum(F4 v) => (v.X + v.Y) + (v.Z + v.W);

        // A row's threads are neighbours in one warp.
        private static float RowMax(float value, int threads)
        {
            for (int mask = threads / 2; mask > 0; mask >>= 1)
                value = Larger(value, Warp.ShuffleXor(value, mask));
            return value;
        }

        private static float RowSum(float value, int threads)
        {
            for (int mask = threads / 2; mask > 0; mask >>= 1)
                value += Warp.ShuffleXor(value, mask);
            return value;
        }

        private static void Store(ArrayView<float> y, Problem p, long head, long firstRow, long positions, long position, long column, F4 v)
        {
            if (position >= positions)
                return;
            long at = ((firstRow + position) * p.H + head % p.H) * p.Width + column;
            if (column < p.Width)
                y[at] = v.X;
            if (column + 1 < p.Width)
                y[at + 1] = v.Y;
            if (column + 2 < p.Width)
                y[at + 2] = v.Z;
            if (column + 3 < p.Width)
                y[at + 3] = v.W;
        }

        private static void Store(ArrayView<float> y, Problem p, long head, long firstRow, long positions, long position, long column, Tile4 t)
        {
            Store(y, p, head, firstRow, positions, position, column, t.R0);
            Store(y, p, head, firstRow, positions, position + 1, column, t.R1);
            Store(y, p, head, firstRow, positions, position + 2, column, t.R2);
            Store(y, p, head, firstRow, positions, position + 3, column, t.R3);
        }

        private static Tile4 Scale(Tile4 t, F4 s) => new()
        {
            R0 = GpuTile.Scale(t.R0, s.X),
            R1 = GpuTile.Scale(t.R1, s.Y),
            R2 = GpuTile.Scale(t.R2, s.Z),
            R3 = GpuTile.Scale(t.R3, s.W),
        };

        internal struct ForwardKernel<TShape> : IGpuKernel<ForwardKernel<TShape>>
            where TShape : struct, ITileShape
        {
            public Problem P;
            public ArrayView<float> Y;

            public static void Run(ForwardKernel<TShape> k)
            {
                ArrayView<F4> rows = SharedMemory.Allocate<F4>(GpuTile.Depth * TShape.Rows), columns = SharedMemory.Allocate<F4>(GpuTile.Depth * TShape.Columns);
                ArrayView<F4> probabilities = SharedMemory.Allocate<F4>(4 * TShape.Columns * TShape.Rows);
                int tx = Group.IdxX % TShape.Columns;
                long tile = (long)Grid.IdxX * 4 * TShape.Rows, query = tile + 4 * (Group.IdxX / TShape.Columns);
                for (long head = Grid.IdxY; head < k.P.Heads; head += Grid.DimY)
                {
                    Problem p = Problem.Of(k.P, head);
                    if (tile >= p.Tq)
                        continue;
                    TileSource q = Problem.Head(p, p.Q, head, p.QueryStart, p.Tq, false), key = Problem.Head(p, p.K, head, p.KeyStart, p.Tk, false), value = Problem.Head(p, p.V, head, p.KeyStart, p.Tk, true);
                    int keys = Problem.Keys(p, head), end = Problem.End(p, keys, tile, tile + 4 * TShape.Rows - 1);
                    var near = default(Tile4);
                    var far = default(Tile4);
                    var max = new F4(float.NegativeInfinity, float.NegativeInfinity, float.NegativeInfinity, float.NegativeInfinity);
                    var sum = default(F4);
                    for (long k0 = 0; k0 < end; k0 += 4 * TShape.Columns)
                    {
                        Tile4 s = GpuTile.Product<TShape>(q, tile, key, k0, rows, columns);
                        long at = k0 + 4 * tx;
                        s.R0 = Problem.Scores(p, head, keys, query, at, s.R0);
                        s.R1 = Problem.Scores(p, head, keys, query + 1, at, s.R1);
                        s.R2 = Problem.Scores(p, head, keys, query + 2, at, s.R2);
                        s.R3 = Problem.Scores(p, head, keys, query + 3, at, s.R3);
                        // The first tile holds each row's first visible key: from there on the maximum is a number.
                        var now = new F4(
                            Larger(max.X, RowMax(Largest(s.R0), TShape.Columns)), Larger(max.Y, RowMax(Largest(s.R1), TShape.Columns)),
                            Larger(max.Z, RowMax(Largest(s.R2), TShape.Columns)), Larger(max.W, RowMax(Largest(s.R3), TShape.Columns)));
                        var fade = new F4(Exp(max.X - now.X), Exp(max.Y - now.Y), Exp(max.Z - now.Z), Exp(max.W - now.W));
                        s.R0 = Exp(s.R0, now.X);
                        s.R1 = Exp(s.R1, now.Y);
                        s.R2 = Exp(s.R2, now.Z);
                        s.R3 = Exp(s.R3, now.W);
                        sum = new F4(
                            sum.X * fade.X + RowSum(Sum(s.R0), TShape.Columns), sum.Y * fade.Y + RowSum(Sum(s.R1), TShape.Columns),
                            sum.Z * fade.Z + RowSum(Sum(s.R2), TShape.Columns), sum.W * fade.W + RowSum(Sum(s.R3), TShape.Columns));
                        max = now;
                        GpuTile.Lay<TShape>(s, probabilities);
                        near = GpuTile.AddTileProduct<TShape>(Scale(near, fade), probabilities, value, k0, 0, columns);
                        if (p.Width > 4 * TShape.Columns)
                            far = GpuTile.AddTileProduct<TShape>(Scale(far, fade), probabilities, value, k0, 4 * TShape.Columns, columns);
                    }
                    var scale = new F4(1 / sum.X, 1 / sum.Y, 1 / sum.Z, 1 / sum.W);
                    Store(k.Y, p, head, p.QueryStart, p.Tq, query, 4 * tx, Scale(near, scale));
                    Store(k.Y, p, head, p.QueryStart, p.Tq, query, 4 * TShape.Columns + 4 * tx, Scale(far, scale));
                    if (tx == 0)
                    {
                        Save(p, head, query, max.X, sum.X);
                        Save(p, head, query + 1, max.Y, sum.Y);
                        Save(p, head, query + 2, max.Z, sum.Z);
                        Save(p, head, query + 3, max.W, sum.W);
                    }
                }
            }

            private static void Save(Problem p, long head, long query, float max, float sum)
            {
                if (query < p.Tq)
                    p.LogSumExp[p.SavedStart + query] = (float)(max + GpuBits.Log(sum));
            }
        }

        // sum_j y_j dy_j of every row: what ds subtracts.
        internal struct DotKernel : IGpuKernel<DotKernel>
        {
            public ArrayView<float> Y, Dy, Delta;
            public long B;
            public int H, Tq, K;

            public static void Run(DotKernel k)
            {
                int lane = Warp.LaneIdx, warp = Warp.WarpSize;
                for (long row = GpuRows.First(); row < k.B * k.H * k.Tq; row += GpuRows.Stride())
                {
                    long q = row % k.Tq, h = row / k.Tq % k.H, b = row / k.Tq / k.H, start = ((b * k.Tq + q) * k.H + h) * k.K;
                    double sum = 0;
                    for (int i = lane; i < k.K; i += warp)
                        sum += (double)k.Y[start + i] * k.Dy[start + i];
                    sum = GpuSums.Warp(sum);
                    if (lane == 0)
                        k.Delta[row] = (float)sum;
                }
            }
        }

        // Rows are queries: dq = ds k.
        internal struct QueryKernel<TShape> : IGpuKernel<QueryKernel<TShape>>
            where TShape : struct, ITileShape
        {
            public Problem P;
            public ArrayView<float> Dy, Delta, Dq;

            public static void Run(QueryKernel<TShape> k)
            {
                ArrayView<F4> rows = SharedMemory.Allocate<F4>(GpuTile.Depth * TShape.Rows), columns = SharedMemory.Allocate<F4>(GpuTile.Depth * TShape.Columns);
                ArrayView<F4> gradients = SharedMemory.Allocate<F4>(4 * TShape.Columns * TShape.Rows);
                int tx = Group.IdxX % TShape.Columns;
                long tile = (long)Grid.IdxX * 4 * TShape.Rows, query = tile + 4 * (Group.IdxX / TShape.Columns);
                for (long head = Grid.IdxY; head < k.P.Heads; head += Grid.DimY)
                {
                    Problem p = Problem.Of(k.P, head);
                    k.P = p;
                    if (tile >= p.Tq)
                        continue;
                    TileSource q = Problem.Head(p, p.Q, head, p.QueryStart, p.Tq, false), key = Problem.Head(p, p.K, head, p.KeyStart, p.Tk, false), value = Problem.Head(p, p.V, head, p.KeyStart, p.Tk, false);
                    TileSource dy = Problem.Head(p, k.Dy, head, p.QueryStart, p.Tq, false), keyColumns = Problem.Head(p, p.K, head, p.KeyStart, p.Tk, true);
                    int keys = Problem.Keys(p, head), end = Problem.End(p, keys, tile, tile + 4 * TShape.Rows - 1);
                    var near = default(Tile4);
                    var far = default(Tile4);
                    for (long k0 = 0; k0 < end; k0 += 4 * TShape.Columns)
                    {
                        Tile4 s = GpuTile.Product<TShape>(q, tile, key, k0, rows, columns), dp = GpuTile.Product<TShape>(dy, tile, value, k0, rows, columns);
                        long at = k0 + 4 * tx;
                        s.R0 = Row(k, head, keys, query, at, s.R0, dp.R0);
                        s.R1 = Row(k, head, keys, query + 1, at, s.R1, dp.R1);
                        s.R2 = Row(k, head, keys, query + 2, at, s.R2, dp.R2);
                        s.R3 = Row(k, head, keys, query + 3, at, s.R3, dp.R3);
                        GpuTile.Lay<TShape>(s, gradients);
                        near = GpuTile.AddTileProduct<TShape>(near, gradients, keyColumns, k0, 0, columns);
                        if (p.Width > 4 * TShape.Columns)
                            far = GpuTile.AddTileProduct<TShape>(far, gradients, keyColumns, k0, 4 * TShape.Columns, columns);
                    }
                    Store(k.Dq, p, head, p.QueryStart, p.Tq, query, 4 * tx, near);
                    Store(k.Dq, p, head, p.QueryStart, p.Tq, query, 4 * TShape.Columns + 4 * tx, far);
                }
            }

            // forward: p = e^(s - l), so: ds = p (dp - delta).
            private static F4 Row(QueryKernel<TShape> k, long head, int keys, long query, long key, F4 s, F4 dp)
            {
                if (query >= k.P.Tq)
                    return default;
                float delta = k.Delta[k.P.SavedStart + query];
                F4 p = Exp(Problem.Scores(k.P, head, keys, query, key, s), k.P.LogSumExp[k.P.SavedStart + query]);
                return new F4(p.X * (dp.X - delta), p.Y * (dp.Y - delta), p.Z * (dp.Z - delta), p.W * (dp.W - delta));
            }
        }

        // Rows are keys, columns are queries: dv = p^T dy, dk = ds^T q.
        internal struct KeyKernel<TShape> : IGpuKernel<KeyKernel<TShape>>
            where TShape : struct, ITileShape
        {
            public Problem P;
            public ArrayView<float> Dy, Delta, Dk, Dv;

            public static void Run(KeyKernel<TShape> k)
            {
                ArrayView<F4> rows = SharedMemory.Allocate<F4>(GpuTile.Depth * TShape.Rows), columns = SharedMemory.Allocate<F4>(GpuTile.Depth * TShape.Columns);
                ArrayView<F4> shared = SharedMemory.Allocate<F4>(4 * TShape.Columns * TShape.Rows);
                int tx = Group.IdxX % TShape.Columns;
                long tile = (long)Grid.IdxX * 4 * TShape.Rows, row = tile + 4 * (Group.IdxX / TShape.Columns);
                for (long head = Grid.IdxY; head < k.P.Heads; head += Grid.DimY)
                {
                    Problem p = Problem.Of(k.P, head);
                    k.P = p;
                    if (tile >= p.Tk)
                        continue;
                    TileSource q = Problem.Head(p, p.Q, head, p.QueryStart, p.Tq, false), key = Problem.Head(p, p.K, head, p.KeyStart, p.Tk, false), value = Problem.Head(p, p.V, head, p.KeyStart, p.Tk, false);
                    TileSource dy = Problem.Head(p, k.Dy, head, p.QueryStart, p.Tq, false), dyColumns = Problem.Head(p, k.Dy, head, p.QueryStart, p.Tq, true), qColumns = Problem.Head(p, p.Q, head, p.QueryStart, p.Tq, true);
                    int keys = Problem.Keys(p, head);
                    Tile4 nearK = default, farK = default, nearV = default, farV = default;
                    for (long q0 = 0; q0 < p.Tq; q0 += 4 * TShape.Columns)
                    {
                        Tile4 s = GpuTile.Product<TShape>(key, tile, q, q0, rows, columns), dp = GpuTile.Product<TShape>(value, tile, dy, q0, rows, columns);
                        long at = q0 + 4 * tx;
                        s.R0 = Probabilities(k, head, keys, row, at, s.R0);
                        s.R1 = Probabilities(k, head, keys, row + 1, at, s.R1);
                        s.R2 = Probabilities(k, head, keys, row + 2, at, s.R2);
                        s.R3 = Probabilities(k, head, keys, row + 3, at, s.R3);
                        GpuTile.Lay<TShape>(s, shared);
                        nearV = GpuTile.AddTileProduct<TShape>(nearV, shared, dyColumns, q0, 0, columns);
                        if (p.Width > 4 * TShape.Columns)
                            farV = GpuTile.AddTileProduct<TShape>(farV, shared, dyColumns, q0, 4 * TShape.Columns, columns);
                        s.R0 = Gradients(k, head, at, s.R0, dp.R0);
                        s.R1 = Gradients(k, head, at, s.R1, dp.R1);
                        s.R2 = Gradients(k, head, at, s.R2, dp.R2);
                        s.R3 = Gradients(k, head, at, s.R3, dp.R3);
                        GpuTile.Lay<TShape>(s, shared);
                        nearK = GpuTile.AddTileProduct<TShape>(nearK, shared, qColumns, q0, 0, columns);
                        if (p.Width > 4 * TShape.Columns)
                            farK = GpuTile.AddTileProduct<TShape>(farK, shared, qColumns, q0, 4 * TShape.Columns, columns);
                    }
                    Store(k.Dk, p, head, p.KeyStart, p.Tk, row, 4 * tx, nearK);
                    Store(k.Dk, p, head, p.KeyStart, p.Tk, row, 4 * TShape.Columns + 4 * tx, farK);
                    Store(k.Dv, p, head, p.KeyStart, p.Tk, row, 4 * tx, nearV);
                    Store(k.Dv, p, head, p.KeyStart, p.Tk, row, 4 * TShape.Columns + 4 * tx, farV);
                }
            }

            private static F4 Probabilities(KeyKernel<TShape> k, long head, int keys, long key, long query, F4 s) => new(
                Probability(k, head, keys, key, query, s.X), Probability(k, head, keys, key, query + 1, s.Y),
                Probability(k, head, keys, key, query + 2, s.Z), Probability(k, head, keys, key, query + 3, s.W));

            private static float Probability(KeyKernel<TShape> k, long head, int keys, long key, long query, float s) =>
                query < k.P.Tq ? Exp(Problem.Score(k.P, head, keys, query, key, s) - k.P.LogSumExp[k.P.SavedStart + query]) : 0;

            private static F4 Gradients(KeyKernel<TShape> k, long head, long query, F4 p, F4 dp) => new(
                Gradient(k, head, query, p.X, dp.X), Gradient(k, head, query + 1, p.Y, dp.Y),
                Gradient(k, head, query + 2, p.Z, dp.Z), Gradient(k, head, query + 3, p.W, dp.W));

            private static float Gradient(KeyKernel<TShape> k, long head, long query, float p, float dp) =>
                query < k.P.Tq ? p * (dp - k.Delta[k.P.SavedStart + query]) : 0;
        }
    }
}
