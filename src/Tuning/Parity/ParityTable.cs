// Collects what was compared. Not: what to compare, or how it is printed.
using IptNative.Kernels.Devices;

namespace IptNative.Tuning.Parity;

/// <summary>The rows of a report while they are made.</summary>
internal sealed class ParityTable
{
    private readonly List<ParityRow> _rows = [];

    public IReadOnlyList<ParityRow> Rows => _rows;

    public void Add(ParityRow row) => _rows.Add(row);

    public void Skip(string name, string reason) => _rows.Add(ParityRow.Skip(name, reason));

    /// <summary>Adds the largest difference, measured against the largest expected number.</summary>
    public void Compare(string name, double[] expected, double[] ours, ParityTolerance tolerance)
    {
        if (expected.Length != ours.Length)
        {
            _rows.Add(new ParityRow(name, ParityStatus.Failed, double.NaN, double.NaN, tolerance.Relative, tolerance.Reason, $"{ours.Length} values, expected {expected.Length}"));
            return;
        }
        double worst = 0;
        int at = 0;
        bool finite = true;
        for (int i = 0; i < expected.Length; i++)
        {
            double difference = Math.Abs(ours[i] - expected[i]);
            finite &= double.IsFinite(difference);
            if (difference > worst || !double.IsFinite(difference))
                (worst, at) = (difference, i);
        }
        double relative = worst == 0 ? 0 : worst / MaxAbs(expected);
        bool passed = finite && relative <= tolerance.Relative;
        string where = worst == 0 ? "" : $"[{at}]: expected {expected[at]:g9}, ours {ours[at]:g9}";
        _rows.Add(new ParityRow(name, passed ? ParityStatus.Passed : ParityStatus.Failed, worst, relative, tolerance.Relative, tolerance.Reason, where));
    }

    /// <summary>Largest difference, measured against the largest expected number.</summary>
    public static double Distance(double[] expected, double[] found) => expected.Zip(found, (e, f) => Math.Abs(e - f)).Max() / MaxAbs(expected);

    public static double MaxAbs(double[] values) => values.Length == 0 ? 0 : values.Max(Math.Abs);

    /// <summary>A tensor's f32 values.</summary>
    public static double[] Floats(Tensor tensor) => Array.ConvertAll(tensor.ToArray<float>(), v => (double)v);
}
