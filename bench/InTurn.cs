// Several ways of doing the same work, each once in every round: whatever else the machine does, it does to all of them.
using System.Diagnostics;

namespace IptNative.Bench;

/// <summary>Times of one way, in the order of the rounds.</summary>
/// <param name="Cpu">Seconds of all threads.</param>
/// <param name="Clock">Seconds by the clock.</param>
internal readonly record struct TurnTimes(double[] Cpu, double[] Clock);

internal static class InTurn
{
    /// <summary>Does everything once untimed, which takes memory and compiles, then in rounds.</summary>
    public static TurnTimes[] Time(int rounds, params Action[] ways) => Time(rounds, untimed: 1, ways);

    /// <summary>The same after so many untimed rounds.</summary>
    public static TurnTimes[] Time(int rounds, int untimed, Action[] ways)
    {
        TurnTimes[] times = [.. ways.Select(_ => new TurnTimes(new double[rounds], new double[rounds]))];
        using var process = Process.GetCurrentProcess();
        for (int round = -untimed; round < rounds; round++)
        {
            for (int i = 0; i < ways.Length; i++)
            {
                process.Refresh();
                double cpu = process.TotalProcessorTime.TotalSeconds;
                long begin = Stopwatch.GetTimestamp();
                ways[i]();
                double clock = Stopwatch.GetElapsedTime(begin).TotalSeconds;
                process.Refresh();
                if (round >= 0)
                    (times[i].Clock[round], times[i].Cpu[round]) = (clock, process.TotalProcessorTime.TotalSeconds - cpu);
            }
        }
        return times;
    }

    public static double Median(double[] values) => Summary.At([.. values.Order()], 0.5);

    /// <summary>The fifth that was disturbed least.</summary>
    public static double Best(double[] values) => Summary.At([.. values.Order()], 0.2);

    /// <summary>The median of the rounds' ratios.</summary>
    public static double Ratio(double[] of, double[] to) => Median([.. of.Zip(to).Select(p => p.First / p.Second)]);
}
