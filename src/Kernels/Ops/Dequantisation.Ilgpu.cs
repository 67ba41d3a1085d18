// Codes to floats on a GPU, an element a thread. Contract: Dequantisation.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static unsafe partial class Dequantisation
{
    internal static class Ilgpu
    {
        public static void Forward(IlgpuDevice gpu, Tensor x, Tensor y)
        {
            BlockScales s = x.Scales;
            long rows = x.Elements / s.RowLength;
            bool isU4 = x.DType == DType.U4;
            var kernel = new Kernel
            {
                Codes = gpu.Window<byte>(x.Address, x.DType.ByteLength(x.Elements)),
                ZeroPoints = gpu.Window<byte>(s.ZeroPoints, isU4 ? rows * s.ZeroPointBytesPerRow : 0),
                Scales = gpu.Window<float>(s.Address, rows * s.PerRow),
                Y = gpu.View<float>(y),
                Elements = x.Elements,
                Width = s.RowLength,
                Block = s.Block,
                PerRow = s.PerRow,
                ZeroBytes = s.ZeroPointBytesPerRow,
                IsU4 = isU4,
            };
            gpu.Launch(kernel, gpu.Groups((x.Elements + gpu.Threads - 1) / gpu.Threads), gpu.Threads);
        }

        internal struct Kernel : IGpuKernel<Kernel>
        {
            public ArrayView<byte> Codes, ZeroPoints;
            public ArrayView<float> Scales, Y;
            public long Elements, Width, Block, PerRow, ZeroBytes;
            public GpuFlag IsU4;

            public static void Run(Kernel k)
            {
                long stride = (long)Grid.DimX * Group.DimX;
                for (long i = (long)Grid.IdxX * Group.DimX + Group.IdxX; i < k.Elements; i += stride)
                {
                    long row = i / k.Width, block = i % k.Width / k.Block;
                    float code;
                    if (k.IsU4)
                    {
                        int zero = k.ZeroPoints[row * k.ZeroBytes + block / 2] >> (int)(block % 2 * 4) & 15;
                        code = (k.Codes[i / 2] >> (int)(i % 2 * 4) & 15) - zero;
                    }
                    else
                    {
                        code = (sbyte)k.Codes[i];
                    }
                    k.Y[i] = code * k.Scales[row * k.PerRow + block];
                }
            }
        }
    }
}
