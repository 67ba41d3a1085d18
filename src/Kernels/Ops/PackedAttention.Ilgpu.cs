// Attention over packed rows on a GPU: TiledAttention's passes, told where each example's rows begin. Backward has no saved sums, so it runs the forward pass
// again for them. Contract: PackedAttention.cs.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class PackedAttention
{
    internal static class Ilgpu
    {
        public static void Run(string op, IlgpuDevice gpu, in Operands o, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets)
        {
            if (gpu.Threads >= 256)
                Run<Tile64x64>(op, gpu, o, queryOffsets, keyOffsets);
            else
                Run<Tile8x16>(op, gpu, o, queryOffsets, keyOffsets);
        }

        private static void Run<TShape>(string op, IlgpuDevice gpu, in Operands o, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets)
            where TShape : struct, ITileShape
        {
            // Two tiles of columns, near and far: 128 on a GPU, less where tests emulate one.
            int widest = 2 * 4 * TShape.Columns;
            if (o.Width > widest)
                throw new ArgumentException($"{op}: dKv is {o.Width}, expected at most {widest} on {gpu.Name}.");
            bool isBackward = !o.Dk.IsEmpty;
            int examples = queryOffsets.Length - 1, rows = queryOffsets[^1];
            long width = (long)o.Heads * o.Width, saved = (long)o.Heads * rows;
            // Sums, and for the backward pass what ds subtracts, the context, and dq, which may not yet overwrite what it stands on.
            Tensor scratch = gpu.Scratch(DType.F32, 2 * saved + (isBackward ? 2 * rows * width : 0));
            Tensor Part(long start, long elements) => scratch.Slice(start, elements);
            Tensor first = gpu.Offsets.Of(queryOffsets), second = gpu.Offsets.Of(keyOffsets);
            var problem = new TiledAttention.Ilgpu.Problem
            {
                Q = gpu.View<float>(o.Q),
                K = gpu.View<float>(o.K),
                V = gpu.View<float>(o.V),
                Bias = gpu.View<float>(o.Bias.Table),
                LogSumExp = gpu.View<float>(Part(0, saved)),
                QueryOffsets = gpu.View<int>(first),
                KeyOffsets = gpu.View<int>(second),
                Heads = (long)examples * o.Heads,
                H = o.Heads,
                Width = o.Width,
                BiasWidth = 2 * o.Bias.Length - 1,
                HasBias = !o.Bias.Table.IsEmpty,
                Causal = o.Causal,
                IsPacked = true,
            };
            int longestQueries = Longest(queryOffsets), longestKeys = Longest(keyOffsets);
            Tensor context = isBackward ? Part(2 * saved, rows * width) : o.Context;
            TiledAttention.Ilgpu.Launch<TShape, TiledAttention.Ilgpu.ForwardKernel<TShape>>(
                gpu, new TiledAttention.Ilgpu.ForwardKernel<TShape> { P = problem, Y = gpu.View<float>(context) }, longestQueries, problem.Heads, o.Width);
            if (!isBackward)
                return;
            // Numbers per query lie by head, then row, as if all rows were one example's.
            var dots = new TiledAttention.Ilgpu.DotKernel { Y = gpu.View<float>(context), Dy = gpu.View<float>(o.Context), Delta = gpu.View<float>(Part(saved, saved)), B = 1, H = o.Heads, Tq = rows, K = o.Width };
            gpu.Launch(dots, GpuRows.WarpGroups(gpu, saved), gpu.Threads);
            Tensor dq = Part(2 * saved + rows * width, rows * width);
            TiledAttention.Ilgpu.Gradients<TShape>(gpu, problem, dots, o.Dq.IsEmpty ? default : dq, o.Dk, o.Dv, examples, o.Heads, longestQueries, longestKeys, o.Width);
            if (!o.Dq.IsEmpty)
                Elements.Run<ScaleElement>(gpu, dq.Elements, dq, out0: o.Dq, numbers: new ElementNumbers { N0 = 1 });
        }

        private static int Longest(ReadOnlySpan<int> offsets)
        {
            int longest = 0;
            for (int b = 0; b + 1 < offsets.Length; b++)
                longest = Math.Max(longest, offsets[b + 1] - offsets[b]);
            return longest;
        }
    }
}
