// Whole tensors to numbers on a GPU: groups reduce fixed parts, one group the parts in their order, and one download brings all segments' results.
// Contract: Reductions.cs.
using System.Runtime.InteropServices;
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class Reductions
{
    internal static class Ilgpu
    {
        // Parts depend on the number of elements alone, so that the order of the sums does. Below one part a single group does it all.
        private const int MaxParts = 1024;
        private const long MinPart = 16 * 1024;

        public static double Reduce(IlgpuDevice gpu, Kind kind, Tensor x, Tensor y)
        {
            double result = 0;
            if (x.Elements == 0)
                return kind == Kind.FirstNonFinite ? -1 : 0;
            Tensor scratch = gpu.Scratch(DType.F64, 1 + MaxParts);
            Enqueue(gpu, kind, x, y, scratch.Slice(0, 1), scratch.Slice(1, MaxParts));
            gpu.CopyToHost(scratch.Slice(0, 1), MemoryMarshal.AsBytes(new Span<double>(ref result)));
            return kind == Kind.FirstNonFinite && double.IsPositiveInfinity(result) ? -1 : result;
        }

        public static void Segments(IlgpuDevice gpu, Kind kind, Tensor x, ReadOnlySpan<long> offsets, Span<double> sums)
        {
            Tensor scratch = gpu.Scratch(DType.F64, sums.Length + MaxParts);
            for (int s = 0; s < sums.Length; s++)
            {
                Tensor segment = x.Slice(offsets[s], offsets[s + 1] - offsets[s]);
                if (segment.Elements > 0)
                    Enqueue(gpu, kind, segment, segment, scratch.Slice(MaxParts + s, 1), scratch.Slice(0, MaxParts));
            }
            gpu.CopyToHost(scratch.Slice(MaxParts, sums.Length), MemoryMarshal.AsBytes(sums));
            for (int s = 0; s < sums.Length; s++)
            {
                if (offsets[s + 1] == offsets[s])
                    sums[s] = 0;
            }
        }

        private static void Enqueue(IlgpuDevice gpu, Kind kind, Tensor x, Tensor y, Tensor result, Tensor partials)
        {
            long part = Math.Max(MinPart, (x.Elements + MaxParts - 1) / MaxParts);
            int parts = (int)((x.Elements + part - 1) / part);
            var kernel = new PartKernel { X = gpu.View<float>(x), Y = gpu.View<float>(y), Results = gpu.View<double>(parts == 1 ? result : partials), Elements = x.Elements, Part = part, Parts = parts, Kind = (int)kind };
            gpu.Launch(kernel, parts, gpu.Threads);
            if (parts > 1)
                gpu.Launch(new JoinKernel { Partials = gpu.View<double>(partials), Result = gpu.View<double>(result), Parts = parts, Kind = (int)kind }, 1, gpu.Threads);
        }

        /// <summary>On the device: two results become one. Sums, the larger with NaN kept, the lower index.</summary>
        private static double Join(int kind, double a, double b)
        {
            if (kind == (int)Kind.MaxAbs)
                return b <= a ? a : a <= b ? b : a + b;
            if (kind == (int)Kind.FirstNonFinite)
                return a < b ? a : b;
            return a + b;
        }

        /// <summary>On the device: what joined with anything gives that.</summary>
        private static double Neutral(int kind) => kind == (int)Kind.FirstNonFinite ? double.PositiveInfinity : 0;

        private static double JoinGroup(int kind, double value, ArrayView<double> shared)
        {
            for (int mask = Warp.WarpSize / 2; mask > 0; mask >>= 1)
                value = Join(kind, value, Warp.ShuffleXor(value, mask));
            if (Warp.LaneIdx == 0)
                shared[Group.IdxX / Warp.WarpSize] = value;
            Group.Barrier();
            int warps = Group.DimX / Warp.WarpSize;
            double all = shared[0];
            for (int w = 1; w < warps; w++)
                all = Join(kind, all, shared[w]);
            return all;
        }

        internal struct PartKernel : IGpuKernel<PartKernel>
        {
            public ArrayView<float> X, Y;
            public ArrayView<double> Results;
            public long Elements, Part;
            public int Parts, Kind;

            public static void Run(PartKernel k)
            {
                ArrayView<double> shared = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                long start = Grid.IdxX * k.Part, end = start + k.Part < k.Elements ? start + k.Part : k.Elements;
                double value = Neutral(k.Kind);
                long i = start + Group.IdxX, step = Group.DimX;
                // Four loads in flight.
                for (; i + 3 * step < end; i += 4 * step)
                {
                    double a = At(k, i), b = At(k, i + step), c = At(k, i + 2 * step), d = At(k, i + 3 * step);
                    value = Join(k.Kind, value, Join(k.Kind, Join(k.Kind, a, b), Join(k.Kind, c, d)));
                }
                for (; i < end; i += step)
                    value = Join(k.Kind, value, At(k, i));
                value = JoinGroup(k.Kind, value, shared);
                if (Group.IdxX == 0)
                    k.Results[Grid.IdxX] = value;
            }

            private static double At(PartKernel k, long i)
            {
                float x = k.X[i];
                if (k.Kind == (int)Reductions.Kind.Dot)
                    return (double)x * k.Y[i];
                if (k.Kind == (int)Reductions.Kind.MaxAbs)
                    return x < 0 ? -x : x;
                if (k.Kind == (int)Reductions.Kind.FirstNonFinite)
                    return x - x == 0 ? double.PositiveInfinity : i;
                return x;
            }
        }

        internal struct JoinKernel : IGpuKernel<JoinKernel>
        {
            public ArrayView<double> Partials, Result;
            public int Parts, Kind;

            public static void Run(JoinKernel k)
            {
                ArrayView<double> shared = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                double value = Neutral(k.Kind);
                for (int i = Group.IdxX; i < k.Parts; i += Group.DimX)
                    value = Join(k.Kind, value, k.Partials[i]);
                value = JoinGroup(k.Kind, value, shared);
                if (Group.IdxX == 0)
                    k.Result[0] = value;
            }
        }
    }
}
