// T5's relative position bias, as a function of the distance between key and query. Deliberately without a Backward: the table is
// frozen and nothing flows through it to an input.
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>A learnt number per head and distance bucket, added to the attention scores (HF: T5Attention.compute_bias).</summary>
/// <remarks>
/// Forward   bias[h, q, k] = table[bucket(k - q), h]
/// Shapes    table: [buckets, H];  bias: [H, Tq, Tk], or by distance [H, Tq + Tk - 1], where entry d is for k - q = d - (Tq - 1).
/// Numerics  a copy: exact. The bucket's logarithm is float32, as in HF: in double some distances fall into another bucket.
/// Memory    the form by distance holds everything the other does in Tq + Tk - 1 numbers per head instead of Tq * Tk; attention
///           reads row q of it as the Tk entries from Tq - 1 - q on. At 2048 positions and 12 heads: 196 KB instead of 201 MB.
/// Source    Raffel et al. 2020, section 2.1; HF transformers modeling_t5.py _relative_position_bucket.
/// </remarks>
public static partial class RelativePositionBias
{
    /// <summary>The bucket of a distance.</summary>
    /// <param name="distance">Key position less query position.</param>
    /// <param name="bidirectional">True in the encoder: half of the buckets are for keys after the query.</param>
    /// <param name="buckets">relative_attention_num_buckets.</param>
    /// <param name="maxDistance">relative_attention_max_distance: from here on all distances share the last bucket.</param>
    /// <returns>0 to <paramref name="buckets"/> - 1.</returns>
    /// <exception cref="ArgumentException">Too few buckets, or a distance limit inside the exact ones.</exception>
    public static int Bucket(long distance, bool bidirectional, int buckets, int maxDistance)
    {
        RequireBuckets("RelativePositionBias.Bucket", bidirectional, buckets, maxDistance);
        int half = bidirectional ? buckets / 2 : buckets;
        int offset = bidirectional && distance > 0 ? half : 0;
        long n = bidirectional ? Math.Abs(distance) : Math.Max(0, -distance);
        int exact = half / 2;
        if (n < exact)
            return offset + (int)n;
        // Beyond max_distance the logarithm only grows; the cast must not overflow.
        float log = MathF.Log((float)Math.Min(n, int.MaxValue) / exact) / (float)Math.Log((double)maxDistance / exact) * (half - exact);
        return offset + Math.Min(exact + (int)log, half - 1);
    }

    /// <summary>bias in the form by distance.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="table">f32 [buckets, H]: relative_attention_bias.weight.</param>
    /// <param name="bias">f32 [H, Tq + Tk - 1], overwritten.</param>
    /// <param name="buckets">relative_attention_num_buckets.</param>
    /// <param name="H">Heads.</param>
    /// <param name="Tq">Queries.</param>
    /// <param name="Tk">Keys.</param>
    /// <param name="bidirectional">True in the encoder.</param>
    /// <param name="maxDistance">relative_attention_max_distance.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or the buckets are impossible.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void ForwardByDistance(ComputeDevice device, Tensor table, Tensor bias, int buckets, int H, int Tq, int Tk, bool bidirectional, int maxDistance)
    {
        const string Op = "RelativePositionBias.ForwardByDistance";
        RequireTable(Op, device, table, buckets, H, Tq, Tk, bidirectional, maxDistance);
        Require.Shape(Op, device, bias, nameof(bias), DType.F32, "[H, Tq + Tk - 1]", H, (long)Tq + Tk - 1);
        using OpScope trace = OpTrace.Enter(Op, H, Tq + Tk - 1);
        switch (device)
        {
            case CpuDevice: Cpu.ByDistance(table, bias, buckets, H, Tq, Tk, bidirectional, maxDistance); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Run(gpu, table, bias, buckets, H, Tq, Tk, bidirectional, maxDistance, byDistance: true); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>bias in full, as graphs take it.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="table">f32 [buckets, H]: relative_attention_bias.weight.</param>
    /// <param name="bias">f32 [H, Tq, Tk], overwritten.</param>
    /// <param name="buckets">relative_attention_num_buckets.</param>
    /// <param name="H">Heads.</param>
    /// <param name="Tq">Queries.</param>
    /// <param name="Tk">Keys.</param>
    /// <param name="bidirectional">True in the encoder.</param>
    /// <param name="maxDistance">relative_attention_max_distance.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or the buckets are impossible.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor table, Tensor bias, int buckets, int H, int Tq, int Tk, bool bidirectional, int maxDistance)
    {
        const string Op = "RelativePositionBias.Forward";
        RequireTable(Op, device, table, buckets, H, Tq, Tk, bidirectional, maxDistance);
        Require.Shape(Op, device, bias, nameof(bias), DType.F32, "[H, Tq, Tk]", H, Tq, Tk);
        using OpScope trace = OpTrace.Enter(Op, H, Tq, Tk);
        switch (device)
        {
            case CpuDevice: Cpu.Full(table, bias, buckets, H, Tq, Tk, bidirectional, maxDistance); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Run(gpu, table, bias, buckets, H, Tq, Tk, bidirectional, maxDistance, byDistance: false); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static void RequireTable(string op, ComputeDevice device, Tensor table, int buckets, int H, int Tq, int Tk, bool bidirectional, int maxDistance)
    {
        RequireBuckets(op, bidirectional, buckets, maxDistance);
        Require.Dim(op, H, nameof(H));
        Require.Dim(op, Tq, nameof(Tq));
        Require.Dim(op, Tk, nameof(Tk));
        Require.Shape(op, device, table, nameof(table), DType.F32, "[buckets, H]", buckets, H);
    }

    private static void RequireBuckets(string op, bool bidirectional, int buckets, int maxDistance)
    {
        Require.Dim(op, buckets, nameof(buckets), bidirectional ? 4 : 2);
        Require.Dim(op, maxDistance, nameof(maxDistance), (bidirectional ? buckets / 2 : buckets) / 2 + 1);
    }

    private static unsafe class Cpu
    {
        // One thread: a few thousand copies. The bucket is computed once per distance, the heads' column read from the table.
        public static void ByDistance(Tensor table, Tensor bias, int buckets, int H, int Tq, int Tk, bool bidirectional, int maxDistance)
        {
            float* t = (float*)table.Address, b = (float*)bias.Address;
            long distances = (long)Tq + Tk - 1;
            for (long d = 0; d < distances; d++)
            {
                float* row = t + (long)Bucket(d - (Tq - 1), bidirectional, buckets, maxDistance) * H;
                for (int h = 0; h < H; h++)
                    b[h * distances + d] = row[h];
            }
        }

        // Row q holds distances -q to Tk - 1 - q: row 0 and column 0 are computed, everything else is its upper left neighbour.
        public static void Full(Tensor table, Tensor bias, int buckets, int H, int Tq, int Tk, bool bidirectional, int maxDistance)
        {
            float* t = (float*)table.Address, b = (float*)bias.Address;
            long head = (long)Tq * Tk;
            for (long d = 0; d < Tk; d++)
                Spread(b + d, Bucket(d, bidirectional, buckets, maxDistance));
            for (long q = 1; q < Tq; q++)
                Spread(b + q * Tk, Bucket(-q, bidirectional, buckets, maxDistance));
            for (long row = 0; row < (long)H * Tq; row++)
            {
                if (row % Tq != 0)
                    new ReadOnlySpan<float>(b + (row - 1) * Tk, Tk - 1).CopyTo(new Span<float>(b + row * Tk + 1, Tk - 1));
            }

            void Spread(float* target, int bucket)
            {
                for (int h = 0; h < H; h++)
                    target[h * head] = t[(long)bucket * H + h];
            }
        }
    }
}
