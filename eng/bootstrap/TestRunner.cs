// ./test: builds everything, runs every test project, prints failures and counts. The last line is `N passed, N failed, N skipped`.
// A project that crashes or hangs is a failure; one without tests is neither passed nor failed.
using System.Diagnostics;
using System.Text.Json;

namespace IptNative.Bootstrap;

internal static class TestRunner
{
    // Failures are named again at the very end: whoever sees only the last lines of a log learns what to look for.
    private sealed record Count(int Passed, int Failed, int Skipped, params string[] Failures);

    public static int Run(House house, string[] arguments)
    {
        bool all = arguments.Contains("--all");
        string[] filters = [.. arguments.Where(argument => argument != "--all")];
        string[] projects = [.. Directory.GetDirectories(Path.Combine(house.Root, "tests"), "*.Tests").Select(folder => Path.GetFileName(folder)).Order(StringComparer.Ordinal)];
        string[] chosen = [.. projects.Where(project => filters.Length == 0 || filters.Any(filter => project.Contains(filter, StringComparison.OrdinalIgnoreCase)))];
        foreach (string filter in filters.Where(filter => !projects.Any(project => project.Contains(filter, StringComparison.OrdinalIgnoreCase))))
        {
            Console.Error.WriteLine($"test: '{filter}' is neither --all nor part of a test project's name. Projects: {string.Join(", ", projects)}.");
            return 2;
        }

        using FileStream only = house.LockTests();
        var total = new Count(0, 0, 0);
        try
        {
            using FileStream gate = house.Lock();
            PackageResolution.Ensure(house);
            House.Say("building the tests");
            foreach (string what in filters.Length == 0 ? ["IptNative.sln"] : chosen.Select(project => Path.Combine("tests", project, project + ".csproj")))
                Tool.Build(house, what);
        }
        catch (BootstrapException e)
        {
            Console.Error.WriteLine("iptnative: " + e.Message);
            return Close(new Count(0, 1, 0));
        }

        foreach (string project in chosen)
        {
            total = Add(total, RunProject(house, project, project, all));
            // The kernels have vector paths per instruction set: once more on the path that every machine has.
            if (project == "Kernels.Tests")
                total = Add(total, RunProject(house, project, project + " without hardware intrinsics", all, ("DOTNET_EnableHWIntrinsic", "0")));
        }
        if (all)
            total = Add(total, CheckFormat(house));
        if (total is { Passed: 0, Failed: 0 })
        {
            Console.WriteLine("No test ran.");
            total = total with { Failed = 1 };
        }
        return Close(total);
    }

    private static int Close(Count total)
    {
        const int MostNames = 20;
        foreach (string test in total.Failures.Take(MostNames))
            Console.WriteLine("FAILED: " + test);
        if (total.Failures.Length > MostNames)
            Console.WriteLine($"FAILED: {total.Failures.Length - MostNames} more");
        Console.WriteLine($"{total.Passed} passed, {total.Failed} failed, {total.Skipped} skipped");
        return total.Failed == 0 ? 0 : 1;
    }

    private static Count Add(Count a, Count b) => new(a.Passed + b.Passed, a.Failed + b.Failed, a.Skipped + b.Skipped, [.. a.Failures, .. b.Failures]);

    private static Count RunProject(House house, string project, string title, bool all, params (string, string)[] environment)
    {
        Directory.CreateDirectory(house.Logs);
        string name = title.Replace(' ', '-');
        string report = Path.Combine(house.Logs, name + ".json");
        File.Delete(report);
        TimeSpan limit = TimeSpan.FromMinutes(all ? 60 : 20);
        var watch = Stopwatch.StartNew();
        ToolResult result = Tool.Dotnet(
            [Path.Combine(house.Artifacts, "bin", project, "release", $"IptNative.{project}.dll"), "-noColor", "-noLogo", "-noAutoReporters", "-reporter", "quiet", "-ctrf", report],
            house.Root, limit, [.. environment, ("IPTNATIVE_TEST_ALL", all ? "1" : "0")]);
        string seconds = $"{watch.Elapsed.TotalSeconds:0.0} s";
        string log = Tool.Log(house, name, result);

        if (result.TimedOut || !File.Exists(report))
        {
            Console.Write(Tail(result));
            Console.WriteLine(result.TimedOut
                ? $"{title}: HUNG, stopped after {limit.TotalMinutes:0} minutes ({log})"
                : $"{title}: CRASHED with exit code {result.ExitCode} after {seconds} ({log})");
            return new Count(0, 1, 0);
        }
        (Count count, string[] skipped) = ReadReport(report);
        if (count is { Passed: 0, Failed: 0, Skipped: 0 } && result.ExitCode == 0)
        {
            Console.WriteLine($"{title}: no tests");
            return count;
        }
        // The runner also fails for what is not one test's failure, such as an error in a class's clean-up.
        if (count.Failed == 0 && result.ExitCode != 0)
            count = count with { Failed = 1 };
        if (count.Failed > 0)
            Console.Write(Tail(result));
        foreach (string test in skipped)
            Console.WriteLine("  skipped: " + test);
        Console.WriteLine($"{title}: {count.Passed} passed, {count.Failed} failed, {count.Skipped} skipped ({seconds})");
        return count;
    }

    /// <summary>The end of the output: a thousand failing cases would bury the summary, and the log has them all.</summary>
    private static string Tail(ToolResult result)
    {
        const int MostLines = 400;
        string[] lines = [.. result.Lines];
        return lines.Length <= MostLines
            ? result.Output
            : string.Join('\n', lines[..MostLines]) + $"\n... {lines.Length - MostLines} more lines in the log\n";
    }

    private static (Count Count, string[] Skipped) ReadReport(string path)
    {
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(path));
        JsonElement results = json.RootElement.GetProperty("results");
        JsonElement summary = results.GetProperty("summary");
        int Number(string name) => summary.TryGetProperty(name, out JsonElement value) ? value.GetInt32() : 0;
        return (new Count(Number("passed"), Number("failed") + Number("other"), Number("skipped"), Named("failed")), Named("skipped"));

        string[] Named(string status) => [.. results.GetProperty("tests").EnumerateArray()
            .Where(test => test.GetProperty("status").GetString() == status)
            .Select(test => $"{test.GetProperty("name").GetString()}{(test.TryGetProperty("message", out JsonElement reason) ? ": " + reason.GetString() : "")}")];
    }

    /// <summary>--all only: the sources are formatted as .editorconfig says.</summary>
    private static Count CheckFormat(House house)
    {
        ToolResult result = Tool.Dotnet(["format", "whitespace", "IptNative.sln", "--verify-no-changes", "--no-restore"], house.Root, TimeSpan.FromMinutes(10));
        string log = Tool.Log(house, "format", result);
        Console.Write(result.Ok ? "" : Tail(result));
        Console.WriteLine(result.Ok ? "format: as .editorconfig says" : $"format: FAILED ({log}); mend with: dotnet format IptNative.sln");
        return new Count(0, result.Ok ? 0 : 1, 0);
    }
}
