// The token loss on a GPU: one group a row, two passes over its V logits with a running maximum; the second pass writes dlogits over them. The label's
// own gradient and the loss are computed in double, where a sure model's p - 1 does not cancel. Contract: CrossEntropy.cs.
using ILGPU;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class CrossEntropy
{
    internal static class Ilgpu
    {
        public static void Run(string op, IlgpuDevice gpu, Tensor logits, Tensor labels, Tensor weights, Tensor loss, long rows, long vocabulary, TokenLoss options)
        {
            if (rows == 0)
                return;
            var kernel = new LossKernel
            {
                Logits = gpu.View<float>(logits),
                Labels = gpu.View<int>(labels),
                Weights = gpu.View<double>(weights),
                Loss = gpu.View<double>(loss),
                Fault = gpu.Faults.Expect(
                    static f => $"{f.Op}: labels[{f.Index}] is {f.Value}, expected 0 to V - 1 = {(f.Limit >> 32) - 1}, or {(int)f.Limit} to ignore the row.", op, (vocabulary << 32) | (uint)options.IgnoreIndex, nameof(labels)),
                Rows = rows,
                Vocabulary = vocabulary,
                Quads = GpuRows.Quads(vocabulary, logits.Address),
                IgnoreIndex = options.IgnoreIndex,
                LabelSmoothing = options.LabelSmoothing,
                ZLoss = options.ZLoss,
                Backward = !weights.IsEmpty,
            };
            gpu.Launch(kernel, gpu.Groups(rows), gpu.Threads);
        }

        public static void RowWeights(string op, IlgpuDevice gpu, Tensor labels, Tensor groups, Tensor weights, Tensor tokens, long B, long T, long groupCount, int ignoreIndex, LossReduction reduction, double scale)
        {
            var kernel = new CountKernel
            {
                Labels = gpu.View<int>(labels),
                Groups = gpu.View<int>(groups),
                Tokens = gpu.View<long>(tokens),
                Weights = gpu.View<double>(weights),
                Fault = ExpectGroups(op, gpu, groupCount),
                B = B,
                T = T,
                GroupCount = groupCount,
                IgnoreIndex = ignoreIndex,
                HasGroups = !groups.IsEmpty,
                IsMean = reduction == LossReduction.Mean,
                Scale = scale,
            };
            gpu.Launch(kernel, gpu.Groups(groupCount), gpu.Threads);
        }

        public static void GroupLoss(string op, IlgpuDevice gpu, Tensor loss, Tensor weights, Tensor groups, Tensor groupLoss, long B, long T, long groupCount)
        {
            var kernel = new SumKernel
            {
                Loss = gpu.View<double>(loss),
                Weights = gpu.View<double>(weights),
                Groups = gpu.View<int>(groups),
                GroupLoss = gpu.View<double>(groupLoss),
                Fault = ExpectGroups(op, gpu, groupCount),
                B = B,
                T = T,
                GroupCount = groupCount,
                HasGroups = !groups.IsEmpty,
            };
            gpu.Launch(kernel, gpu.Groups(groupCount), gpu.Threads);
        }

        private static DeviceFaults.FaultNote ExpectGroups(string op, IlgpuDevice gpu, long groupCount) =>
            gpu.Faults.Expect(static f => $"{f.Op}: groups[{f.Index}] is {f.Value}, expected 0 to groupCount - 1 = {f.Limit - 1}.", op, groupCount, "groups");

        internal struct LossKernel : IGpuKernel<LossKernel>
        {
            public ArrayView<float> Logits;
            public ArrayView<int> Labels;
            public ArrayView<double> Weights, Loss;
            public DeviceFaults.FaultNote Fault;
            public long Rows, Vocabulary, Quads;
            public int IgnoreIndex;
            public double LabelSmoothing, ZLoss;
            public GpuFlag Backward;

            public static void Run(LossKernel k)
            {
                ArrayView<double> sums = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                ArrayView<float> maxima = SharedMemory.Allocate<float>(GpuSums.MaxWarps);
                for (long row = Grid.IdxX; row < k.Rows; row += Grid.DimX)
                {
                    long start = row * k.Vocabulary;
                    int label = k.Labels[row];
                    bool counts = label != k.IgnoreIndex;
                    if (counts && (label < 0 || label >= k.Vocabulary))
                    {
                        DeviceFaults.FaultNote.Report(k.Fault, row, label);
                        counts = false;
                    }
                    if (counts)
                        Row(k, row, start, label, sums, maxima);
                    else
                        Ignore(k, row, start);
                }
            }

            private static void Ignore(LossKernel k, long row, long start)
            {
                if (Group.IdxX == 0)
                    k.Loss[row] = 0;
                for (long i = Group.IdxX; i < k.Vocabulary && k.Backward; i += Group.DimX)
                    k.Logits[start + i] = 0;
            }

            private static void Row(LossKernel k, long row, long start, int label, ArrayView<double> sums, ArrayView<float> maxima)
            {
                // Indexed from the tensor's beginning: a view of the row would lose the alignment, and with it the 16-byte loads.
                ArrayView<float> x = k.Logits;
                ArrayView<F4> x4 = x.Cast<F4>();
                long quad = start / 4;
                float target = x[start + label], max = float.NegativeInfinity;
                double sum = 0, total = 0;
                for (long q = Group.IdxX; q < k.Quads; q += Group.DimX)
                {
                    F4 v = x4[quad + q];
                    float most = Larger(Larger(v.X, v.Y), Larger(v.Z, v.W));
                    if (most > max)
                    {
                        sum *= GpuBits.Exp((double)max - most);
                        max = most;
                    }
                    float shift = Shift(max);
                    sum += ((double)Exp(v.X - shift) + Exp(v.Y - shift)) + ((double)Exp(v.Z - shift) + Exp(v.W - shift));
                    total += ((double)v.X + v.Y) + ((double)v.Z + v.W);
                }
                for (long i = 4 * k.Quads + Group.IdxX; i < k.Vocabulary; i += Group.DimX)
                {
                    float v = x[start + i];
                    if (v > max)
                    {
                        sum *= GpuBits.Exp((double)max - v);
                        max = v;
                    }
                    sum += Exp(v - Shift(max));
                    total += v;
                }
                float all = GroupMax(max, maxima);
                // A thread that saw no number has summed 0, or NaN.
                sum = GpuSums.Group(max == float.NegativeInfinity ? sum : sum * GpuBits.Exp((double)max - all), sums);
                double e = k.LabelSmoothing;
                if (e != 0)
                    total = GpuSums.Group(total, sums);
                double z = all + GpuBits.Log(sum);
                if (Group.IdxX == 0)
                    k.Loss[row] = (1 - e) * (z - target) + (e == 0 ? 0 : e * (z - total / k.Vocabulary)) + k.ZLoss * z * z;
                if (!k.Backward)
                    return;
                double weight = k.Weights[row], scale = weight * (1 + 2 * k.ZLoss * z) / sum;
                float s = (float)scale, uniform = (float)(weight * e / k.Vocabulary);
                // forward: Z - (1 - e) x_t - e mean x + z Z^2, where dZ/dx_v = p_v, so:
                for (long q = Group.IdxX; q < k.Quads; q += Group.DimX)
                {
                    F4 v = x4[quad + q];
                    x4[quad + q] = new F4(Exp(v.X - all) * s - uniform, Exp(v.Y - all) * s - uniform, Exp(v.Z - all) * s - uniform, Exp(v.W - all) * s - uniform);
                }
                for (long i = 4 * k.Quads + Group.IdxX; i < k.Vocabulary; i += Group.DimX)
                    x[start + i] = Exp(x[start + i] - all) * s - uniform;
                Group.Barrier();
                if (Group.IdxX == 0)
                    x[start + label] = (float)(scale * GpuBits.Exp((double)target - all) - weight * (1 - e) - weight * e / k.Vocabulary);
            }

            // The maximum is -infinity only while nothing else was seen: such a logit adds nothing, and subtracting that would be NaN.
            private static float Shift(float max) => max == float.NegativeInfinity ? 0 : max;

            private static float Exp(float x) => VectorMath.Exp(new GpuLane(x)).Value;

            private static float Larger(float a, float b) => a > b ? a : b;

            private static float GroupMax(float max, ArrayView<float> maxima)
            {
                max = GpuSums.WarpMax(max);
                if (Warp.LaneIdx == 0)
                    maxima[Group.IdxX / Warp.WarpSize] = max;
                Group.Barrier();
                int warps = Group.DimX / Warp.WarpSize;
                for (int w = 0; w < warps; w++)
                    max = Larger(max, maxima[w]);
                Group.Barrier();
                return max;
            }
        }

        // One group of threads counts one group of examples, then weighs its rows: examples are few, and each belongs to one group.
        internal struct CountKernel : IGpuKernel<CountKernel>
        {
            public ArrayView<int> Labels, Groups;
            public ArrayView<long> Tokens;
            public ArrayView<double> Weights;
            public DeviceFaults.FaultNote Fault;
            public long B, T, GroupCount;
            public int IgnoreIndex;
            public GpuFlag HasGroups, IsMean;
            public double Scale;

            public static void Run(CountKernel k)
            {
                ArrayView<double> sums = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                for (long group = Grid.IdxX; group < k.GroupCount; group += Grid.DimX)
                {
                    double mine = 0;
                    for (long i = Group.IdxX; i < k.B * k.T; i += Group.DimX)
                    {
                        int at = k.HasGroups ? k.Groups[i / k.T] : 0;
                        if (at < 0 || at >= k.GroupCount)
                            DeviceFaults.FaultNote.Report(k.Fault, i / k.T, at);
                        if (at == group && k.Labels[i] != k.IgnoreIndex)
                            mine += 1;
                    }
                    // Whole numbers: exact in any order.
                    double count = GpuSums.Group(mine, sums);
                    if (Group.IdxX == 0)
                        k.Tokens[group] = (long)count;
                    double weight = k.IsMean ? k.Scale / count : k.Scale;
                    for (long i = Group.IdxX; i < k.B * k.T; i += Group.DimX)
                    {
                        if ((k.HasGroups ? k.Groups[i / k.T] : 0) == group)
                            k.Weights[i] = k.Labels[i] == k.IgnoreIndex ? 0 : weight;
                    }
                }
            }
        }

        internal struct SumKernel : IGpuKernel<SumKernel>
        {
            public ArrayView<double> Loss, Weights, GroupLoss;
            public ArrayView<int> Groups;
            public DeviceFaults.FaultNote Fault;
            public long B, T, GroupCount;
            public GpuFlag HasGroups;

            public static void Run(SumKernel k)
            {
                ArrayView<double> sums = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                for (long group = Grid.IdxX; group < k.GroupCount; group += Grid.DimX)
                {
                    double sum = 0;
                    for (long i = Group.IdxX; i < k.B * k.T; i += Group.DimX)
                    {
                        int at = k.HasGroups ? k.Groups[i / k.T] : 0;
                        if (at < 0 || at >= k.GroupCount)
                            DeviceFaults.FaultNote.Report(k.Fault, i / k.T, at);
                        if (at == group)
                            sum += k.Weights[i] * k.Loss[i];
                    }
                    sum = GpuSums.Group(sum, sums);
                    if (Group.IdxX == 0)
                        k.GroupLoss[group] = sum;
                }
            }
        }
    }
}
