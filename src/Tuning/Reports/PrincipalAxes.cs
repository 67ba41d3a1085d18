// The two directions of most variance of a few dozen short vectors, for a picture. Deliberately not a general PCA: power iteration, two axes.
namespace IptNative.Tuning.Reports;

/// <summary>Projects vectors onto their first two principal axes.</summary>
internal static class PrincipalAxes
{
    // The ratio of neighbouring eigenvalues decides the rate; at 0.98 this many leave an error of 1e-8. A picture shows three digits.
    private const int Iterations = 1000;

    /// <summary>Coordinates of each vector and the share of variance of each axis. The sign of an axis is such that its largest loading is positive.</summary>
    public static (IReadOnlyList<(double X, double Y)> Points, double ShareX, double ShareY) Project(IReadOnlyList<float[]> vectors)
    {
        (int n, int d) = (vectors.Count, vectors[0].Length);
        double[] mean = [.. Enumerable.Range(0, d).Select(j => vectors.Average(v => (double)v[j]))];
        double[][] rows = [.. vectors.Select(v => v.Select((x, j) => x - mean[j]).ToArray())];
        double total = rows.Sum(r => r.Sum(x => x * x));
        if (total == 0) return ([.. rows.Select(_ => (0.0, 0.0))], 0, 0);
        double[] first = Axis(rows, d);
        double[] xs = [.. rows.Select(r => Dot(r, first))];
        double[][] rest = [.. rows.Select((r, i) => r.Select((x, j) => x - (xs[i] * first[j])).ToArray())];
        double[] second = Axis(rest, d);
        double[] ys = [.. rest.Select(r => Dot(r, second))];
        return ([.. xs.Zip(ys)], xs.Sum(x => x * x) / total, ys.Sum(y => y * y) / total);
    }

    private static double[] Axis(double[][] rows, int d)
    {
        // Starts from the longest row, which cannot be orthogonal to all variance.
        double[] axis = Unit([.. rows.MaxBy(r => Dot(r, r)) ?? new double[d]]);
        for (int i = 0; i < Iterations; i++)
        {
            double[] next = new double[d];
            foreach (double[] row in rows)
            {
                double along = Dot(row, axis);
                for (int j = 0; j < d; j++) next[j] += along * row[j];
            }
            axis = Unit(next);
        }
        return axis[Array.FindIndex(axis, x => Math.Abs(x) >= axis.Max(Math.Abs))] < 0 ? [.. axis.Select(x => -x)] : axis;
    }

    private static double[] Unit(double[] v)
    {
        double length = Math.Sqrt(Dot(v, v));
        return length > 0 ? [.. v.Select(x => x / length)] : v;
    }

    private static double Dot(double[] a, double[] b)
    {
        double sum = 0;
        for (int j = 0; j < a.Length; j++) sum += a[j] * b[j];
        return sum;
    }
}
