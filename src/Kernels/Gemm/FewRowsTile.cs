// The arithmetic of FewRows: four rows of W at a time, against four, two or one of x. Deliberately not: which rows of W are whose (FewRows.cs).
// Accumulators are named locals because the JIT keeps those in registers and spills anything indexed. Nothing is called here: a call would cost every register.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

/// <summary>Sums over the k that are whole vectors. Whatever the tile, a sum has an accumulator of its own and the same order.</summary>
internal readonly unsafe struct FewRowsTile
{
    /// <summary>Rows of W in a panel, columns of y.</summary>
    public const int Columns = 4;

    /// <summary>Rows of x at most that are multiplied at a time: 16 accumulators, four of W and one of x are what 32 registers hold, and 16 do not.</summary>
    public const int MostRows = 4;

    /// <summary>x: [Rows, K].</summary>
    public required float* X { get; init; }

    /// <summary>From a row of x to the next, K or more.</summary>
    public required long StepX { get; init; }

    /// <summary>Rows of x, 1 or more.</summary>
    public required int Rows { get; init; }

    /// <summary>Columns of x and W.</summary>
    public required int K { get; init; }

    /// <summary>Results, the first of x's first row with W's first.</summary>
    public required float* Y { get; init; }

    /// <summary>From a row of results to the next, 4 or more.</summary>
    public required long StepY { get; init; }

    /// <summary>Factor.</summary>
    public required float Alpha { get; init; }

    /// <summary>Add to the results.</summary>
    public required bool Accumulate { get; init; }

    /// <summary>What of K is summed here.</summary>
    public static int Whole<V>(int K)
        where V : unmanaged, ISimd<V> => K - K % V.Lanes;

    /// <summary>All rows of x with four of W.</summary>
    /// <param name="w">A matrix that begins at the panel.</param>
    /// <param name="valid">Rows of W that there are, 1 to 4; the others' results are those of the last.</param>
    public void Multiply<V, TSource>(TSource w, int valid)
        where V : unmanaged, ISimd<V>
        where TSource : unmanaged, IPackSource<TSource>
    {
        int done = 0;
        if (V.Lanes == 16 && Rows >= 4)
            done = Fours<V, TSource>(w, valid);
        if (Rows - done >= 2)
            done = Twos<V, TSource>(w, valid, done);
        if (done < Rows)
            One<V, TSource>(w, valid, done);
    }

    /// <summary>Expands a row of W.</summary>
    /// <param name="w">A matrix that begins at the row.</param>
    /// <param name="K">Columns.</param>
    /// <param name="to">[K], overwritten.</param>
    [MethodImpl(Jit.Loop)]
    public static void Expand<V, TSource>(TSource w, int K, float* to)
        where V : unmanaged, ISimd<V>
        where TSource : unmanaged, IPackSource<TSource>
    {
        TSource next = w.Row(Columns);
        long k = 0;
        for (; k <= K - V.Lanes; k += V.Lanes)
        {
            next.Prefetch(0, k);
            w.Load<V>(0, k).Store(to + k);
        }
        for (; k < K; k++)
            w.Load<F32x1>(0, k).Store(to + k);
    }

    // Meanwhile the next panel is asked for: half of it at the first rows of x and half at the second, as then it need not be waited for at either.
    [MethodImpl(Jit.Loop)]
    private int Fours<V, TSource>(TSource w, int valid)
        where V : unmanaged, ISimd<V>
        where TSource : unmanaged, IPackSource<TSource>
    {
        TSource w0 = w.Row(0), w1 = w.Row(Math.Min(1, valid - 1)), w2 = w.Row(Math.Min(2, valid - 1)), w3 = w.Row(Math.Min(3, valid - 1));
        int whole = Whole<V>(K), first = 0;
        for (; first + 4 <= Rows; first += 4)
        {
            int half = Rows >= 8 ? 0 : 2, ahead = first >= 8 ? 0 : first == 4 ? 6 : 4;
            TSource n0 = w.Row(ahead), n1 = w.Row(ahead + 1), n2 = w.Row(ahead + half), n3 = w.Row(ahead + half + 1);
            float* x = X + first * StepX, x1 = x + StepX, x2 = x1 + StepX, x3 = x2 + StepX, y = Y + first * StepY;
            V a0 = V.Broadcast(0), a1 = a0, a2 = a0, a3 = a0;
            V b0 = V.Broadcast(0), b1 = b0, b2 = b0, b3 = b0;
            V c0 = V.Broadcast(0), c1 = c0, c2 = c0, c3 = c0;
            V d0 = V.Broadcast(0), d1 = d0, d2 = d0, d3 = d0;
            for (long k = 0; k < whole; k += V.Lanes)
            {
                n0.Prefetch(0, k);
                n1.Prefetch(0, k);
                n2.Prefetch(0, k);
                n3.Prefetch(0, k);
                V p = w0.Load<V>(0, k), q = w1.Load<V>(0, k), r = w2.Load<V>(0, k), s = w3.Load<V>(0, k);
                V v = V.Load(x + k);
                a0 = V.MultiplyAdd(v, p, a0);
                a1 = V.MultiplyAdd(v, q, a1);
                a2 = V.MultiplyAdd(v, r, a2);
                a3 = V.MultiplyAdd(v, s, a3);
                v = V.Load(x1 + k);
                b0 = V.MultiplyAdd(v, p, b0);
                b1 = V.MultiplyAdd(v, q, b1);
                b2 = V.MultiplyAdd(v, r, b2);
                b3 = V.MultiplyAdd(v, s, b3);
                v = V.Load(x2 + k);
                c0 = V.MultiplyAdd(v, p, c0);
                c1 = V.MultiplyAdd(v, q, c1);
                c2 = V.MultiplyAdd(v, r, c2);
                c3 = V.MultiplyAdd(v, s, c3);
                v = V.Load(x3 + k);
                d0 = V.MultiplyAdd(v, p, d0);
                d1 = V.MultiplyAdd(v, q, d1);
                d2 = V.MultiplyAdd(v, r, d2);
                d3 = V.MultiplyAdd(v, s, d3);
            }
            Store(y, V.Sums(a0, a1, a2, a3));
            Store(y + StepY, V.Sums(b0, b1, b2, b3));
            Store(y + 2 * StepY, V.Sums(c0, c1, c2, c3));
            Store(y + 3 * StepY, V.Sums(d0, d1, d2, d3));
        }
        return first;
    }

    [MethodImpl(Jit.Loop)]
    private int Twos<V, TSource>(TSource w, int valid, int first)
        where V : unmanaged, ISimd<V>
        where TSource : unmanaged, IPackSource<TSource>
    {
        TSource w0 = w.Row(0), w1 = w.Row(Math.Min(1, valid - 1)), w2 = w.Row(Math.Min(2, valid - 1)), w3 = w.Row(Math.Min(3, valid - 1));
        TSource n0 = w.Row(4), n1 = w.Row(5), n2 = w.Row(6), n3 = w.Row(7);
        int whole = Whole<V>(K);
        for (; first + 2 <= Rows; first += 2)
        {
            float* x = X + first * StepX, x1 = x + StepX, y = Y + first * StepY;
            V a0 = V.Broadcast(0), a1 = a0, a2 = a0, a3 = a0;
            V b0 = V.Broadcast(0), b1 = b0, b2 = b0, b3 = b0;
            for (long k = 0; k < whole; k += V.Lanes)
            {
                n0.Prefetch(0, k);
                n1.Prefetch(0, k);
                n2.Prefetch(0, k);
                n3.Prefetch(0, k);
                V p = w0.Load<V>(0, k), q = w1.Load<V>(0, k), r = w2.Load<V>(0, k), s = w3.Load<V>(0, k);
                V v = V.Load(x + k);
                a0 = V.MultiplyAdd(v, p, a0);
                a1 = V.MultiplyAdd(v, q, a1);
                a2 = V.MultiplyAdd(v, r, a2);
                a3 = V.MultiplyAdd(v, s, a3);
                v = V.Load(x1 + k);
                b0 = V.MultiplyAdd(v, p, b0);
                b1 = V.MultiplyAdd(v, q, b1);
                b2 = V.MultiplyAdd(v, r, b2);
                b3 = V.MultiplyAdd(v, s, b3);
            }
            Store(y, V.Sums(a0, a1, a2, a3));
            Store(y + StepY, V.Sums(b0, b1, b2, b3));
        }
        return first;
    }

    [MethodImpl(Jit.Loop)]
    private void One<V, TSource>(TSource w, int valid, int first)
        where V : unmanaged, ISimd<V>
        where TSource : unmanaged, IPackSource<TSource>
    {
        TSource w0 = w.Row(0), w1 = w.Row(Math.Min(1, valid - 1)), w2 = w.Row(Math.Min(2, valid - 1)), w3 = w.Row(Math.Min(3, valid - 1));
        TSource n0 = w.Row(4), n1 = w.Row(5), n2 = w.Row(6), n3 = w.Row(7);
        int whole = Whole<V>(K);
        float* x = X + first * StepX, y = Y + first * StepY;
        V a0 = V.Broadcast(0), a1 = a0, a2 = a0, a3 = a0;
        for (long k = 0; k < whole; k += V.Lanes)
        {
            n0.Prefetch(0, k);
            n1.Prefetch(0, k);
            n2.Prefetch(0, k);
            n3.Prefetch(0, k);
            V p = w0.Load<V>(0, k), q = w1.Load<V>(0, k), r = w2.Load<V>(0, k), s = w3.Load<V>(0, k);
            V v = V.Load(x + k);
            a0 = V.MultiplyAdd(v, p, a0);
            a1 = V.MultiplyAdd(v, q, a1);
            a2 = V.MultiplyAdd(v, r, a2);
            a3 = V.MultiplyAdd(v, s, a3);
        }
        Store(y, V.Sums(a0, a1, a2, a3));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Store(float* y, Vector128<float> sums)
    {
        sums *= Vector128.Create(Alpha);
        if (Accumulate)
            sums += Vector128.Load(y);
        sums.Store(y);
    }
}
