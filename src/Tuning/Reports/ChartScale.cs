// From data to places on paper: round ticks on a linear or logarithmic axis. Deliberately not drawing.
using System.Globalization;

namespace IptNative.Tuning.Reports;

/// <summary>One axis of a chart.</summary>
internal sealed class ChartScale
{
    private readonly double _low, _high, _from, _to;
    private readonly bool _log;

    private ChartScale(double low, double high, double from, double to, bool log, IReadOnlyList<double> ticks)
    {
        (_low, _high, _from, _to, _log, Ticks) = (low, high, from, to, log, ticks);
    }

    /// <summary>Values that get a line and a number.</summary>
    public IReadOnlyList<double> Ticks { get; }

    /// <summary>Where a value stands.</summary>
    public double At(double value)
    {
        (double v, double low, double high) = _log ? (Math.Log(value), Math.Log(_low), Math.Log(_high)) : (value, _low, _high);
        return _from + ((v - low) / (high - low) * (_to - _from));
    }

    /// <summary>An axis with about five round ticks over the values.</summary>
    public static ChartScale Linear(IEnumerable<double> values, double from, double to, bool fromZero = false)
    {
        double[] finite = [.. values.Where(double.IsFinite)];
        (double low, double high) = finite.Length > 0 ? (finite.Min(), finite.Max()) : (0, 1);
        if (fromZero) (low, high) = (Math.Min(0, low), Math.Max(0, high));
        if (high - low < 1e-9 * Math.Max(1, Math.Abs(high))) (low, high) = fromZero && low == 0 ? (0, 1) : (low - 0.5, high + 0.5);
        double step = RoundStep((high - low) / 5);
        (double first, double last) = (Math.Floor((low / step) + 1e-9) * step, Math.Ceiling((high / step) - 1e-9) * step);
        int count = (int)Math.Round((last - first) / step);
        return new ChartScale(first, last, from, to, log: false, [.. Enumerable.Range(0, count + 1).Select(i => first + (i * step))]);
    }

    /// <summary>An axis with places 0 to count - 1 of equal width.</summary>
    public static ChartScale Places(int count, double from, double to) => new(-0.5, count - 0.5, from, to, log: false, [.. Enumerable.Range(0, count).Select(i => (double)i)]);

    /// <summary>The same axis, unlabelled.</summary>
    public ChartScale WithoutTicks() => new(_low, _high, _from, _to, _log, []);

    /// <summary>A logarithmic axis that is labelled at exactly the values given (a list of d_I).</summary>
    public static ChartScale LogAt(IReadOnlyList<double> values, double from, double to)
    {
        (double low, double high) = (values.Min(), values.Max());
        // Room beside the outermost points, and an axis for a single one.
        double margin = low == high ? 2 : Math.Pow(high / low, 0.06);
        return new ChartScale(low / margin, high * margin, from, to, log: true, values);
    }

    /// <summary>A tick's number: as many digits as it needs, no more than six.</summary>
    public static string Label(double value) => Math.Abs(value) >= 100_000 || (value != 0 && Math.Abs(value) < 1e-4)
        ? value.ToString("0.##e+0", CultureInfo.InvariantCulture)
        : Math.Round(value, 6).ToString("0.######", CultureInfo.InvariantCulture);

    private static double RoundStep(double raw)
    {
        double power = Math.Pow(10, Math.Floor(Math.Log10(raw)));
        return (raw / power) switch { <= 1 => 1, <= 2 => 2, <= 2.5 => 2.5, <= 5 => 5, _ => 10 } * power;
    }
}
