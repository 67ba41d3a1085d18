// The token loss on the CPU: one thread a row, two passes over its V logits. Contract: CrossEntropy.cs.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

public static partial class CrossEntropy
{
    private static unsafe class Cpu
    {
        // 1024 floats: a chunk is read for its maximum and again from L1 for its exponentials. Their values go to scratch of
        // the same size and are dropped: the second pass over memory needs the final maximum.
        private const int Chunk = 1024;

        public static void Run(string op, CpuDevice cpu, Tensor logits, Tensor labels, Tensor weights, Tensor loss, long rows, long vocabulary, TokenLoss options)
        {
            int* label = (int*)labels.Address;
            for (long i = 0; i < rows; i++)
            {
                if (label[i] != options.IgnoreIndex && (label[i] < 0 || label[i] >= vocabulary))
                    throw new ArgumentException($"{op}: labels[{i}] is {label[i]}, expected 0 to V - 1 = {vocabulary - 1}, or {options.IgnoreIndex} to ignore the row.", nameof(labels));
            }
            CpuRows.Run(cpu, rows, vocabulary, new Kernel
            {
                Logits = (float*)logits.Address,
                Labels = label,
                Weights = (double*)weights.Address,
                Loss = (double*)loss.Address,
                Vocabulary = vocabulary,
                Options = options,
            });
        }

        public static void RowWeights(string op, Tensor labels, Tensor groups, Tensor weights, Tensor tokens, long B, long T, long groupCount, int ignoreIndex, LossReduction reduction, double scale)
        {
            int* label = (int*)labels.Address, group = (int*)groups.Address;
            double* weight = (double*)weights.Address;
            long* count = (long*)tokens.Address;
            RequireGroupIds(op, group, B, groupCount);
            new Span<long>(count, checked((int)groupCount)).Clear();
            for (long i = 0; i < B * T; i++)
                count[group == null ? 0 : group[i / T]] += label[i] == ignoreIndex ? 0 : 1;
            for (long i = 0; i < B * T; i++)
            {
                weight[i] = label[i] == ignoreIndex ? 0
                    : reduction == LossReduction.Sum ? scale
                    : scale / count[group == null ? 0 : group[i / T]];
            }
        }

        public static void GroupLoss(string op, Tensor loss, Tensor weights, Tensor groups, Tensor groupLoss, long B, long T, long groupCount)
        {
            int* group = (int*)groups.Address;
            double* l = (double*)loss.Address, weight = (double*)weights.Address, sum = (double*)groupLoss.Address;
            RequireGroupIds(op, group, B, groupCount);
            new Span<double>(sum, checked((int)groupCount)).Clear();
            for (long i = 0; i < B * T; i++)
                sum[group == null ? 0 : group[i / T]] += weight[i] * l[i];
        }

        private static void RequireGroupIds(string op, int* groups, long B, long groupCount)
        {
            for (long b = 0; groups != null && b < B; b++)
            {
                if (groups[b] < 0 || groups[b] >= groupCount)
                    throw new ArgumentException($"{op}: groups[{b}] is {groups[b]}, expected 0 to groupCount - 1 = {groupCount - 1}.", nameof(groups));
            }
        }

        private struct Kernel : IRowKernel
        {
            public float* Logits;
            public int* Labels;
            public double* Weights, Loss;
            public long Vocabulary;
            public TokenLoss Options;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                {
                    float* x = Logits + row * Vocabulary;
                    int t = Labels[row];
                    if (t == Options.IgnoreIndex)
                    {
                        Loss[row] = 0;
                        if (Weights != null)
                            Zero(x);
                        continue;
                    }
                    double sum = SumExp<V>(x, out float max, out double total);
                    double z = max + Math.Log(sum), e = Options.LabelSmoothing;
                    Loss[row] = (1 - e) * (z - x[t]) + (e == 0 ? 0 : e * (z - total / Vocabulary)) + Options.ZLoss * z * z;
                    if (Weights == null)
                        continue;
                    double weight = Weights[row];
                    float target = x[t];
                    double scale = weight * (1 + 2 * Options.ZLoss * z) / sum;
                    float uniform = (float)(weight * e / Vocabulary);
                    Gradient<V>(x, max, (float)scale, uniform);
                    // The label's own entry in double: scale p - weight cancels where the model is sure.
                    x[t] = (float)(scale * Math.Exp((double)target - max) - weight * (1 - e) - weight * e / Vocabulary);
                }
            }

            // sum_v e^(x_v - max), the maximum found on the way, and sum_v x_v where smoothing needs it.
            [MethodImpl(Jit.Loop)]
            private readonly double SumExp<V>(float* x, out float max, out double total)
                where V : unmanaged, ISimd<V>
            {
                float* scratch = stackalloc float[Chunk];
                double sum = 0;
                total = 0;
                max = float.NegativeInfinity;
                for (long start = 0; start < Vocabulary; start += Chunk)
                {
                    long n = Math.Min(Chunk, Vocabulary - start);
                    float chunkMax = RowMath.Max<V>(x + start, n);
                    if (chunkMax > max)
                    {
                        sum *= Math.Exp((double)max - chunkMax);
                        max = chunkMax;
                    }
                    // A chunk of nothing but -infinity adds nothing; subtracting that maximum would be NaN.
                    sum += RowMath.ExpShifted<V>(x + start, max == float.NegativeInfinity ? 0 : max, scratch, n);
                    if (Options.LabelSmoothing != 0)
                        total += RowMath.Sum<V>(x + start, n);
                }
                return sum;
            }

            [MethodImpl(Jit.Loop)]
            private readonly void Gradient<V>(float* x, float max, float scale, float uniform)
                where V : unmanaged, ISimd<V>
            {
                long i = 0;
                for (; i <= Vocabulary - V.Lanes; i += V.Lanes)
                    GradientAt<V>(x + i, max, scale, uniform);
                for (; i < Vocabulary; i++)
                    GradientAt<F32x1>(x + i, max, scale, uniform);
            }

            // forward: Z - (1 - e) x_t - e mean x + z Z^2, where dZ/dx_v = p_v, so:
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            private static void GradientAt<V>(float* x, float max, float scale, float uniform)
                where V : unmanaged, ISimd<V> =>
                (VectorMath.Exp(V.Load(x) - V.Broadcast(max)) * V.Broadcast(scale) - V.Broadcast(uniform)).Store(x);

            private readonly void Zero(float* x)
            {
                for (long start = 0; start < Vocabulary; start += int.MaxValue)
                    new Span<float>(x + start, (int)Math.Min(int.MaxValue, Vocabulary - start)).Clear();
            }
        }
    }
}
