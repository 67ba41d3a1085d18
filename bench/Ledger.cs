// The ledger bench/results.csv: one figure a row, appended only. Deliberately no reading of it and no comparison: that is for people and diffs.
using System.Diagnostics;
using System.Globalization;

namespace IptNative.Bench;

/// <summary>Collects figures and appends them at the end, so that a benchmark that fails leaves nothing.</summary>
internal sealed class Ledger(BenchOptions options)
{
    private const string Head = "commit,date,device,bench,shape,settings,metric,value,unit";
    private readonly List<string> _rows = [];

    /// <summary>The repository's root.</summary>
    public static string Root { get; } = FindRoot();

    public void Add(string shape, string settings, string metric, double value, string unit)
    {
        string date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture);
        string[] fields = [Commit.Value, date, $"{Device.Value} {options.Threads} threads", options.Bench, shape, settings, metric, value.ToString("G5", CultureInfo.InvariantCulture), unit];
        _rows.Add(string.Join(',', fields.Select(f => f.Contains(',') ? $"\"{f}\"" : f)));
    }

    public void Write()
    {
        if (!options.ToLedger || _rows.Count == 0)
            return;
        string file = Path.Combine(Root, "bench", "results.csv");
        bool isNew = !File.Exists(file);
        using var writer = new StreamWriter(file, append: true) { NewLine = "\n" };
        if (isNew)
            writer.WriteLine(Head);
        foreach (string row in _rows)
            writer.WriteLine(row);
        Console.WriteLine($"{_rows.Count} rows appended to {file}");
    }

    private static readonly Lazy<string> Commit = new(() =>
    {
        (string commit, _) = Git("rev-parse", "--short", "HEAD");
        // The ledger itself and other papers may differ.
        return Git("diff", "--quiet", "HEAD", "--", "src", "eng").ExitCode == 0 ? commit : $"{commit}-dirty";
    });

    private static readonly Lazy<string> Device = new(() =>
    {
        const string Key = "model name";
        string? line = File.Exists("/proc/cpuinfo") ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith(Key, StringComparison.Ordinal)) : null;
        string name = line is null ? System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture.ToString() : line[(line.IndexOf(':') + 1)..].Trim();
        string vectors = System.Runtime.Intrinsics.Vector512.IsHardwareAccelerated ? "AVX-512" : System.Runtime.Intrinsics.Vector256.IsHardwareAccelerated ? "256-bit" : "128-bit";
        return $"{name} {vectors}";
    });

    private static (string Output, int ExitCode) Git(params string[] arguments)
    {
        var start = new ProcessStartInfo("git", arguments) { WorkingDirectory = Root, RedirectStandardOutput = true };
        using Process git = Process.Start(start) ?? throw new InvalidOperationException("git: found no process, expected git on PATH. Install git or leave out --ledger.");
        string output = git.StandardOutput.ReadToEnd().Trim();
        git.WaitForExit();
        return (output, git.ExitCode);
    }

    private static string FindRoot()
    {
        for (string? dir = AppContext.BaseDirectory; dir is not null; dir = Path.GetDirectoryName(dir))
        {
            if (File.Exists(Path.Combine(dir, "IptNative.sln")))
                return dir;
        }
        throw new InvalidOperationException($"Looking for IptNative.sln above {AppContext.BaseDirectory}: found none. Run the benchmark from a build inside the repository.");
    }
}
