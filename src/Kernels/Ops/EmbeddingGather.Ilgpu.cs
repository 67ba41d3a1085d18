// The embedding lookup on a GPU: one warp a row. Contract: EmbeddingGather.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class EmbeddingGather
{
    internal static class Ilgpu
    {
        public static void Forward(string op, IlgpuDevice gpu, Tensor table, Tensor ids, Tensor y, long rows, long vocabulary, long D)
        {
            if (rows == 0)
                return;
            bool wide = table.DType == DType.F32;
            var kernel = new GatherKernel
            {
                Wide = wide ? gpu.View<float>(table) : default,
                Narrow = wide ? default : gpu.View<ushort>(table),
                Ids = gpu.View<int>(ids),
                Y = gpu.View<float>(y),
                Fault = gpu.Faults.Expect(
                    static f => $"{f.Op}: ids[{f.Index}] is {f.Value}, expected 0 to V - 1 = {f.Limit - 1}, or {Keep} to keep the row. Do tokenizer and checkpoint belong together?", op, vocabulary, nameof(ids)),
                Rows = rows,
                V = vocabulary,
                D = D,
                Quads = wide ? GpuRows.Quads(D, table.Address | y.Address) : 0,
                Octets = !wide && D % 8 == 0 && ((table.Address | y.Address) & 15) == 0 ? D / 8 : 0,
                IsWide = wide,
                IsF16 = table.DType == DType.F16,
            };
            gpu.Launch(kernel, GpuRows.WarpGroups(gpu, rows), gpu.Threads);
        }

        internal struct GatherKernel : IGpuKernel<GatherKernel>
        {
            public ArrayView<float> Wide, Y;
            public ArrayView<ushort> Narrow;
            public ArrayView<int> Ids;
            public DeviceFaults.FaultNote Fault;
            public long Rows, V, D, Quads, Octets;
            public GpuFlag IsWide, IsF16;

            public static void Run(GatherKernel k)
            {
                int lane = Warp.LaneIdx, warp = Warp.WarpSize;
                ArrayView<F4> y4 = k.Y.Cast<F4>(), wide4 = k.Wide.Cast<F4>();
                ArrayView<U4> narrow8 = k.Narrow.Cast<U4>();
                for (long row = GpuRows.First(); row < k.Rows; row += GpuRows.Stride())
                {
                    int id = k.Ids[row];
                    bool known = id >= 0 && id < k.V;
                    if (!known && id != Keep)
                        DeviceFaults.FaultNote.Report(k.Fault, row, id);
                    long from = id * k.D, to = row * k.D;
                    for (long q = lane; q < k.Quads && known; q += warp)
                        y4[to / 4 + q] = wide4[from / 4 + q];
                    for (long o = lane; o < k.Octets && known; o += warp)
                    {
                        U4 v = narrow8[from / 8 + o];
                        y4[to / 4 + 2 * o] = new F4(At(k, v.X), At(k, v.X >> 16), At(k, v.Y), At(k, v.Y >> 16));
                        y4[to / 4 + 2 * o + 1] = new F4(At(k, v.Z), At(k, v.Z >> 16), At(k, v.W), At(k, v.W >> 16));
                    }
                    for (long i = 4 * k.Quads + 8 * k.Octets + lane; i < k.D && known; i += warp)
                        k.Y[to + i] = k.IsWide ? k.Wide[from + i] : At(k, k.Narrow[from + i]);
                }
            }

            private static float At(GatherKernel k, uint bits) => k.IsF16 ? GpuBits.FromF16((ushort)bits) : GpuBits.FromBF16((ushort)bits);
        }
    }
}
