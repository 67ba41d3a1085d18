// Runs a command to its end and says how long it took, by the clock and in CPU time. By bash's `time`, since .NET tells no CPU time of an ended process.
using System.Diagnostics;
using System.Globalization;

namespace IptNative.Bench;

/// <summary>How long a command took.</summary>
/// <param name="Seconds">By the clock.</param>
/// <param name="CpuSeconds">Of the process and its children, all threads.</param>
internal readonly record struct ChildTime(double Seconds, double CpuSeconds);

internal static class ChildProcess
{
    /// <summary>Runs it in the repository's root, without input; its output is thrown away.</summary>
    /// <param name="command">For bash.</param>
    public static ChildTime Run(string command)
    {
        var start = new ProcessStartInfo("bash", ["-c", $"TIMEFORMAT='%R %U %S'; time {{ {command}; }} </dev/null >/dev/null 2>/dev/null; exit $?"]) { WorkingDirectory = Ledger.Root, RedirectStandardError = true };
        using Process child = Process.Start(start) ?? throw new InvalidOperationException($"{command}: found no process, expected bash to start it.");
        string times = child.StandardError.ReadToEnd();
        child.WaitForExit();
        if (child.ExitCode != 0)
            throw new InvalidOperationException($"{command}: ended with {child.ExitCode}, expected 0. Run it by hand to see why.");
        double[] t = [.. times.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Select(x => double.Parse(x, CultureInfo.InvariantCulture))];
        return new ChildTime(t[0], t[1] + t[2]);
    }

    /// <summary>The medians of several runs.</summary>
    public static ChildTime Median(int repeats, string command)
    {
        ChildTime[] times = [.. Enumerable.Range(0, repeats).Select(_ => Run(command))];
        return new ChildTime(Summary.At([.. times.Select(t => t.Seconds).Order()], 0.5), Summary.At([.. times.Select(t => t.CpuSeconds).Order()], 0.5));
    }
}
