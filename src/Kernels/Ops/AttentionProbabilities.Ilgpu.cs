// The attention softmax on a GPU: one warp a row, three passes of which two come from the cache. Contract: AttentionProbabilities.cs. Where the scores
// need not be kept at all: TiledAttention.cs.
using ILGPU;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class AttentionProbabilities
{
    internal static class Ilgpu
    {
        // As on the CPU: a maximum below this is HF's float.MinValue, so every key of the row is masked.
        private const float AllMasked = float.MinValue / 2;

        public static void Forward(string op, IlgpuDevice gpu, Tensor scores, Tensor bias, KeyMask mask, long batch, int H, int Tq, int Tk, BiasLayout layout)
        {
            if (batch == 0)
                return;
            var kernel = new ForwardKernel
            {
                Scores = gpu.View<float>(scores),
                Bias = gpu.View<float>(bias),
                Mask = gpu.View<float>(mask.Mask),
                Lengths = gpu.View<int>(mask.Lengths),
                Fault = gpu.Faults.Expect(static f => $"{f.Op}: mask.Lengths[{f.Index}] is {f.Value}, expected 0 to Tk = {f.Limit}.", op, Tk, nameof(mask)),
                Rows = batch * H * Tq,
                H = H,
                Tq = Tq,
                Tk = Tk,
                Causal = mask.Causal,
                ByDistance = layout == BiasLayout.ByDistance,
                HasBias = !bias.IsEmpty,
                HasMask = !mask.Mask.IsEmpty,
                HasLengths = !mask.Lengths.IsEmpty,
            };
            gpu.Launch(kernel, GpuRows.WarpGroups(gpu, kernel.Rows), gpu.Threads);
        }

        public static void Backward(IlgpuDevice gpu, Tensor p, Tensor dp, Tensor ds, long rows, int Tk)
        {
            if (rows == 0)
                return;
            var kernel = new BackwardKernel { P = gpu.View<float>(p), Dp = gpu.View<float>(dp), Ds = gpu.View<float>(ds), Rows = rows, Tk = Tk };
            gpu.Launch(kernel, GpuRows.WarpGroups(gpu, rows), gpu.Threads);
        }

        internal struct ForwardKernel : IGpuKernel<ForwardKernel>
        {
            public ArrayView<float> Scores, Bias, Mask;
            public ArrayView<int> Lengths;
            public DeviceFaults.FaultNote Fault;
            public long Rows;
            public int H, Tq, Tk;
            public GpuFlag Causal, ByDistance, HasBias, HasMask, HasLengths;

            public static void Run(ForwardKernel k)
            {
                int lane = Warp.LaneIdx, warp = Warp.WarpSize;
                for (long row = GpuRows.First(); row < k.Rows; row += GpuRows.Stride())
                {
                    long q = row % k.Tq, h = row / k.Tq % k.H, b = row / k.Tq / k.H;
                    long visible = k.Tk;
                    if (k.HasLengths)
                    {
                        int length = k.Lengths[b];
                        if (length < 0 || length > k.Tk)
                            DeviceFaults.FaultNote.Report(k.Fault, b, length);
                        else
                            visible = length;
                    }
                    if (k.Causal)
                    {
                        long last = q + k.Tk - k.Tq + 1;
                        visible = last < 0 ? 0 : last < visible ? last : visible;
                    }
                    long start = row * k.Tk, mask = b * k.Tk;
                    long bias = k.ByDistance ? h * ((long)k.Tq + k.Tk - 1) + (k.Tq - 1 - q) : (h * k.Tq + q) * k.Tk;
                    float max = float.NegativeInfinity;
                    for (long i = lane; i < visible; i += warp)
                    {
                        float s = k.Scores[start + i];
                        if (k.HasBias)
                            s += k.Bias[bias + i];
                        if (k.HasMask)
                            s += k.Mask[mask + i];
                        k.Scores[start + i] = s;
                        max = s > max ? s : max;
                    }
                    max = GpuSums.WarpMax(max);
                    bool none = max <= AllMasked;
                    double sum = 0;
                    for (long i = lane; i < visible && !none; i += warp)
                    {
                        float e = VectorMath.Exp(new GpuLane(k.Scores[start + i] - max)).Value;
                        k.Scores[start + i] = e;
                        sum += e;
                    }
                    float scale = (float)(1 / GpuSums.Warp(sum));
                    for (long i = lane; i < k.Tk; i += warp)
                        k.Scores[start + i] = none ? 1f / k.Tk : i < visible ? k.Scores[start + i] * scale : 0f;
                }
            }
        }

        internal struct BackwardKernel : IGpuKernel<BackwardKernel>
        {
            public ArrayView<float> P, Dp, Ds;
            public long Rows;
            public int Tk;

            public static void Run(BackwardKernel k)
            {
                int lane = Warp.LaneIdx, warp = Warp.WarpSize;
                for (long row = GpuRows.First(); row < k.Rows; row += GpuRows.Stride())
                {
                    long start = row * k.Tk;
                    double sum = 0;
                    for (long i = lane; i < k.Tk; i += warp)
                        sum += (double)k.P[start + i] * k.Dp[start + i];
                    // forward: p_k = e_k / sum_j e_j, so: each p_k falls with every s_j by p_k p_j.
                    float mean = (float)GpuSums.Warp(sum);
                    for (long i = lane; i < k.Tk; i += warp)
                        k.Ds[start + i] = k.P[start + i] * (k.Dp[start + i] - mean);
                }
            }
        }
    }
}
