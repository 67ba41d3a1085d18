// Learning rate by step. Deliberately not: anything that looks at losses.
namespace IptNative.Optimizers;

/// <summary>What happens to the rate after the warm-up.</summary>
public enum ScheduleShape
{
    /// <summary>It stays.</summary>
    Constant,

    /// <summary>It falls on a straight line, to 0 at the last step.</summary>
    Linear,
}

/// <summary>Linear warm-up from 0, then constant or linear decay, as transformers' get_constant_schedule_with_warmup and get_linear_schedule_with_warmup.</summary>
/// <param name="Shape">After the warm-up.</param>
/// <param name="BaseRate">The highest rate, 0 or more.</param>
/// <param name="WarmupSteps">0 or more; need not be whole: the code of IPT warms up for 0.06 times the steps, unrounded.</param>
/// <param name="TotalSteps">Steps of the run, at least 1; only the linear shape reads it.</param>
public readonly record struct LearningRateSchedule(ScheduleShape Shape, double BaseRate, double WarmupSteps, long TotalSteps)
{
    /// <summary>The rate of a step.</summary>
    /// <param name="step">0 for the first.</param>
    /// <returns>0 to <see cref="BaseRate"/>; 0 after the last step of a linear schedule.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A negative step.</exception>
    public double At(long step)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(step);
        if (step < WarmupSteps)
            return BaseRate * (step / Math.Max(1, WarmupSteps));
        return Shape == ScheduleShape.Constant ? BaseRate : BaseRate * Math.Max(0, (TotalSteps - step) / Math.Max(1, TotalSteps - WarmupSteps));
    }

    /// <summary>Throws unless the numbers make a schedule.</summary>
    /// <exception cref="ArgumentException">A number is out of its range; the message names it.</exception>
    public void Validate()
    {
        if (!(BaseRate >= 0 && double.IsFinite(BaseRate)))
            throw new ArgumentException($"LearningRateSchedule: {nameof(BaseRate)} is {BaseRate}, expected a finite number, 0 or more.");
        if (!(WarmupSteps >= 0 && double.IsFinite(WarmupSteps)))
            throw new ArgumentException($"LearningRateSchedule: {nameof(WarmupSteps)} is {WarmupSteps}, expected a finite number, 0 or more.");
        if (Shape == ScheduleShape.Linear && !(TotalSteps >= 1 && WarmupSteps <= TotalSteps))
            throw new ArgumentException($"LearningRateSchedule: {nameof(TotalSteps)} is {TotalSteps} with {WarmupSteps} steps of warm-up, expected 1 or more, and no fewer than those.");
    }
}
