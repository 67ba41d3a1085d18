// Sums and maxima of one row, sums in double. Deliberately not parallel: a row belongs to one thread. The loops are compiled at full
// optimisation at once, as every kernel loop here: unoptimised, a wrapped vector is some forty times slower (measured on Zen 5).
using System.Runtime.CompilerServices;

namespace IptNative.Kernels.Cpu;

/// <summary>Reductions over contiguous floats.</summary>
internal static unsafe class RowMath
{
    /// <summary>sum_i x_i y_i; exact products, double sums, one per lane: the order differs from a scalar loop by that alone.</summary>
    [MethodImpl(Jit.Loop)]
    public static double Dot<V>(float* x, float* y, long n)
        where V : unmanaged, ISimd<V>
    {
        double sum = 0;
        long i = 0;
        if (V.Lanes > 1)
        {
            V lower = V.Broadcast(0), upper = V.Broadcast(0);
            for (; i <= n - V.Lanes; i += V.Lanes)
            {
                V a = V.Load(x + i), b = V.Load(y + i);
                lower = V.AddProductsLower(lower, a, b);
                upper = V.AddProductsUpper(upper, a, b);
            }
            sum = V.SumDoubles(lower, upper);
        }
        for (; i < n; i++)
            sum += (double)x[i] * y[i];
        return sum;
    }

    /// <summary>sum_i (w_i y_i) x_i; the inner product rounded to float first, as the gradient g = w dy is.</summary>
    [MethodImpl(Jit.Loop)]
    public static double WeightedDot<V>(float* w, float* y, float* x, long n)
        where V : unmanaged, ISimd<V>
    {
        double sum = 0;
        long i = 0;
        if (V.Lanes > 1)
        {
            V lower = V.Broadcast(0), upper = V.Broadcast(0);
            for (; i <= n - V.Lanes; i += V.Lanes)
            {
                V a = V.Load(w + i) * V.Load(y + i), b = V.Load(x + i);
                lower = V.AddProductsLower(lower, a, b);
                upper = V.AddProductsUpper(upper, a, b);
            }
            sum = V.SumDoubles(lower, upper);
        }
        for (; i < n; i++)
            sum += (double)(w[i] * y[i]) * x[i];
        return sum;
    }

    /// <summary>sum_i x_i.</summary>
    [MethodImpl(Jit.Loop)]
    public static double Sum<V>(float* x, long n)
        where V : unmanaged, ISimd<V>
    {
        double sum = 0;
        long i = 0;
        if (V.Lanes > 1)
        {
            V lower = V.Broadcast(0), upper = V.Broadcast(0), one = V.Broadcast(1);
            for (; i <= n - V.Lanes; i += V.Lanes)
            {
                V a = V.Load(x + i);
                lower = V.AddProductsLower(lower, a, one);
                upper = V.AddProductsUpper(upper, a, one);
            }
            sum = V.SumDoubles(lower, upper);
        }
        for (; i < n; i++)
            sum += x[i];
        return sum;
    }

    /// <summary>The largest x_i; NaN may or may not be found. -infinity where <paramref name="n"/> is 0.</summary>
    [MethodImpl(Jit.Loop)]
    public static float Max<V>(float* x, long n)
        where V : unmanaged, ISimd<V>
    {
        V max = V.Broadcast(float.NegativeInfinity);
        long i = 0;
        for (; i <= n - V.Lanes; i += V.Lanes)
            max = V.Max(max, V.Load(x + i));
        float best = MaxLane(max);
        for (; i < n; i++)
            best = best > x[i] ? best : x[i];
        return best;
    }

    /// <summary>The largest lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float MaxLane<V>(V v)
        where V : unmanaged, ISimd<V>
    {
        float* lanes = stackalloc float[16];
        v.Store(lanes);
        float best = lanes[0];
        for (int i = 1; i < V.Lanes; i++)
            best = best > lanes[i] ? best : lanes[i];
        return best;
    }

    /// <summary>y_i = e^(x_i - shift), and their sum. <paramref name="y"/> may be <paramref name="x"/>.</summary>
    [MethodImpl(Jit.Loop)]
    public static double ExpShifted<V>(float* x, float shift, float* y, long n)
        where V : unmanaged, ISimd<V>
    {
        double sum = 0;
        long i = 0;
        if (V.Lanes > 1)
        {
            V lower = V.Broadcast(0), upper = V.Broadcast(0), one = V.Broadcast(1), s = V.Broadcast(shift);
            for (; i <= n - V.Lanes; i += V.Lanes)
            {
                V e = VectorMath.Exp(V.Load(x + i) - s);
                e.Store(y + i);
                lower = V.AddProductsLower(lower, e, one);
                upper = V.AddProductsUpper(upper, e, one);
            }
            sum = V.SumDoubles(lower, upper);
        }
        for (; i < n; i++)
        {
            y[i] = VectorMath.Exp(new F32x1(x[i] - shift)).Value;
            sum += y[i];
        }
        return sum;
    }
}
