// The normaliser of a row of logits. Deliberately not a softmax: decoding needs log probabilities of few tokens, never the whole row.
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace IptNative.Model.Decoding;

/// <summary>log(sum(exp(x))) of one row.</summary>
internal static class LogSumExp
{
    /// <summary>Normaliser of a row: log p(v) = logits[v] - result.</summary>
    /// <param name="logits">[V] logits; minus infinity is a token that cannot be.</param>
    /// <param name="row">Row number, for the message.</param>
    /// <param name="step">Step number from 0, for the message.</param>
    /// <param name="max">The largest logit.</param>
    /// <returns>log(sum(exp(logits))).</returns>
    /// <remarks>Row maximum subtracted. exp in float, summed in double: relative error of the sum about 1e-7, of a log probability about 1e-7 absolute.</remarks>
    /// <exception cref="InvalidDataException">A logit is NaN or plus infinity, or all are minus infinity.</exception>
    // Full optimisation from the first call: the whole vocabulary passes through here at every step.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Of(ReadOnlySpan<float> logits, int row, int step, out float max)
    {
        // A NaN in a vector's lane spreads or is lost, depending on its place; the sum below meets it again either way.
        ReadOnlySpan<Vector<float>> vectors = MemoryMarshal.Cast<float, Vector<float>>(logits);
        ReadOnlySpan<float> rest = logits[(vectors.Length * Vector<float>.Count)..];
        var lanes = new Vector<float>(float.NegativeInfinity);
        foreach (Vector<float> x in vectors) lanes = Vector.Max(lanes, x);
        max = float.NegativeInfinity;
        for (int i = 0; i < Vector<float>.Count; i++) max = Math.Max(max, lanes[i]);
        foreach (float x in rest) max = Math.Max(max, x);
        double sum = double.NaN;
        if (float.IsFinite(max))
        {
            Vector<double> sums = Vector<double>.Zero;
            var shift = new Vector<float>(max);
            foreach (Vector<float> x in vectors)
            {
                Vector.Widen(Vector.Exp(x - shift), out Vector<double> low, out Vector<double> high);
                sums += low + high;
            }
            sum = Vector.Sum(sums);
            foreach (float x in rest) sum += MathF.Exp(x - max);
        }
        return double.IsFinite(sum) ? max + Math.Log(sum) : throw NotFinite(logits, row, step);
    }

    /// <summary>The largest logit alone, where the normaliser is of no use; refuses what <see cref="Of"/> refuses.</summary>
    /// <returns>Not a number.</returns>
    /// <exception cref="InvalidDataException">A logit is NaN or plus infinity, or all are minus infinity.</exception>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Max(ReadOnlySpan<float> logits, int row, int step, out float max)
    {
        ReadOnlySpan<Vector<float>> vectors = MemoryMarshal.Cast<float, Vector<float>>(logits);
        // Four chains: one would wait for each comparison.
        Vector<float> lanes = new(float.NegativeInfinity), lanes1 = lanes, lanes2 = lanes, lanes3 = lanes;
        // All bits set where every number of the lane equalled itself.
        Vector<int> numbers = Vector<int>.AllBitsSet, numbers1 = numbers, numbers2 = numbers, numbers3 = numbers;
        int v = 0;
        for (; v + 4 <= vectors.Length; v += 4)
        {
            Vector<float> a = vectors[v], b = vectors[v + 1], c = vectors[v + 2], d = vectors[v + 3];
            lanes = Vector.Max(lanes, a);
            lanes1 = Vector.Max(lanes1, b);
            lanes2 = Vector.Max(lanes2, c);
            lanes3 = Vector.Max(lanes3, d);
            numbers &= Vector.Equals(a, a);
            numbers1 &= Vector.Equals(b, b);
            numbers2 &= Vector.Equals(c, c);
            numbers3 &= Vector.Equals(d, d);
        }
        for (; v < vectors.Length; v++)
        {
            lanes = Vector.Max(lanes, vectors[v]);
            numbers &= Vector.Equals(vectors[v], vectors[v]);
        }
        lanes = Vector.Max(Vector.Max(lanes, lanes1), Vector.Max(lanes2, lanes3));
        numbers &= numbers1 & numbers2 & numbers3;
        max = float.NegativeInfinity;
        for (int i = 0; i < Vector<float>.Count; i++) max = Math.Max(max, lanes[i]);
        foreach (float x in logits[(vectors.Length * Vector<float>.Count)..]) max = Math.Max(max, x);
        // Math.Max keeps a NaN of the rest; one of the lanes may have been lost.
        return float.IsFinite(max) && numbers == Vector<int>.AllBitsSet ? double.NaN : throw NotFinite(logits, row, step);
    }

    private static InvalidDataException NotFinite(ReadOnlySpan<float> logits, int row, int step)
    {
        int bad = 0;
        while (bad < logits.Length - 1 && !float.IsNaN(logits[bad]) && !float.IsPositiveInfinity(logits[bad])) bad++;
        return new InvalidDataException(
            $"Generation: the logits of row {row} at step {step} are not finite (token {bad}: {logits[bad]}); expected finite numbers. "
            + "The weights or the prompt hold NaN or infinity, or a 16-bit format overflowed: check them, or load the model as f32.");
    }
}
