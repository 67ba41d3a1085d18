// Multiplications and additions on registers alone: the yardstick FmaPeak measures a GPU by. Not a kernel of any model.
using System.Diagnostics;
using ILGPU;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Gpu;

/// <summary>Eight chains a thread, enough to hide the latency of 4 at two warps a scheduler; the PTX assembler fuses each step.</summary>
internal struct FmaKernel : IGpuKernel<FmaKernel>
{
    private const int Chains = 8;

    // A few milliseconds on any GPU: the launch is no part of it that counts.
    private const int Steps = 1 << 15;

    public ArrayView<float> Results;
    public float X, Y;

    public static void Run(FmaKernel k)
    {
        float x = k.X, y = k.Y, c0 = y, c1 = y + 1, c2 = y + 2, c3 = y + 3, c4 = y + 4, c5 = y + 5, c6 = y + 6, c7 = y + 7;
        for (int step = 0; step < Steps; step++)
        {
            c0 = c0 * x + y;
            c1 = c1 * x + y;
            c2 = c2 * x + y;
            c3 = c3 * x + y;
            c4 = c4 * x + y;
            c5 = c5 * x + y;
            c6 = c6 * x + y;
            c7 = c7 * x + y;
        }
        // Every chain must be used, or the compiler may drop it.
        k.Results[Grid.IdxX * Group.DimX + Group.IdxX] = c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7;
    }

    /// <summary>10^9 operations a second, the best of as many launches as the time allows.</summary>
    public static double Measure(IlgpuDevice gpu, double seconds)
    {
        int groups = 8 * gpu.Multiprocessors;
        long threads = (long)groups * gpu.Threads;
        using DeviceBuffer results = gpu.Allocate(DType.F32, threads, "FMA peak");
        var kernel = new FmaKernel { Results = gpu.View<float>(results.Tensor), X = 0.999f, Y = 0.001f };
        gpu.Launch(kernel, groups, gpu.Threads);
        gpu.Synchronize();
        double best = 0;
        long end = Stopwatch.GetTimestamp() + (long)(seconds * Stopwatch.Frequency);
        do
        {
            long start = Stopwatch.GetTimestamp();
            gpu.Launch(kernel, groups, gpu.Threads);
            gpu.Synchronize();
            best = Math.Max(best, 2.0 * Chains * Steps * threads / Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        while (Stopwatch.GetTimestamp() < end);
        return best * 1e-9;
    }
}
