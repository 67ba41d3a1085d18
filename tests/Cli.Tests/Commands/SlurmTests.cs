using System.Diagnostics;
using Xunit;

namespace IptNative.Cli.Tests.Commands;

/// <summary>tests/Slurm/check.sh, where it is asked for: a node is lost in the middle of a sweep, and the table is that of a local run. Minutes, most of them Slurm's own timers.</summary>
public sealed class SlurmTests
{
    // Its own waits are minutes on a machine that does other things; a hang must not outlast them.
    private const int LimitMs = 1_200_000;
    private const int NotHere = 77;

    [Fact]
    public async Task ASweepThroughARealSlurmEqualsTheLocalOne()
    {
        if (OperatingSystem.IsWindows())
            Assert.Skip("there is no Slurm for Windows");
        if (Environment.GetEnvironmentVariable("IPTNATIVE_TEST_SLURM") != "1")
            Assert.Skip("takes minutes of Slurm's own timers: set IPTNATIVE_TEST_SLURM=1, or run tests/Slurm/check.sh");
        string[] words = [Path.Combine(CliProgram.Root, "tests", "Slurm", "check.sh"), Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", Path.Combine(AppContext.BaseDirectory, "iptnative.dll")];
        using Process process = Process.Start(new ProcessStartInfo("bash", words) { RedirectStandardOutput = true, RedirectStandardError = true })!; // a process is always started: UseShellExecute is off
        Task<string> output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        if (!process.WaitForExit(LimitMs))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"the check did not end within {LimitMs} ms");
        }
        string said = await output;
        if (process.ExitCode == NotHere)
            Assert.Skip(said.Trim());
        Assert.True(process.ExitCode == 0, $"{said}\n{await error}");
        Assert.Contains("equal: the table, and every prompt to the last bit", said, StringComparison.Ordinal);
    }
}
