// Means, medians, deviations: NaN where there is nothing to take them of. Deliberately not significance tests: a few seeds do not carry them.
namespace IptNative.Tuning.Experiments;

internal static class Statistics
{
    public static double Mean(IEnumerable<double> values)
    {
        (double sum, int count) = (0, 0);
        foreach (double v in values) (sum, count) = (sum + v, count + 1);
        return count > 0 ? sum / count : double.NaN;
    }

    public static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return sorted.Length == 0 ? double.NaN : (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }

    /// <summary>Sample standard deviation, n - 1; NaN below two values.</summary>
    public static double Deviation(IReadOnlyCollection<double> values)
    {
        if (values.Count < 2) return double.NaN;
        double mean = Mean(values);
        return Math.Sqrt(values.Sum(v => (v - mean) * (v - mean)) / (values.Count - 1));
    }
}
