// Runs the program as a user's shell does: a process with its own streams, so that pipes, signals and exit codes are the real ones.
using System.Diagnostics;
using System.Globalization;
using System.IO.Pipes;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using Xunit;

namespace IptNative.Cli.Tests;

/// <summary>What a run printed and returned.</summary>
internal sealed record CliRun(int Code, string Output, string Error)
{
    public string[] Lines => Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    /// <summary>Checks the exit code, and that a failure printed nothing as a result and no stack.</summary>
    /// <param name="code">Expected.</param>
    /// <param name="afterNotes">A run tells about its tasks before it finds what is wrong with them: then the message is a line further down.</param>
    public CliRun Returned(int code, bool afterNotes = false)
    {
        Assert.True(Code == code, $"exit code {Code}, expected {code}\n{Output}\n{Error}");
        Assert.DoesNotContain("   at ", Error, StringComparison.Ordinal);
        if (code != 0 && afterNotes)
            Assert.Contains(Error.Split('\n'), line => line.StartsWith("iptnative: ", StringComparison.Ordinal));
        else if (code != 0)
            Assert.StartsWith("iptnative: ", Error, StringComparison.Ordinal);
        return this;
    }

    /// <summary>Checks that the message says something.</summary>
    public CliRun Says(string text)
    {
        Assert.Contains(text, Error, StringComparison.Ordinal);
        return this;
    }
}

internal static partial class CliProgram
{
    // Far above what any of these commands takes, on a machine that others use too; a hang must not outlast it.
    private const int LimitMs = 600_000;

    public static string Root { get; } = FindRoot();

    public static string Model { get; } = Path.Combine(Root, "models", "t5-gym-tiny");

    public static string Fixture { get; } = Path.Combine(Root, "tests", "Goldens", "t5v11");

    public static CliRun Run(params string[] args) => Run("", args);

    public static CliRun Run(string input, string[] args)
    {
        using Process process = Start(args);
        Task<string> output = process.StandardOutput.ReadToEndAsync(), error = process.StandardError.ReadToEndAsync();
        process.StandardInput.Write(input);
        process.StandardInput.Close();
        return Ended(process, output, error);
    }

    public static Process Start(params string[] args) => StartAssembly(Path.Combine(AppContext.BaseDirectory, "iptnative.dll"), args);

    public static Process StartAssembly(string assembly, params string[] args)
    {
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", [assembly, .. args])
        {
            WorkingDirectory = Root,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardInputEncoding = new UTF8Encoding(false),
            StandardOutputEncoding = Encoding.UTF8,
            StandardErrorEncoding = Encoding.UTF8,
        };
        return Process.Start(start)!; // a process is always started: UseShellExecute is off
    }

    /// <summary>Makes the pipe of what a program says as short as the system allows (Linux: a page; elsewhere it stays): it waits when nobody reads.</summary>
    public static void ShortenErrorPipe(Process process)
    {
        const int SetPipeSize = 1031; // F_SETPIPE_SZ
        if (OperatingSystem.IsLinux())
            Assert.Equal(4096, Control((int)((PipeStream)process.StandardError.BaseStream).SafePipeHandle.DangerousGetHandle(), SetPipeSize, 4096));
    }

    public static CliRun Ended(Process process, Task<string> output, Task<string> error)
    {
        if (!process.WaitForExit(LimitMs))
        {
            process.Kill();
            Assert.Fail($"the program did not end within {LimitMs} ms");
        }
        return new CliRun(process.ExitCode, output.GetAwaiter().GetResult(), WithoutProgress().Replace(error.GetAwaiter().GetResult(), ""));
    }

    /// <summary>Lets programs that are started from now on hear SIGINT. A shell makes what it starts in the background ignore it, and whoever ignores a signal hands that down.</summary>
    public static void HearInterrupts()
    {
        const int Interrupt = 2;
        const nint Default = 0;
        if (!OperatingSystem.IsLinux())
            return;
        string ignored = File.ReadLines("/proc/self/status").Single(l => l.StartsWith("SigIgn:", StringComparison.Ordinal))["SigIgn:".Length..];
        if ((ulong.Parse(ignored, NumberStyles.HexNumber | NumberStyles.AllowLeadingWhite, CultureInfo.InvariantCulture) >> (Interrupt - 1) & 1) != 0)
            _ = Signal(Interrupt, Default);
    }

    [LibraryImport("libc", EntryPoint = "signal")]
    private static partial nint Signal(int signal, nint handler);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int Control(int descriptor, int command, int value);

    // "generating: 0:00:02", "evaluating: 21 %, 0:00:07 left 64 of 300 answers": a busy machine takes over two seconds for anything, and then says so.
    [GeneratedRegex(@"^(?:ipt|[a-z]+ing): [^\n]*\d:\d\d:\d\d[^\n]*\n", RegexOptions.Multiline | RegexOptions.CultureInvariant)]
    internal static partial Regex WithoutProgress();

    private static string FindRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder!, "IptNative.sln")))
            folder = Path.GetDirectoryName(folder);
        return folder!;
    }
}
