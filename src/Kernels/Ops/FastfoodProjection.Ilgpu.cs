// The Fastfood map on a GPU: spread, transform, permute, transform, cut. The work tensor is used as two halves, all of u and then all of v. Contract:
// FastfoodProjection.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class FastfoodProjection
{
    internal static class Ilgpu
    {
        public static void Run(IlgpuDevice gpu, Tensor narrow, in FastfoodTensors map, Tensor work, Tensor wide, int rows, int d, int n, float scale, bool backward)
        {
            long padded = map.Gauss.Elements, half = rows * padded;
            Tensor u = work.Slice(0, half), v = work.Slice(half, half);
            if (backward)
            {
                // forward: y = scale (H v)[0..n), so: v = H pad(scale dy).
                Spread(gpu, wide, v, default, n, padded, scale);
                WalshHadamard.Ilgpu.Run(gpu, v, rows, padded);
                Permute(gpu, map, v, u, padded, backward);
                WalshHadamard.Ilgpu.Run(gpu, u, rows, padded);
                Cut(gpu, u, narrow, map.Signs, d, padded, 1);
                return;
            }
            Spread(gpu, narrow, u, map.Signs, d, padded, 1);
            WalshHadamard.Ilgpu.Run(gpu, u, rows, padded);
            Permute(gpu, map, u, v, padded, backward);
            WalshHadamard.Ilgpu.Run(gpu, v, rows, padded);
            Cut(gpu, v, wide, default, n, padded, scale);
        }

        private static int Groups(IlgpuDevice gpu, long elements) => gpu.Groups((elements + gpu.Threads - 1) / gpu.Threads);

        private static void Spread(IlgpuDevice gpu, Tensor from, Tensor to, Tensor signs, long width, long padded, float scale) => gpu.Launch(
            new SpreadKernel { From = gpu.View<float>(from), To = gpu.View<float>(to), Signs = gpu.View<float>(signs), Elements = to.Elements, Width = width, Padded = padded, Scale = scale, HasSigns = !signs.IsEmpty },
            Groups(gpu, to.Elements), gpu.Threads);

        private static void Permute(IlgpuDevice gpu, in FastfoodTensors map, Tensor from, Tensor to, long padded, bool backward) => gpu.Launch(
            new PermuteKernel { From = gpu.View<float>(from), To = gpu.View<float>(to), Gauss = gpu.View<float>(map.Gauss), Permutation = gpu.View<int>(map.Permutation), Elements = to.Elements, Padded = padded, Backward = backward },
            Groups(gpu, to.Elements), gpu.Threads);

        private static void Cut(IlgpuDevice gpu, Tensor from, Tensor to, Tensor signs, long width, long padded, float scale) => gpu.Launch(
            new CutKernel { From = gpu.View<float>(from), To = gpu.View<float>(to), Signs = gpu.View<float>(signs), Elements = to.Elements, Width = width, Padded = padded, Scale = scale, HasSigns = !signs.IsEmpty },
            Groups(gpu, to.Elements), gpu.Threads);

        /// <summary>Rows of a width to rows of N: scaled or signed, zeros behind.</summary>
        internal struct SpreadKernel : IGpuKernel<SpreadKernel>
        {
            public ArrayView<float> From, To, Signs;
            public long Elements, Width, Padded;
            public float Scale;
            public GpuFlag HasSigns;

            public static void Run(SpreadKernel k)
            {
                long stride = (long)Grid.DimX * Group.DimX;
                for (long i = (long)Grid.IdxX * Group.DimX + Group.IdxX; i < k.Elements; i += stride)
                {
                    long row = i / k.Padded, column = i % k.Padded;
                    float value = 0;
                    if (column < k.Width)
                    {
                        float factor = k.Scale;
                        if (k.HasSigns)
                            factor = k.Signs[column];
                        value = k.From[row * k.Width + column] * factor;
                    }
                    k.To[i] = value;
                }
            }
        }

        /// <summary>v_i = G_i u[perm_i]; backward u[perm_i] = G_i v_i. A permutation: no two threads write one element.</summary>
        internal struct PermuteKernel : IGpuKernel<PermuteKernel>
        {
            public ArrayView<float> From, To, Gauss;
            public ArrayView<int> Permutation;
            public long Elements, Padded;
            public GpuFlag Backward;

            public static void Run(PermuteKernel k)
            {
                long stride = (long)Grid.DimX * Group.DimX;
                for (long i = (long)Grid.IdxX * Group.DimX + Group.IdxX; i < k.Elements; i += stride)
                {
                    long column = i % k.Padded, other = i - column + k.Permutation[column];
                    if (k.Backward)
                        k.To[other] = k.Gauss[column] * k.From[i];
                    else
                        k.To[i] = k.Gauss[column] * k.From[other];
                }
            }
        }

        /// <summary>Rows of N to rows of a width: scaled or signed.</summary>
        internal struct CutKernel : IGpuKernel<CutKernel>
        {
            public ArrayView<float> From, To, Signs;
            public long Elements, Width, Padded;
            public float Scale;
            public GpuFlag HasSigns;

            public static void Run(CutKernel k)
            {
                long stride = (long)Grid.DimX * Group.DimX;
                for (long i = (long)Grid.IdxX * Group.DimX + Group.IdxX; i < k.Elements; i += stride)
                {
                    long row = i / k.Width, column = i % k.Width;
                    float factor = k.Scale;
                    if (k.HasSigns)
                        factor = k.Signs[column];
                    k.To[i] = factor * k.From[row * k.Padded + column];
                }
            }
        }
    }
}
