// Attention of one query per row on a GPU: a group of threads a row and head. Scores with keys across the lanes, 16 bytes a load, and the head's width shared
// by a few lanes each; then the softmax over the group; then values with columns across the lanes and positions shared by what is left. Every sum's order is
// decided by the row's length alone. Contract: CachedAttention.cs.
using ILGPU;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class CachedAttention
{
    internal static class Ilgpu
    {
        // Shared memory is laid out for so many.
        private const int MostThreads = 256;

        public static void Forward(IlgpuDevice gpu, Tensor q, CachedRows rows, int first, int count, DistanceBias bias, Tensor scores, Tensor context, int H, int dKv, int capacity)
        {
            if ((scores.Address & 15) != 0)
                throw new ArgumentException($"CachedAttention.Forward: scores begin at {scores.Address:x} on {gpu.Name}, expected a multiple of 16 bytes.", nameof(scores));
            var kernel = new StepKernel
            {
                Space = gpu.Space<float>(),
                Shift = gpu.SpaceShift,
                Q = gpu.View<float>(q),
                Rows = gpu.View<long>(rows.There),
                Bias = gpu.View<float>(bias.Table),
                Scores = gpu.View<float>(scores),
                Context = gpu.View<float>(context),
                First = first,
                Items = (long)count * H,
                ScoreWidth = capacity,
                BiasLength = bias.Length,
                Heads = H,
                Width = dKv,
                HasBias = !bias.Table.IsEmpty,
                IsWide = GpuRows.Quads(dKv, context.Address) > 0,
            };
            gpu.Launch(kernel, gpu.Groups(kernel.Items), Math.Min(gpu.Threads, MostThreads));
        }

        internal struct StepKernel : IGpuKernel<StepKernel>
        {
            public ArrayView<float> Space, Q, Bias, Scores, Context;
            public ArrayView<long> Rows;
            public long Shift, First, Items, ScoreWidth, BiasLength, Heads, Width;
            public GpuFlag HasBias, IsWide;

            public static void Run(StepKernel k)
            {
                ArrayView<F4> partial = SharedMemory.Allocate<F4>(MostThreads);
                ArrayView<double> sums = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                ArrayView<float> maxima = SharedMemory.Allocate<float>(GpuSums.MaxWarps);
                for (long item = Grid.IdxX; item < k.Items; item += Grid.DimX)
                {
                    long head = item % k.Heads, scores = item * k.ScoreWidth;
                    var row = GpuCachedRow.Of(k.Rows, k.First + item / k.Heads, k.Shift);
                    float max = GpuSums.GroupMax(Multiply(k, row, item, head, scores), maxima);
                    double sum = 0;
                    for (long j = Group.IdxX; j < row.Count; j += Group.DimX)
                    {
                        float p = VectorMath.Exp(new GpuLane(k.Scores[scores + j] - max)).Value;
                        k.Scores[scores + j] = p;
                        sum += p;
                    }
                    // Its barriers also stand between the writing of p and its reading by others.
                    sum = GpuSums.Group(sum, sums);
                    Mix(k, row, item, head, scores, (float)(1 / sum), partial);
                }
            }

            // s = q K^T + bias. A warp takes a stretch of keys, four to a lane; lanes that share them share the head's width.
            private static float Multiply(StepKernel k, GpuCachedRow row, long item, long head, long scores)
            {
                ArrayView<F4> space4 = k.Space.Cast<F4>(), scores4 = k.Scores.Cast<F4>();
                int warp = Warp.WarpSize, parts = warp >= 16 ? 4 : 2, lanes = warp / parts, lane = Warp.LaneIdx % lanes, part = Warp.LaneIdx / lanes, warps = Group.DimX / warp;
                long quads = (row.Count + 3) / 4, step = row.Capacity / 4;
                float max = float.NegativeInfinity;
                for (long first = Group.IdxX / warp * lanes; first < quads; first += warps * lanes)
                {
                    long quad = first + lane, at = row.Keys / 4 + head * k.Width * step + quad;
                    var s = default(F4);
                    if (quad < quads)
                    {
                        for (long d = part; d < k.Width; d += parts)
                        {
                            float x = k.Q[item * k.Width + d];
                            F4 key = space4[at + d * step];
                            s = new F4(s.X + x * key.X, s.Y + x * key.Y, s.Z + x * key.Z, s.W + x * key.W);
                        }
                    }
                    for (int mask = lanes; mask < warp; mask <<= 1)
                        s = new F4(s.X + Warp.ShuffleXor(s.X, mask), s.Y + Warp.ShuffleXor(s.Y, mask), s.Z + Warp.ShuffleXor(s.Z, mask), s.W + Warp.ShuffleXor(s.W, mask));
                    if (quad >= quads)
                        continue;
                    long position = 4 * quad, bias = head * (2 * k.BiasLength - 1) + k.BiasLength - row.Count + position;
                    s = new F4(Score(k, row, position, bias, s.X), Score(k, row, position + 1, bias + 1, s.Y), Score(k, row, position + 2, bias + 2, s.Z), Score(k, row, position + 3, bias + 3, s.W));
                    max = Larger(max, Larger(Larger(s.X, s.Y), Larger(s.Z, s.W)));
                    if (part == 0)
                        scores4[scores / 4 + quad] = s;
                }
                return max;
            }

            // What lies behind the row's end may be anything.
            private static float Score(StepKernel k, GpuCachedRow row, long position, long bias, float s)
            {
                if (position >= row.Count)
                    return float.NegativeInfinity;
                return k.HasBias ? s + k.Bias[bias] : s;
            }

            private static float Larger(float a, float b) => b > a ? b : a;

            // context = p V / sum. Lanes are columns, four to a lane where the width allows it; the other lanes and warps are positions.
            private static void Mix(StepKernel k, GpuCachedRow row, long item, long head, long scores, float scale, ArrayView<F4> partial)
            {
                int warp = Warp.WarpSize, lanes = 1;
                long units = k.IsWide ? k.Width / 4 : k.Width, step = k.IsWide ? k.Heads * k.Width / 4 : k.Heads * k.Width;
                while (lanes < units && lanes < warp)
                    lanes <<= 1;
                int lane = Warp.LaneIdx % lanes, number = Group.IdxX / warp, warps = Group.DimX / warp, parts = warps * (warp / lanes);
                long part = (long)number * (warp / lanes) + Warp.LaneIdx / lanes, begin = k.IsWide ? (row.Values + head * k.Width) / 4 : row.Values + head * k.Width;
                ArrayView<F4> space4 = k.Space.Cast<F4>(), context4 = k.Context.Cast<F4>();
                for (long first = 0; first < units; first += lanes)
                {
                    long unit = first + lane;
                    var even = default(F4);
                    var odd = default(F4);
                    if (unit < units)
                    {
                        long j = part, at = begin + unit;
                        if (k.IsWide)
                        {
                            // Two positions in flight: one chain would wait for each sum.
                            for (; j + parts < row.Count; j += 2 * parts)
                            {
                                F4 v = space4[at + j * step], w = space4[at + (j + parts) * step];
                                even = Added(even, k.Scores[scores + j], v);
                                odd = Added(odd, k.Scores[scores + j + parts], w);
                            }
                            if (j < row.Count)
                                even = Added(even, k.Scores[scores + j], space4[at + j * step]);
                        }
                        else
                        {
                            for (; j < row.Count; j += parts)
                                even.X += k.Scores[scores + j] * k.Space[at + j * step];
                        }
                    }
                    var sum = new F4(even.X + odd.X, even.Y + odd.Y, even.Z + odd.Z, even.W + odd.W);
                    for (int mask = lanes; mask < warp; mask <<= 1)
                        sum = new F4(sum.X + Warp.ShuffleXor(sum.X, mask), sum.Y + Warp.ShuffleXor(sum.Y, mask), sum.Z + Warp.ShuffleXor(sum.Z, mask), sum.W + Warp.ShuffleXor(sum.W, mask));
                    if (Warp.LaneIdx < lanes)
                        partial[number * lanes + lane] = sum;
                    Group.Barrier();
                    if (Group.IdxX < lanes && unit < units)
                    {
                        for (int w = 1; w < warps; w++)
                        {
                            F4 other = partial[w * lanes + lane];
                            sum = new F4(sum.X + other.X, sum.Y + other.Y, sum.Z + other.Z, sum.W + other.W);
                        }
                        if (k.IsWide)
                            context4[item * units + unit] = new F4(scale * sum.X, scale * sum.Y, scale * sum.Z, scale * sum.W);
                        else
                            k.Context[item * units + unit] = scale * sum.X;
                    }
                    Group.Barrier();
                }
            }

            private static F4 Added(F4 sum, float p, F4 v) => new(sum.X + p * v.X, sum.Y + p * v.Y, sum.Z + p * v.Z, sum.W + p * v.W);
        }
    }
}
