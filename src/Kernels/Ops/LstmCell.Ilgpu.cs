// The LSTM's cell on a GPU: a thread a unit. Contract and formulas: LstmCell.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class LstmCell
{
    internal static class Ilgpu
    {
        public static void Forward(IlgpuDevice gpu, Tensor gates, Tensor previous, Tensor cell, Tensor y, long rows, long h)
        {
            var kernel = new ForwardKernel { Gates = gpu.View<float>(gates), Previous = gpu.View<float>(previous), Cell = gpu.View<float>(cell), Y = gpu.View<float>(y), Units = rows * h, H = h, First = previous.IsEmpty ? 1 : 0 };
            gpu.Launch(kernel, gpu.Groups((rows * h + gpu.Threads - 1) / gpu.Threads), gpu.Threads);
        }

        public static void Backward(IlgpuDevice gpu, Tensor gates, Tensor previous, Tensor cell, Tensor dy, Tensor dcell, Tensor dgates, long rows, long h)
        {
            var kernel = new BackwardKernel
            {
                Gates = gpu.View<float>(gates),
                Previous = gpu.View<float>(previous),
                Cell = gpu.View<float>(cell),
                Dy = gpu.View<float>(dy),
                Dcell = gpu.View<float>(dcell),
                Dgates = gpu.View<float>(dgates),
                Units = rows * h,
                H = h,
                First = previous.IsEmpty ? 1 : 0,
            };
            gpu.Launch(kernel, gpu.Groups((rows * h + gpu.Threads - 1) / gpu.Threads), gpu.Threads);
        }

        // gate: of the unit's input gate in [rows, 4 h].
        private static Unit<GpuLane> Load(ArrayView<float> gates, long gate, long h)
        {
            var u = default(Unit<GpuLane>);
            u.I = new GpuLane(gates[gate]);
            u.F = new GpuLane(gates[gate + h]);
            u.G = new GpuLane(gates[gate + 2 * h]);
            u.O = new GpuLane(gates[gate + 3 * h]);
            return u;
        }

        private static void Store(ArrayView<float> gates, long gate, long h, Unit<GpuLane> u)
        {
            gates[gate] = u.I.Value;
            gates[gate + h] = u.F.Value;
            gates[gate + 2 * h] = u.G.Value;
            gates[gate + 3 * h] = u.O.Value;
        }

        // The first step has no cell before it.
        private static GpuLane Before(ArrayView<float> previous, long at, int first)
        {
            float before = 0;
            if (first == 0)
                before = previous[at];
            return new GpuLane(before);
        }

        internal struct ForwardKernel : IGpuKernel<ForwardKernel>
        {
            public ArrayView<float> Gates, Previous, Cell, Y;
            public long Units, H;
            public int First;

            public static void Run(ForwardKernel k)
            {
                long stride = (long)Grid.DimX * Group.DimX;
                for (long at = (long)Grid.IdxX * Group.DimX + Group.IdxX; at < k.Units; at += stride)
                {
                    long gate = at / k.H * 4 * k.H + at % k.H;
                    Unit<GpuLane> a = Load(k.Gates, gate, k.H);
                    Unit<GpuLane> u = LstmCell.Forward(a.I, a.F, a.G, a.O, Before(k.Previous, at, k.First));
                    Store(k.Gates, gate, k.H, u);
                    k.Cell[at] = u.Cell.Value;
                    k.Y[at] = u.Y.Value;
                }
            }
        }

        internal struct BackwardKernel : IGpuKernel<BackwardKernel>
        {
            public ArrayView<float> Gates, Previous, Cell, Dy, Dcell, Dgates;
            public long Units, H;
            public int First;

            public static void Run(BackwardKernel k)
            {
                long stride = (long)Grid.DimX * Group.DimX;
                for (long at = (long)Grid.IdxX * Group.DimX + Group.IdxX; at < k.Units; at += stride)
                {
                    long gate = at / k.H * 4 * k.H + at % k.H;
                    Unit<GpuLane> u = Load(k.Gates, gate, k.H);
                    u.Cell = new GpuLane(k.Cell[at]);
                    Unit<GpuLane> d = LstmCell.Backward(u, Before(k.Previous, at, k.First), new GpuLane(k.Dy[at]), new GpuLane(k.Dcell[at]));
                    Store(k.Dgates, gate, k.H, d);
                    k.Dcell[at] = d.Cell.Value;
                }
            }
        }
    }
}
