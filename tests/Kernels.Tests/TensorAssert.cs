// Comparison of tensors with a report that says where and how far; deliberately without a default tolerance.
using System.Text;
using Xunit;

namespace IptNative.Kernels.Tests;

public static class TensorAssert
{
    /// <summary>Machine epsilon of float: the spacing of floats at 1; rounding errs by half of it.</summary>
    public const double Eps = 1.1920929e-7;

    /// <summary>|actual - expected| &lt;= tolerance(i) at every element; NaN only where NaN is expected.</summary>
    public static void Close(ReadOnlySpan<double> expected, ReadOnlySpan<float> actual, Func<int, double> tolerance, string what)
    {
        Assert.True(expected.Length == actual.Length, $"{what}: {actual.Length} elements, expected {expected.Length}.");
        var wrong = new List<(int Index, double Excess)>();
        for (int i = 0; i < expected.Length; i++)
        {
            double error = Math.Abs(actual[i] - expected[i]);
            if (expected[i].Equals(actual[i]) || error <= tolerance(i))
                continue;
            wrong.Add((i, double.IsNaN(error) ? double.PositiveInfinity : error / Math.Max(tolerance(i), double.Epsilon)));
        }
        if (wrong.Count == 0)
            return;
        double ea = 0, ee = 0, aa = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            ea += expected[i] * actual[i];
            ee += expected[i] * expected[i];
            aa += (double)actual[i] * actual[i];
        }
        var report = new StringBuilder($"{what}: {wrong.Count} of {expected.Length} elements out of tolerance; cosine {ea / Math.Sqrt(ee * aa):R}. Worst five:");
        foreach ((int i, double excess) in wrong.OrderByDescending(w => w.Excess).Take(5))
            report.Append($"\n  [{i}] expected {expected[i]:R}, actual {actual[i]:R}, tolerance {tolerance(i):G3}, {excess:G3} times that");
        Assert.Fail(report.ToString());
    }

    /// <summary>One tolerance for all: c * eps * the largest expected magnitude.</summary>
    public static void CloseToLargest(ReadOnlySpan<double> expected, ReadOnlySpan<float> actual, double c, string what)
    {
        double scale = 0;
        foreach (double e in expected)
            scale = Math.Max(scale, Math.Abs(e));
        Close(expected, actual, _ => c * Eps * scale, what);
    }

    public static void SameBits(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            if (BitConverter.SingleToInt32Bits(expected[i]) != BitConverter.SingleToInt32Bits(actual[i]))
                Assert.Fail($"{what}: [{i}] expected exactly {expected[i]:R}, actual {actual[i]:R}.");
        }
    }
}
