// Keys and values into the memory of each row on a GPU. Rows lie in allocations of their own, so kernels address the device's whole memory. Contract: KeyValueStore.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static unsafe partial class KeyValueStore
{
    internal static class Ilgpu
    {
        public static void Append(IlgpuDevice gpu, Tensor k, Tensor v, CachedRows rows, int first, int count, int longest, int inner)
        {
            if (longest == 0)
                return;
            var kernel = new AppendKernel
            {
                Space = gpu.Space<float>(),
                Shift = gpu.SpaceShift,
                K = gpu.View<float>(k),
                V = gpu.View<float>(v),
                Rows = gpu.View<long>(rows.There),
                First = first,
                Count = count,
                Inner = inner,
                IsWide = GpuRows.Quads(inner, k.Address | v.Address) > 0,
            };
            const int MaxGrid = 65535;
            long pieces = (long)longest * (kernel.IsWide ? inner / 4 : inner);
            gpu.Launch(kernel, new Index3D(gpu.Groups((pieces + gpu.Threads - 1) / gpu.Threads), Math.Min(count, MaxGrid), 1), gpu.Threads);
        }

        public static void Copy(IlgpuDevice gpu, Tensor from, int fromCapacity, Tensor to, int toCapacity, int layers, int inner, int positions)
        {
            // A capacity is whole quads, so what is copied beyond the positions stays inside.
            long keys = (positions + 3) / 4, values = ((long)positions * inner + 3) / 4;
            var kernel = new CopyKernel { From = gpu.View<float>(from), To = gpu.View<float>(to), FromQuads = fromCapacity / 4, ToQuads = toCapacity / 4, Layers = layers, Inner = inner, KeyQuads = keys, ValueQuads = values };
            gpu.Launch(kernel, gpu.Groups((layers * (inner * keys + values) + gpu.Threads - 1) / gpu.Threads), gpu.Threads);
        }

        // Grid: pieces of a row, rows. Positions are neighbouring threads for the keys, which lie so; columns for the values.
        internal struct AppendKernel : IGpuKernel<AppendKernel>
        {
            public ArrayView<float> Space, K, V;
            public ArrayView<long> Rows;
            public long Shift, First, Count, Inner;
            public GpuFlag IsWide;

            public static void Run(AppendKernel k)
            {
                ArrayView<F4> space4 = k.Space.Cast<F4>(), k4 = k.K.Cast<F4>(), v4 = k.V.Cast<F4>();
                long stride = (long)Grid.DimX * Group.DimX, begin = (long)Grid.IdxX * Group.DimX + Group.IdxX;
                for (long r = Grid.IdxY; r < k.Count; r += Grid.DimY)
                {
                    var row = GpuCachedRow.Of(k.Rows, k.First + r, k.Shift);
                    long added = row.Count - row.First;
                    if (k.IsWide)
                    {
                        long quads = k.Inner / 4;
                        for (long e = begin; e < quads * added; e += stride)
                        {
                            long p = e % added, u = e / added, at = row.Keys + 4 * u * row.Capacity + row.First + p;
                            F4 x = k4[(row.Source + p) * quads + u];
                            k.Space[at] = x.X;
                            k.Space[at + row.Capacity] = x.Y;
                            k.Space[at + 2 * row.Capacity] = x.Z;
                            k.Space[at + 3 * row.Capacity] = x.W;
                        }
                        for (long e = begin; e < quads * added; e += stride)
                            space4[row.Values / 4 + row.First * quads + e] = v4[row.Source * quads + e];
                    }
                    else
                    {
                        for (long e = begin; e < k.Inner * added; e += stride)
                        {
                            long p = e % added, i = e / added;
                            k.Space[row.Keys + i * row.Capacity + row.First + p] = k.K[(row.Source + p) * k.Inner + i];
                            k.Space[row.Values + row.First * k.Inner + e] = k.V[row.Source * k.Inner + e];
                        }
                    }
                }
            }
        }

        internal struct CopyKernel : IGpuKernel<CopyKernel>
        {
            public ArrayView<float> From, To;
            public long FromQuads, ToQuads, Layers, Inner, KeyQuads, ValueQuads;

            public static void Run(CopyKernel k)
            {
                ArrayView<F4> from4 = k.From.Cast<F4>(), to4 = k.To.Cast<F4>();
                long stride = (long)Grid.DimX * Group.DimX, keys = k.Inner * k.KeyQuads, layerPieces = keys + k.ValueQuads;
                for (long e = (long)Grid.IdxX * Group.DimX + Group.IdxX; e < k.Layers * layerPieces; e += stride)
                {
                    long layer = e / layerPieces, piece = e % layerPieces, from = 2 * layer * k.Inner * k.FromQuads, to = 2 * layer * k.Inner * k.ToQuads;
                    if (piece < keys)
                        to4[to + piece / k.KeyQuads * k.ToQuads + piece % k.KeyQuads] = from4[from + piece / k.KeyQuads * k.FromQuads + piece % k.KeyQuads];
                    else
                        to4[to + k.Inner * k.ToQuads + piece - keys] = from4[from + k.Inner * k.FromQuads + piece - keys];
                }
            }
        }
    }
}
