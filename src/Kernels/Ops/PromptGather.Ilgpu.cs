// Ragged prompts on a GPU. Backward's loop over prompt rows is outside, as on the CPU: one warp owns a row and adds its examples in order, so nothing is
// added atomically and the bits do not depend on the batch's other prompts. Contract: PromptGather.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class PromptGather
{
    internal static class Ilgpu
    {
        public static void Forward(string op, IlgpuDevice gpu, Tensor prompts, Tensor places, Tensor y, long promptRows, long B, long stride, long limit, long D)
        {
            if (B == 0)
                return;
            CheckPlaces(op, gpu, places, promptRows, B, limit);
            var kernel = new ForwardKernel
            {
                Prompts = gpu.View<float>(prompts),
                Places = gpu.View<int>(places),
                Y = gpu.View<float>(y),
                PromptRows = promptRows,
                B = B,
                Stride = stride,
                Limit = limit,
                D = D,
                Quads = GpuRows.Quads(D, prompts.Address | y.Address),
            };
            // An example's rows in x, examples in y.
            const long MaxGrid = 65535;
            gpu.Launch(kernel, new Index3D(GpuRows.WarpGroups(gpu, Math.Min(promptRows, limit)), (int)Math.Min(B, MaxGrid), 1), gpu.Threads);
        }

        public static void Backward(string op, IlgpuDevice gpu, Tensor places, Tensor dy, Tensor dprompts, long promptRows, long B, long stride, long limit, long D, bool accumulate)
        {
            if (B > 0)
                CheckPlaces(op, gpu, places, promptRows, B, limit);
            var kernel = new BackwardKernel
            {
                Places = gpu.View<int>(places),
                Dy = gpu.View<float>(dy),
                Dprompts = gpu.View<float>(dprompts),
                PromptRows = promptRows,
                B = B,
                Stride = stride,
                Limit = limit,
                D = D,
                Quads = GpuRows.Quads(D, dy.Address | dprompts.Address),
                Accumulate = accumulate,
            };
            gpu.Launch(kernel, GpuRows.WarpGroups(gpu, promptRows), gpu.Threads);
        }

        private static void CheckPlaces(string op, IlgpuDevice gpu, Tensor places, long promptRows, long B, long S)
        {
            DeviceFaults.FaultNote fault = gpu.Faults.Expect(
                static f => $"{f.Op}: places[{f.Index}] is (first {f.First}, length {f.Length}, position {f.Position}), expected a range inside {f.Limit >> 32} prompt rows and inside {(uint)f.Limit} positions.",
                op, (promptRows << 32) | S, nameof(places));
            gpu.Launch(new CheckKernel { Places = gpu.View<int>(places), Fault = fault, PromptRows = promptRows, B = B, S = S }, 1, gpu.WarpSize);
        }

        /// <summary>On the device: inside the table and the sequence.</summary>
        private static bool IsPlace(int first, int length, int position, long promptRows, long S) =>
            first >= 0 && length >= 0 && position >= 0 && (long)first + length <= promptRows && (long)position + length <= S;

        // One warp: a batch has a few dozen examples. The lowest bad one is noted.
        internal struct CheckKernel : IGpuKernel<CheckKernel>
        {
            public ArrayView<int> Places;
            public DeviceFaults.FaultNote Fault;
            public long PromptRows, B, S;

            public static void Run(CheckKernel k)
            {
                long bad = k.B;
                for (long b = Group.IdxX; b < k.B; b += Group.DimX)
                {
                    if (b < bad && !IsPlace(k.Places[b * PlaceWidth], k.Places[b * PlaceWidth + 1], k.Places[b * PlaceWidth + 2], k.PromptRows, k.S))
                        bad = b;
                }
                for (int mask = Warp.WarpSize / 2; mask > 0; mask >>= 1)
                {
                    long other = Warp.ShuffleXor(bad, mask);
                    bad = other < bad ? other : bad;
                }
                if (Group.IdxX == 0 && bad < k.B)
                    DeviceFaults.FaultNote.Report(k.Fault, bad, k.Places[bad * PlaceWidth], k.Places[bad * PlaceWidth + 1], k.Places[bad * PlaceWidth + 2]);
            }
        }

        internal struct ForwardKernel : IGpuKernel<ForwardKernel>
        {
            public ArrayView<float> Prompts, Y;
            public ArrayView<int> Places;
            public long PromptRows, B, Stride, Limit, D, Quads;

            public static void Run(ForwardKernel k)
            {
                int lane = Warp.LaneIdx, warp = Warp.WarpSize;
                ArrayView<F4> prompts4 = k.Prompts.Cast<F4>(), y4 = k.Y.Cast<F4>();
                for (long b = Grid.IdxY; b < k.B; b += Grid.DimY)
                {
                    int first = k.Places[b * PlaceWidth], length = k.Places[b * PlaceWidth + 1], position = k.Places[b * PlaceWidth + 2];
                    bool there = IsPlace(first, length, position, k.PromptRows, k.Limit);
                    for (long i = GpuRows.First(); i < length && there; i += GpuRows.Stride())
                    {
                        long from = (first + i) * k.D, to = (b * k.Stride + position + i) * k.D;
                        for (long q = lane; q < k.Quads; q += warp)
                            y4[to / 4 + q] = prompts4[from / 4 + q];
                        for (long j = 4 * k.Quads + lane; j < k.D; j += warp)
                            k.Y[to + j] = k.Prompts[from + j];
                    }
                }
            }
        }

        internal struct BackwardKernel : IGpuKernel<BackwardKernel>
        {
            public ArrayView<int> Places;
            public ArrayView<float> Dy, Dprompts;
            public long PromptRows, B, Stride, Limit, D, Quads;
            public GpuFlag Accumulate;

            public static void Run(BackwardKernel k)
            {
                int lane = Warp.LaneIdx, warp = Warp.WarpSize;
                ArrayView<F4> dy4 = k.Dy.Cast<F4>(), dprompts4 = k.Dprompts.Cast<F4>();
                for (long row = GpuRows.First(); row < k.PromptRows; row += GpuRows.Stride())
                {
                    long to = row * k.D;
                    for (long q = lane; q < k.Quads; q += warp)
                    {
                        F4 sum = k.Accumulate ? dprompts4[to / 4 + q] : default;
                        for (long b = 0; b < k.B; b++)
                        {
                            long at = SourceRow(k, row, b);
                            if (at >= 0)
                            {
                                F4 v = dy4[at * k.Quads + q];
                                sum = new F4(sum.X + v.X, sum.Y + v.Y, sum.Z + v.Z, sum.W + v.W);
                            }
                        }
                        dprompts4[to / 4 + q] = sum;
                    }
                    for (long j = 4 * k.Quads + lane; j < k.D; j += warp)
                    {
                        float sum = k.Accumulate ? k.Dprompts[to + j] : 0;
                        for (long b = 0; b < k.B; b++)
                        {
                            long at = SourceRow(k, row, b);
                            if (at >= 0)
                                sum += k.Dy[at * k.D + j];
                        }
                        k.Dprompts[to + j] = sum;
                    }
                }
            }

            // The row of dy that holds this prompt row in example b; -1 where it holds another prompt.
            private static long SourceRow(BackwardKernel k, long row, long b)
            {
                int first = k.Places[b * PlaceWidth], length = k.Places[b * PlaceWidth + 1], position = k.Places[b * PlaceWidth + 2];
                long i = row - first;
                return i >= 0 && i < length && IsPlace(first, length, position, k.PromptRows, k.Limit) ? b * k.Stride + position + i : -1;
            }
        }
    }
}
