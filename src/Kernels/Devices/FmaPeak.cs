// What the cores can multiply and add at most: the yardstick that `bench` and `profile` hold kernels against. Not a benchmark of any kernel.
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Ops;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Devices;

/// <summary>Measures the fused multiply-add rate of a device's threads together.</summary>
public static class FmaPeak
{
    // Two pipes of latency 4 or 5 need ten independent chains; twelve fit the sixteen registers of AVX2 beside two operands.
    private const int Chains = 12;
    private const int StepsPerPiece = 20_000;
    private const int PiecesPerWorker = 8;

    /// <summary>Keeps all threads multiplying registers and returns the best rate seen.</summary>
    /// <param name="device">Whose threads are measured.</param>
    /// <param name="seconds">How long, above 0; half a second is plenty on an idle machine.</param>
    /// <returns>10^9 floating-point operations a second, a fused multiply-add counted as two; float32, at the vector width that the matrix product uses.</returns>
    /// <exception cref="ArgumentOutOfRangeException">No time given.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for it.</exception>
    public static double Measure(ComputeDevice device, double seconds)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(seconds);
        return device switch
        {
            CpuDevice cpu => Measure(cpu, seconds),
#if ILGPU
            IlgpuDevice gpu => FmaKernel.Measure(gpu, seconds),
#endif
            _ => throw Require.NoKernel("FmaPeak.Measure", device),
        };
    }

    private static double Measure(CpuDevice device, double seconds)
    {
        if (Vector512.IsHardwareAccelerated)
            return Measure<Vector512<float>, Wide>(device, seconds);
        if (Vector256.IsHardwareAccelerated)
            return Measure<Vector256<float>, Middle>(device, seconds);
        return Vector128.IsHardwareAccelerated ? Measure<Vector128<float>, Narrow>(device, seconds) : Measure<float, Scalar>(device, seconds);
    }

    private static double Measure<TVector, TOps>(CpuDevice device, double seconds)
        where TVector : unmanaged
        where TOps : struct, IOps<TVector>
    {
        int pieces = PiecesPerWorker * device.Pool.Workers;
        double flops = 2.0 * TOps.Lanes * Chains * StepsPerPiece * pieces, best = 0;
        long end = Stopwatch.GetTimestamp() + (long)(seconds * Stopwatch.Frequency);
        var body = new Chain<TVector, TOps>();
        do
        {
            long start = Stopwatch.GetTimestamp();
            device.Pool.Run(pieces, ref body);
            best = Math.Max(best, flops / Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        while (Stopwatch.GetTimestamp() < end);
        return best * 1e-9;
    }

    private interface IOps<TVector>
    {
        static abstract int Lanes { get; }

        static abstract TVector Create(float value);

        static abstract TVector MultiplyAdd(TVector a, TVector b, TVector c);
    }

    private struct Chain<TVector, TOps> : IParallelBody
        where TVector : unmanaged
        where TOps : struct, IOps<TVector>
    {
        private TVector _result;

        [MethodImpl(Jit.Loop)]
        public void Invoke(int task, int worker)
        {
            TVector x = TOps.Create(0.999f), y = TOps.Create(0.001f);
            TVector c0 = y, c1 = y, c2 = y, c3 = y, c4 = y, c5 = y, c6 = y, c7 = y, c8 = y, c9 = y, c10 = y, c11 = y;
            for (int step = 0; step < StepsPerPiece; step++)
            {
                c0 = TOps.MultiplyAdd(c0, x, y);
                c1 = TOps.MultiplyAdd(c1, x, y);
                c2 = TOps.MultiplyAdd(c2, x, y);
                c3 = TOps.MultiplyAdd(c3, x, y);
                c4 = TOps.MultiplyAdd(c4, x, y);
                c5 = TOps.MultiplyAdd(c5, x, y);
                c6 = TOps.MultiplyAdd(c6, x, y);
                c7 = TOps.MultiplyAdd(c7, x, y);
                c8 = TOps.MultiplyAdd(c8, x, y);
                c9 = TOps.MultiplyAdd(c9, x, y);
                c10 = TOps.MultiplyAdd(c10, x, y);
                c11 = TOps.MultiplyAdd(c11, x, y);
            }
            // Every chain must be used, or the JIT may drop it; folded into one value, so that no chain has a place in memory.
            c0 = TOps.MultiplyAdd(c0, c1, TOps.MultiplyAdd(c2, c3, TOps.MultiplyAdd(c4, c5, y)));
            c6 = TOps.MultiplyAdd(c6, c7, TOps.MultiplyAdd(c8, c9, TOps.MultiplyAdd(c10, c11, y)));
            _result = TOps.MultiplyAdd(c0, c6, y);
        }
    }

    private readonly struct Wide : IOps<Vector512<float>>
    {
        public static int Lanes => 16;

        public static Vector512<float> Create(float value) => Vector512.Create(value);

        public static Vector512<float> MultiplyAdd(Vector512<float> a, Vector512<float> b, Vector512<float> c) => Vector512.FusedMultiplyAdd(a, b, c);
    }

    private readonly struct Middle : IOps<Vector256<float>>
    {
        public static int Lanes => 8;

        public static Vector256<float> Create(float value) => Vector256.Create(value);

        public static Vector256<float> MultiplyAdd(Vector256<float> a, Vector256<float> b, Vector256<float> c) => Vector256.FusedMultiplyAdd(a, b, c);
    }

    private readonly struct Narrow : IOps<Vector128<float>>
    {
        public static int Lanes => 4;

        public static Vector128<float> Create(float value) => Vector128.Create(value);

        public static Vector128<float> MultiplyAdd(Vector128<float> a, Vector128<float> b, Vector128<float> c) => Vector128.FusedMultiplyAdd(a, b, c);
    }

    private readonly struct Scalar : IOps<float>
    {
        public static int Lanes => 1;

        public static float Create(float value) => value;

        public static float MultiplyAdd(float a, float b, float c) => a * b + c;
    }
}
