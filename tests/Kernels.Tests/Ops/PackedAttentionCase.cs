// What packed attention is tested on: ragged examples with seeded numbers, and their shapes.
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

public static class PackedAttentionShapes
{
    /// <summary>Lengths of the examples' queries and keys, head width, causal, biased.</summary>
    public static TheoryData<int[], int[], int, bool, bool> All => [.. Small, .. Large];

    /// <summary>For every device: the emulation of one takes seconds for more, and 32 is the widest head of its tile.</summary>
    public static TheoryData<int[], int[], int, bool, bool> Small => new()
    {
        { [1], [1], 1, false, false },
        { [1, 1, 2], [1, 1, 2], 4, true, true },
        { [7, 1, 33, 16], [7, 1, 33, 16], 8, false, true },
        { [7, 1, 33, 16], [7, 1, 33, 16], 9, true, true },
        { [3, 17, 8], [31, 4, 129], 16, false, false },
        { [21, 2], [21, 2], 31, true, true },
        { [5, 20], [13, 12], 32, false, false },
    };

    /// <summary>For devices that compute in hardware.</summary>
    public static TheoryData<int[], int[], int, bool, bool> Large => new()
    {
        { [48, 50], [13, 12], 33, false, false },
        { [65], [65], 64, true, false },
        { [228, 100], [228, 100], 64, false, true },
        { [300, 5], [300, 5], 31, true, true },
        { [40], [600], 40, false, false },
        { [515], [515], 7, false, true },
        { [600], [600], 5, true, true },
    };
}

internal sealed record PackedAttentionResult(float[] Context, float[] Dq, float[] Dk, float[] Dv);

internal sealed class PackedAttentionCase
{
    /// <summary>Standard deviation of the scores.</summary>
    public const double ScoreScale = 4;

    public PackedAttentionCase(int[] queries, int[] keys, int H, int width, bool causal, bool biased)
    {
        (this.H, Width, Causal) = (H, width, causal);
        QueryOffsets = Offsets(queries);
        KeyOffsets = Offsets(keys);
        BiasLength = keys.Max();
        int inner = H * width;
        // A score is a sum of K products: scaled so that its spread is ScoreScale at any width.
        double scale = Math.Sqrt(ScoreScale / Math.Sqrt(width));
        Q = Numbers.Normal(QueryOffsets[^1] * inner, 1, scale);
        K = Numbers.Normal(KeyOffsets[^1] * inner, 2, scale);
        V = Numbers.Normal(KeyOffsets[^1] * inner, 3);
        Dc = Numbers.Normal(QueryOffsets[^1] * inner, 4);
        Bias = biased ? Numbers.Normal(H * (2 * BiasLength - 1), 5) : null;
    }

    public float[] Q { get; }

    public float[] K { get; }

    public float[] V { get; }

    public float[] Dc { get; }

    public float[]? Bias { get; }

    public int BiasLength { get; }

    public int[] QueryOffsets { get; }

    public int[] KeyOffsets { get; }

    public int H { get; }

    public int Width { get; }

    public bool Causal { get; }

    private static int[] Offsets(int[] lengths)
    {
        int[] offsets = new int[lengths.Length + 1];
        for (int b = 0; b < lengths.Length; b++)
            offsets[b + 1] = offsets[b] + lengths[b];
        return offsets;
    }
}
