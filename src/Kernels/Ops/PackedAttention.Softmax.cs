// Softmax of a panel of scores and its derivative. Queries lie across the lanes and keys down the panel, so every sum and maximum runs lane by
// lane: no reduction across a register, no remainder, whatever the number of keys.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

public static partial class PackedAttention
{
    /// <summary>Panels [keys, width]; lanes without a query hold numbers that nobody reads.</summary>
    private static unsafe class Softmax
    {
        // Sums are made of partial sums of this many keys: an error of (32 + keys / 32) half ulps instead of keys half ulps.
        private const int PartialKeys = 32;

        /// <summary>s becomes e = e^(s + bias - maximum); hidden keys get 0.</summary>
        /// <param name="s">[keys, width].</param>
        /// <param name="width">Queries across, a multiple of the lanes.</param>
        /// <param name="keys">Keys down.</param>
        /// <param name="bias">Key 0's bias for each query across; key i's begins i floats before. Null: none.</param>
        /// <param name="visible">Every query sees keys 0 to visible - 1, query j those to visible - 1 + j.</param>
        /// <param name="numbers">0, 1, 2, ... for as many as there are queries.</param>
        /// <param name="scale">Receives 1 / sum e for each query.</param>
        [MethodImpl(Jit.Loop)]
        public static void Forward<V>(float* s, int width, int keys, float* bias, int visible, float* numbers, float* scale)
            where V : unmanaged, ISimd<V>
        {
            int plain = Math.Min(keys, visible);
            for (int j = 0; j < width; j += V.Lanes)
            {
                V max = V.Broadcast(float.NegativeInfinity);
                if (bias != null)
                {
                    // Two chains: one would wait for each maximum.
                    V other = max;
                    int key = 0;
                    for (; key + 1 < plain; key += 2)
                    {
                        float* at = s + (long)key * width + j;
                        V x = V.Load(at) + V.Load(bias + j - key), y = V.Load(at + width) + V.Load(bias + j - key - 1);
                        x.Store(at);
                        y.Store(at + width);
                        max = V.Max(max, x);
                        other = V.Max(other, y);
                    }
                    for (; key < plain; key++)
                    {
                        float* at = s + (long)key * width + j;
                        V x = V.Load(at) + V.Load(bias + j - key);
                        x.Store(at);
                        max = V.Max(max, x);
                    }
                    max = V.Max(max, other);
                }
                else
                {
                    for (int key = 0; key < plain; key++)
                        max = V.Max(max, V.Load(s + (long)key * width + j));
                }
                V query = V.Load(numbers + j);
                for (int key = plain; key < keys; key++)
                {
                    float* at = s + (long)key * width + j;
                    V x = V.Load(at);
                    if (bias != null)
                        x += V.Load(bias + j - key);
                    x = V.SelectLess(query, V.Broadcast(key - visible + 1), V.Broadcast(float.NegativeInfinity), x);
                    x.Store(at);
                    max = V.Max(max, x);
                }
                V sum = V.Broadcast(0);
                for (int first = 0; first < keys; first += PartialKeys)
                {
                    int end = Math.Min(keys, first + PartialKeys);
                    V partial = V.Broadcast(0);
                    for (int key = first; key < end; key++)
                    {
                        float* at = s + (long)key * width + j;
                        V e = VectorMath.Exp(V.Load(at) - max);
                        e.Store(at);
                        partial += e;
                    }
                    sum += partial;
                }
                (V.Broadcast(1) / sum).Store(scale + j);
            }
        }

        /// <summary>e becomes p = scale e, and dp becomes ds = p (dp - sum dp p).</summary>
        /// <param name="e">[keys, width], Forward's.</param>
        /// <param name="dp">[keys, width].</param>
        /// <param name="width">Queries across, a multiple of the lanes.</param>
        /// <param name="keys">Keys down.</param>
        /// <param name="scale">Forward's.</param>
        [MethodImpl(Jit.Loop)]
        public static void Backward<V>(float* e, float* dp, int width, int keys, float* scale)
            where V : unmanaged, ISimd<V>
        {
            for (int j = 0; j < width; j += V.Lanes)
            {
                V factor = V.Load(scale + j);
                V mean = V.Broadcast(0);
                for (int first = 0; first < keys; first += PartialKeys)
                {
                    int end = Math.Min(keys, first + PartialKeys);
                    V partial = V.Broadcast(0);
                    for (int key = first; key < end; key++)
                    {
                        long at = (long)key * width + j;
                        V p = V.Load(e + at) * factor;
                        p.Store(e + at);
                        partial = V.MultiplyAdd(p, V.Load(dp + at), partial);
                    }
                    mean += partial;
                }
                // forward: p_k = e_k / sum_j e_j, so: each p_k falls with every s_j by p_k p_j.
                for (int key = 0; key < keys; key++)
                {
                    long at = (long)key * width + j;
                    (V.Load(e + at) * (V.Load(dp + at) - mean)).Store(dp + at);
                }
            }
        }

        /// <summary>Each query's column times its scale.</summary>
        /// <param name="x">[rows, width].</param>
        /// <param name="width">Queries across, a multiple of the lanes.</param>
        /// <param name="rows">Rows down.</param>
        /// <param name="scale">For each query.</param>
        [MethodImpl(Jit.Loop)]
        public static void Scale<V>(float* x, int width, int rows, float* scale)
            where V : unmanaged, ISimd<V>
        {
            for (int row = 0; row < rows; row++, x += width)
            {
                for (int j = 0; j < width; j += V.Lanes)
                    (V.Load(x + j) * V.Load(scale + j)).Store(x + j);
            }
        }
    }
}
