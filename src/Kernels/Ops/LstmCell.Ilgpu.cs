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
                    float before = 0;
                    if (k.First == 0)
                        before = k.Previous[at];
                    Unit<GpuLane> u = LstmCell.Forward(new GpuLane(k.Gates[gate]), new GpuLane(k.Gates[gate + k.H]), new GpuLane(k.Gates[gate + 2 * k.H]), new GpuLane(k.Gates[gate + 3 * k.H]), new GpuLane(before));
                    k.Gates[gate] = u.I.Value;
                    k.Gates[gate + k.H] = u.F.Value;
                    k.Gates[gate + 2 * k.H] = u.G.Value;
                    k.Gates[gate + 3 * k.H] = u.O.Value;
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
                    float before = 0;
                    if (k.First == 0)
                        before = k.Previous[at];
                    var u = default(Unit<GpuLane>);
                    u.I = new GpuLane(k.Gates[gate]);
                    u.F = new GpuLane(k.Gates[gate + k.H]);
                    u.G = new GpuLane(k.Gates[gate + 2 * k.H]);
                    u.O = new GpuLane(k.Gates[gate + 3 * k.H]);
                    u.Cell = new GpuLane(k.Cell[at]);
                    Unit<GpuLane> d = LstmCell.Backward(u, new GpuLane(before), new GpuLane(k.Dy[at]), new GpuLane(k.Dcell[at]));
                    k.Dgates[gate] = d.I.Value;
                    k.Dgates[gate + k.H] = d.F.Value;
                    k.Dgates[gate + 2 * k.H] = d.G.Value;
                    k.Dgates[gate + 3 * k.H] = d.O.Value;
                    k.Dcell[at] = d.Cell.Value;
                }
            }
        }
    }
}
