// Which of an example's gold answers a step trains on. Deliberately a pure function: a run that is continued draws what it would have drawn.
namespace IptNative.Tuning.Data;

/// <summary>What a target is where an example has several gold answers.</summary>
public enum TrainedAnswers
{
    /// <summary>One of them, drawn anew whenever the example is met.</summary>
    Drawn,

    /// <summary>The first one, always.</summary>
    First,
}

/// <summary>Draws answers.</summary>
/// <remarks>Source: CrossFit and IPT draw one answer at random per epoch (their data loaders); T5's SQuAD takes the first, of which its training split has one.</remarks>
internal static class AnswerDraw
{
    /// <summary>An answer's number.</summary>
    /// <param name="which">How it is chosen.</param>
    /// <param name="answers">How many there are.</param>
    /// <param name="seed">The run's.</param>
    /// <param name="batch">The batch's number in the run.</param>
    /// <param name="example">The example's number.</param>
    public static int Of(TrainedAnswers which, int answers, int seed, long batch, int example)
    {
        if (answers == 1 || which == TrainedAnswers.First)
            return 0;
        // SplitMix64's finaliser (Steele, Lea and Flood 2014) over the three numbers: every bit of them reaches every bit of the draw.
        ulong x = Mix(Mix(Mix((uint)seed) + (ulong)batch) + (uint)example);
        return (int)(((UInt128)x * (uint)answers) >> 64);
    }

    private static ulong Mix(ulong x)
    {
        x += 0x9E3779B97F4A7C15;
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
        return x ^ (x >> 31);
    }
}
