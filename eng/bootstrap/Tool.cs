// Runs dotnet, npm and the tests as child processes with a time limit; their output is kept, not shown.
// Deliberately no shell: arguments are passed as they are.
using System.ComponentModel;
using System.Diagnostics;
using System.Text;

namespace IptNative.Bootstrap;

/// <summary>How a child process ended: its exit code, its output (both streams), and whether it ran out of time.</summary>
internal sealed record ToolResult(int ExitCode, string Output, bool TimedOut)
{
    public bool Ok => ExitCode == 0 && !TimedOut;
    public IEnumerable<string> Lines => Output.Split('\n').Select(line => line.TrimEnd('\r'));
}

internal static class Tool
{
    /// <summary>Runs a program to its end. Null where there is no such program on the search path.</summary>
    public static ToolResult? TryRun(string program, string[] arguments, string folder, TimeSpan limit, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(program)
        {
            WorkingDirectory = folder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        if (House.IsWindows && program == "npm")
        {
            // npm is a command file there, which only the command interpreter starts.
            start.FileName = "cmd.exe";
            start.ArgumentList.Add("/c");
            start.ArgumentList.Add("npm");
        }
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        start.Environment["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1";
        start.Environment["DOTNET_NOLOGO"] = "1";
        start.Environment["DOTNET_CLI_UI_LANGUAGE"] = "en";
        // Build nodes that stay behind would hold memory on a machine that is about to train.
        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        foreach ((string name, string value) in environment)
            start.Environment[name] = value;

        using var process = new Process { StartInfo = start };
        var output = new StringBuilder();
        void Append(object _, DataReceivedEventArgs line)
        {
            lock (output)
            {
                if (line.Data is not null)
                    output.Append(line.Data).Append('\n');
            }
        }
        process.OutputDataReceived += Append;
        process.ErrorDataReceived += Append;
        try
        {
            process.Start();
        }
        catch (Win32Exception)
        {
            return null;
        }
        process.StandardInput.Close();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        bool ended = process.WaitForExit(limit);
        if (!ended)
        {
            process.Kill(entireProcessTree: true);
            process.WaitForExit();
        }
        else
        {
            // The call with a limit returns before the last lines are read. A grandchild that holds the pipe must not hold us.
            process.WaitForExitAsync().Wait(TimeSpan.FromSeconds(5));
        }
        lock (output)
            return new ToolResult(process.ExitCode, output.ToString(), !ended);
    }

    /// <summary>Runs dotnet, which is there because it runs us.</summary>
    public static ToolResult Dotnet(string[] arguments, string folder, TimeSpan limit, params (string Name, string Value)[] environment) =>
        TryRun(Environment.ProcessPath ?? "dotnet", arguments, folder, limit, environment)
        ?? throw new BootstrapException("dotnet was not found on PATH. Install the .NET SDK 10 and try again.");

    /// <summary>Builds a project or the solution; where it fails, shows the errors and throws.</summary>
    public static void Build(House house, string what, params string[] properties)
    {
        ToolResult result = Dotnet(["build", what, "-c", "Release", "-v", "q", "-nologo", "-tl:off", .. properties], house.Root, TimeSpan.FromMinutes(20));
        string log = Log(house, "build", result);
        if (result.Ok)
            return;
        string[] errors = [.. result.Lines.Where(line => line.Contains(": error ", StringComparison.Ordinal)).Distinct()];
        foreach (string error in errors.Take(20))
            Console.Error.WriteLine(error);
        throw new BootstrapException(result.TimedOut
            ? $"building {what} took longer than 20 minutes and was stopped; see {log}."
            : $"building {what} failed with {errors.Length} errors; mend what is listed above (all of it: {log}).");
    }

    /// <summary>Keeps a child's output under artifacts/logs.</summary>
    /// <returns>The path of the log, relative to the repository.</returns>
    public static string Log(House house, string name, ToolResult result)
    {
        Directory.CreateDirectory(house.Logs);
        string path = Path.Combine(house.Logs, name + ".log");
        File.WriteAllText(path, result.Output);
        return Path.GetRelativePath(house.Root, path);
    }
}
