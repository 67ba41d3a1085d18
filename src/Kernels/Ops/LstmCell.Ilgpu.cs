// The LSTM's cell on a GPU: a thread does one unit of one row, so that neighbours read neighbouring numbers of each gate. Contract: LstmCell.cs.
using ILGPU;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static unsafe partial class LstmCell
{
    internal static class Ilgpu
    {
        public static void Forward(IlgpuDevice gpu, Tensor gates, Tensor previous, Tensor cell, Tensor y, long rows, long h)
        {
            var kernel = new ForwardKernel { Gates = gpu.View<float>(gates), Previous = gpu.View<float>(previous), Cell = gpu.View<float>(cell), Y = gpu.View<float>(y), HasPrevious = !previous.IsEmpty, H = h, Units = rows * h };
            gpu.Launch(kernel, Groups(gpu, kernel.Units), gpu.Threads);
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
                HasPrevious = !previous.IsEmpty,
                H = h,
                Units = rows * h,
            };
            gpu.Launch(kernel, Groups(gpu, kernel.Units), gpu.Threads);
        }

        private static int Groups(IlgpuDevice gpu, long units) => gpu.Groups((units + gpu.Threads - 1) / gpu.Threads);

        internal struct ForwardKernel : IGpuKernel<ForwardKernel>
        {
            public ArrayView<float> Gates, Previous, Cell, Y;
            public GpuFlag HasPrevious;
            public long H, Units;

            public static void Run(ForwardKernel k)
            {
                long stride = (long)Grid.DimX * Group.DimX;
                for (long i = (long)Grid.IdxX * Group.DimX + Group.IdxX; i < k.Units; i += stride)
                {
                    long gate = 4 * k.H * (i / k.H) + i % k.H;
                    float input = Sigmoid(new GpuLane(k.Gates[gate])).Value, forget = Sigmoid(new GpuLane(k.Gates[gate + k.H])).Value;
                    float candidate = VectorMath.Tanh(new GpuLane(k.Gates[gate + 2 * k.H])).Value, output = Sigmoid(new GpuLane(k.Gates[gate + 3 * k.H])).Value;
                    float before = k.HasPrevious ? k.Previous[i] : 0;
                    float cell = forget * before + input * candidate;
                    k.Gates[gate] = input;
                    k.Gates[gate + k.H] = forget;
                    k.Gates[gate + 2 * k.H] = candidate;
                    k.Gates[gate + 3 * k.H] = output;
                    k.Cell[i] = cell;
                    k.Y[i] = output * VectorMath.Tanh(new GpuLane(cell)).Value;
                }
            }
        }

        internal struct BackwardKernel : IGpuKernel<BackwardKernel>
        {
            public ArrayView<float> Gates, Previous, Cell, Dy, Dcell, Dgates;
            public GpuFlag HasPrevious;
            public long H, Units;

            public static void Run(BackwardKernel k)
            {
                long stride = (long)Grid.DimX * Group.DimX;
                for (long i = (long)Grid.IdxX * Group.DimX + Group.IdxX; i < k.Units; i += stride)
                {
                    long gate = 4 * k.H * (i / k.H) + i % k.H;
                    float input = k.Gates[gate], forget = k.Gates[gate + k.H], candidate = k.Gates[gate + 2 * k.H], output = k.Gates[gate + 3 * k.H];
                    float tanh = VectorMath.Tanh(new GpuLane(k.Cell[i])).Value, dy = k.Dy[i];
                    float before = k.HasPrevious ? k.Previous[i] : 0;
                    // forward: y = o tanh(c), so: o (1 - t^2), as a product that does not cancel near 1.
                    float dcell = dy * output * ((1f - tanh) * (1f + tanh)) + k.Dcell[i];
                    k.Dgates[gate] = dcell * candidate * input * (1f - input);
                    k.Dgates[gate + k.H] = dcell * before * forget * (1f - forget);
                    k.Dgates[gate + 2 * k.H] = dcell * input * ((1f - candidate) * (1f + candidate));
                    k.Dgates[gate + 3 * k.H] = dy * tanh * output * (1f - output);
                    k.Dcell[i] = dcell * forget;
                }
            }
        }
    }
}
