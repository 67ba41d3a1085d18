// What an op has to move and to compute at least: the counts that its time is held against. Deliberately not how it is done, nor how fast.
using System.Globalization;
using IptNative.Kernels.Devices;

namespace IptNative.Tuning.Benchmarks;

/// <summary>The floor of one op.</summary>
/// <param name="Shape">Its dimensions, for the table.</param>
/// <param name="Bytes">Every operand once: read, written, or both. Caches may serve some of it, so more than the copy bandwidth is possible.</param>
/// <param name="Flops">Additions and multiplications of the formula, a fused one counted as two; exp and tanh count as <see cref="ProfileCosts.Transcendental"/>.</param>
public readonly record struct OpCost(string Shape, double Bytes, double Flops);

/// <summary>Counts by op.</summary>
internal static class ProfileCosts
{
    /// <summary>Operations of one exp or tanh: range reduction and polynomial of our own.</summary>
    public const double Transcendental = 16;

    /// <summary>True for the matrix product, whichever way its operands are stored.</summary>
    public static bool IsProduct(string op) => op.StartsWith("Gemm", StringComparison.Ordinal);

    /// <summary>Counts an op.</summary>
    /// <param name="e">As recorded.</param>
    /// <returns>Its floor; null for an op that nothing is known of.</returns>
    public static OpCost? Of(in OpEvent e)
    {
        double a = e.D0, b = e.D1, c = e.D2, d = e.D3, rows = a * b;
        string shape = string.Create(CultureInfo.InvariantCulture, $"[{e.D0}{(e.D1 > 0 ? $", {e.D1}" : "")}{(e.D2 > 0 ? $", {e.D2}" : "")}]");
        if (IsProduct(e.Name))
        {
            string text = string.Create(CultureInfo.InvariantCulture, $"[{e.D0}, {e.D1}] over {e.D2}{(e.D3 > 1 ? $" x {e.D3}" : "")}{(e.Detail < 0 ? ", added" : "")}");
            return new OpCost(text, d * (4 * a * c + Math.Abs(e.Detail) / 8.0 * b * c + (e.Detail < 0 ? 8 : 4) * a * b), 2 * a * b * c * d);
        }
        return e.Name switch
        {
            "RmsNorm.Forward" => new(shape, 8 * rows + 4 * (a + b), 4 * rows),
            "RmsNorm.AddForward" => new(shape, 16 * rows + 4 * (a + b), 5 * rows),
            "RmsNorm.InverseRms" => new(shape, 4 * rows + 4 * a, 2 * rows),
            "RmsNorm.Backward" => new(shape, 12 * rows + 4 * (a + b), 7 * rows),
            "RmsNorm.BackwardAccumulate" => new(shape, 16 * rows + 4 * (a + b), 8 * rows),
            // Products of queries, keys and values; exp of each score. Backward makes the scores again.
            "PackedAttention.Forward" => new(Attention(e), 4 * c * (2 * a + 2 * b), 4 * d * c + Transcendental * d * Heads(c)),
            "PackedAttention.Backward" => new(Attention(e), 4 * c * (3 * a + 4 * b), 10 * d * c + (Transcendental + 4) * d * Heads(c)),
            "Elementwise.Scale" => new(shape, 8 * a, a),
            "Elementwise.Axpy" => new(shape, 12 * a, 2 * a),
            "Elementwise.Fill" => new(shape, 4 * a, 0),
            "ResidualAdd.Forward" or "ResidualAdd.BackwardAccumulate" => new(shape, 12 * a, a),
            "GatedGelu.Forward" => new(shape, 12 * a, (9 + Transcendental) * a),
            "GatedGelu.Backward" => new(shape, 20 * a, (18 + Transcendental) * a),
            "GatedRelu.Forward" => new(shape, 12 * a, 2 * a),
            "GatedRelu.Backward" => new(shape, 20 * a, 3 * a),
            "Gelu.Forward" => new(shape, 8 * a, (8 + Transcendental) * a),
            "Gelu.Backward" => new(shape, 12 * a, (15 + Transcendental) * a),
            "Relu.Forward" => new(shape, 8 * a, a),
            "Relu.Backward" => new(shape, 12 * a, a),
            "HyperbolicTangent.Forward" => new(shape, 8 * a, Transcendental * a),
            "HyperbolicTangent.Backward" => new(shape, 12 * a, 3 * a),
            // One of both sides is f32, the other at least 2 bytes.
            "Conversion.ToF32" or "Conversion.FromF32" => new(shape, 6 * a, a),
            "CrossEntropy.Forward" => new(shape, 4 * rows + 12 * a, (2 + Transcendental) * rows),
            "CrossEntropy.ForwardBackwardInPlace" => new(shape, 8 * rows + 20 * a, (4 + 2 * Transcendental) * rows),
            "EmbeddingGather.Forward" => new(shape, 8 * rows + 4 * a, 0),
            // Prompt rows, examples, width: each example holds the whole prompt.
            "PromptGather.Forward" or "PromptGather.ForwardPacked" => new(shape, 8 * a * b * c, 0),
            "PromptGather.Backward" => new(shape, 4 * a * b * c + 4 * a * c, a * b * c),
            "PromptGather.BackwardAccumulate" or "PromptGather.BackwardPackedAccumulate" => new(shape, 4 * a * b * c + 8 * a * c, a * b * c),
            "RelativePositionBias.ForwardByDistance" => new(shape, 8 * rows, 0),
            "AdafactorUpdate.RunFull" => new(shape, 20 * rows, 10 * rows),
            "AdafactorUpdate.RunFactored" => new(shape, 16 * rows, 10 * rows),
            "AdamWUpdate.Run" => new(shape, 28 * a, 14 * a),
            "OuterProductAdamW.Run" => new(shape, 24 * b * c + 4 * a * (b + c), (2 * a + 14) * b * c),
            "SquaredError.Forward" => new(shape, 8 * rows, 3 * rows),
            "SquaredError.BackwardAccumulate" => new(shape, 16 * rows, 3 * rows),
            "GramMatrix.Run" => new(shape, 4 * rows, a * rows),
            // Gates in and out, cells and outputs; three sigmoids and two tanhs a unit, backward one.
            "LstmCell.Forward" => new(shape, 44 * rows, (5 * Transcendental + 10) * rows),
            "LstmCell.Backward" => new(shape, 52 * rows, (Transcendental + 25) * rows),
            "Reductions.Sum" or "Reductions.SumOfSquares" or "Reductions.Dot" or "Reductions.MaxAbs" or "Reductions.FirstNonFinite" => new(shape, 4 * a, 2 * a),
            _ => null,
        };
    }

    private static string Attention(in OpEvent e) => string.Create(CultureInfo.InvariantCulture, $"{e.D0} queries, {e.D1} keys, width {e.D2}, {e.D3} pairs");

    // d_kv is 64 in every published T5; a head of another width moves the small share of exp only.
    private static double Heads(double width) => Math.Max(1, width / 64);
}
