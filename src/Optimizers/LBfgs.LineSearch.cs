// The line search of L-BFGS: a step that fulfils the strong Wolfe conditions, or the best that lowers the loss.
namespace IptNative.Optimizers;

public sealed partial class LBfgs
{
    // A step may grow tenfold at most before the next look.
    private const double Growth = 10;

    // True where the last line search left a better point in _trial.
    private bool _found;

    /// <summary>Looks along the direction; each yield evaluates a step.</summary>
    private IEnumerable<bool> LineSearch(double[] from, double start, double slope, double length)
    {
        var origin = new Step(0, start, slope);
        Step low = origin, previous = origin;
        Step? high = null;
        Step? best = null;
        double[] bestPoint = new double[Dimension], bestGradient = new double[Dimension];
        double noise = _options.LossNoise * Math.Abs(start);
        _found = false;
        for (int look = 0; look < _options.MaxLineSearch; look++)
        {
            for (int i = 0; i < Dimension; i++)
                _trial[i] = from[i] + length * _direction[i];
            yield return true;
            var at = new Step(length, _trialLoss, double.IsFinite(_trialLoss) ? Dot(_trialGradient, _direction) : double.PositiveInfinity);
            if (at.Loss < start && !(at.Loss >= best?.Loss))
            {
                best = at;
                _trial.CopyTo(bestPoint, 0);
                _trialGradient.CopyTo(bestGradient, 0);
            }
            // Until there is an upper end, low is the last step looked at.
            bool rises = at.Loss > start + _options.Decrease * length * slope + noise || ((low.Length > 0 || high is not null) && at.Loss >= low.Loss + noise);
            if (!rises && Math.Abs(at.Slope) <= -_options.Curvature * slope)
            {
                // Noise may have let a rise through: such a point is taken only where it is no worse.
                _found = at.Loss <= start;
                break;
            }
            if (rises)
                high = at;
            else if (high is null)
                (low, high) = at.Slope >= 0 ? (at, low) : (at, high);
            else
                (low, high) = at.Slope * (high.Value.Length - low.Length) >= 0 ? (at, low) : (at, high);
            double next = high is { } h ? Between(low, h) : Beyond(previous, at);
            if (!double.IsFinite(next) || next == length || (high is { } end && Math.Abs(end.Length - low.Length) <= 1e-14 * Math.Max(end.Length, low.Length)))
                break;
            (previous, length) = (at, next);
        }
        if (!_found && best is { } b)
        {
            // No Wolfe point, but a lower one: enough to go on.
            bestPoint.CopyTo(_trial, 0);
            bestGradient.CopyTo(_trialGradient, 0);
            (_trialLoss, _found) = (b.Loss, true);
        }
    }

    // The minimum of the cubic through both ends, kept off them; halfway where there is no cubic (an infinite loss) or no minimum.
    private static double Between(in Step a, in Step b)
    {
        double width = b.Length - a.Length, middle = a.Length + width / 2;
        double at = Cubic(a, b);
        double margin = 0.1 * Math.Abs(width);
        double least = Math.Min(a.Length, b.Length) + margin, most = Math.Max(a.Length, b.Length) - margin;
        return double.IsFinite(at) ? Math.Clamp(at, least, most) : middle;
    }

    private static double Beyond(in Step previous, in Step at)
    {
        double least = at.Length + 0.01 * (at.Length - previous.Length), most = at.Length * Growth;
        double next = Cubic(previous, at);
        return double.IsFinite(next) && next > at.Length ? Math.Clamp(next, least, most) : 2 * at.Length;
    }

    // Nocedal and Wright, equation 3.59.
    private static double Cubic(in Step a, in Step b)
    {
        double d1 = a.Slope + b.Slope - 3 * (a.Loss - b.Loss) / (a.Length - b.Length);
        double square = d1 * d1 - a.Slope * b.Slope;
        if (!(square >= 0) || !double.IsFinite(square))
            return double.NaN;
        double d2 = Math.CopySign(Math.Sqrt(square), b.Length - a.Length);
        return b.Length - (b.Length - a.Length) * ((b.Slope + d2 - d1) / (b.Slope - a.Slope + 2 * d2));
    }

    private readonly record struct Step(double Length, double Loss, double Slope);
}
