// What the kernel says of this process's memory.
namespace IptNative.Bench;

internal static class ProcessMemory
{
    /// <summary>Memory that no file backs; NaN where the system does not say.</summary>
    public static double AnonymousMiB() => Status("RssAnon:");

    /// <summary>The most memory that was ever resident, mapped files included.</summary>
    public static double PeakMiB() => Status("VmHWM:");

    private static double Status(string key)
    {
        if (!File.Exists("/proc/self/status"))
            return double.NaN;
        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith(key, StringComparison.Ordinal));
        return double.Parse(line[key.Length..].Replace("kB", "", StringComparison.Ordinal)) / 1024;
    }
}
