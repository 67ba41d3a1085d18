// Packed attention, forward and backward, at T5 base's heads: 12 of 64. The products' operations count, 4 K a score forward and 8 K backward: the scores that
// Backward computes again, the softmax and the copies do not, so no share reaches 100 %.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Bench;

internal static class AttentionBench
{
    private const int H = 12;
    private const int Width = 64;

    private static readonly (string Name, int Examples, int Queries, int Keys, bool Bias, bool Causal)[] Shapes =
    [
        ("encoder 8x228", 8, 228, 228, true, false),
        ("encoder 4x512", 4, 512, 512, true, false),
        ("encoder 1x1024", 1, 1024, 1024, true, false),
        ("encoder 1x2048", 1, 2048, 2048, true, false),
        ("encoder 64x20", 64, 20, 20, true, false),
        ("decoder 8x8", 8, 8, 8, true, true),
        ("decoder 4x512", 4, 512, 512, true, true),
        ("cross 8x8x228", 8, 8, 228, false, false),
    ];

    public static void Run(BenchOptions options, Ledger ledger)
    {
        using var device = new CpuDevice(options.Threads);
        using var sampler = new Sampler(device);
        int repeats = options.Repeats > 0 ? options.Repeats : 60;
        foreach ((string name, int examples, int queries, int keys, bool biased, bool causal) in Shapes)
        {
            if (!name.Contains(options.Only, StringComparison.Ordinal))
                continue;
            using var numbers = new NativeNumbers(device);
            int[] queryOffsets = [.. Enumerable.Range(0, examples + 1).Select(b => b * queries)], keyOffsets = [.. Enumerable.Range(0, examples + 1).Select(b => b * keys)];
            long inner = H * Width;
            Tensor q = numbers.Take(queryOffsets[^1] * inner), k = numbers.Take(keyOffsets[^1] * inner), v = numbers.Take(keyOffsets[^1] * inner);
            Tensor context = numbers.Take(q.Elements), dq = numbers.Take(q.Elements), dk = numbers.Take(k.Elements), dv = numbers.Take(v.Elements);
            DistanceBias bias = biased ? new(numbers.Take(H * (2L * keys - 1)), keys) : default;
            double scores = (causal ? (keys + 1) / 2.0 : keys) * queries * examples * H;
            var forward = Summary.Of(sampler.Time(repeats, () => PackedAttention.Forward(device, q, k, v, bias, context, queryOffsets, keyOffsets, H, Width, causal)), 4 * scores * Width);
            Console.WriteLine($"{name,-16} forward  {forward}");
            forward.ToLedger(ledger, name, "forward");
            var backward = Summary.Of(sampler.Time(repeats, () => PackedAttention.Backward(device, q, k, v, bias, context, dq, dk, dv, queryOffsets, keyOffsets, H, Width, causal)), 8 * scores * Width);
            Console.WriteLine($"{name,-16} backward {backward}");
            backward.ToLedger(ledger, name, "backward");
        }
    }
}
