// Builds the program into a folder of its own under artifacts/app, compiled ahead of time where the compiler is at hand.
// Each build gets a new folder: a run that is going on for hours keeps the files it started with.
using System.Diagnostics;

namespace IptNative.Bootstrap;

internal static class AppBuilder
{
    private static readonly string ExeName = House.IsWindows ? "iptnative.exe" : "iptnative";

    /// <summary>Leaves artifacts/app/current naming the folder of an up-to-date build.</summary>
    public static int Prepare(House house)
    {
        using FileStream gate = house.Lock();
        if (IsFresh(house))
            return 0;
        PackageResolution.Ensure(house);
        // The stamp gets the time from before the build, so that an edit made meanwhile is built by the next start.
        DateTime started = DateTime.UtcNow;
        House.Say("building (once after each change of the sources)");
        // Who runs the program waits for it; the analyzers take a third of the build and run in ./test, which compiles again for them.
        Tool.Build(house, Path.Combine("src", "Cli", "Cli.csproj"), "-p:RunAnalyzers=false");

        Directory.CreateDirectory(house.Apps);
        string name = started.ToString("yyyyMMdd-HHmmss-fff");
        string temporary = Path.Combine(house.Apps, name + ".tmp");
        Assemble(house, Path.Combine(house.Artifacts, "bin", "Cli", "release"), temporary);
        Directory.Move(temporary, Path.Combine(house.Apps, name));
        string stamp = Path.Combine(house.Apps, "current");
        File.WriteAllText(stamp + ".tmp", name + "\n");
        File.SetLastWriteTimeUtc(stamp + ".tmp", started);
        File.Move(stamp + ".tmp", stamp, overwrite: true);
        RemoveOld(house, name);
        return 0;
    }

    /// <summary>Whether nothing that the program is built from is newer than the last build. The shell wrapper asks the same of find(1).</summary>
    private static bool IsFresh(House house)
    {
        string stamp = Path.Combine(house.Apps, "current");
        if (!File.Exists(stamp) || !File.Exists(Path.Combine(house.Apps, File.ReadAllText(stamp).Trim(), ExeName)))
            return false;
        DateTime built = File.GetLastWriteTimeUtc(stamp);
        IEnumerable<string> sources = Directory.EnumerateFiles(house.Root, "Directory.*").Append(Path.Combine(house.Root, "global.json"));
        foreach (string folder in (string[])["src", "eng"])
            sources = sources.Append(Path.Combine(house.Root, folder))
                .Concat(Directory.EnumerateFileSystemEntries(Path.Combine(house.Root, folder), "*", SearchOption.AllDirectories));
        // A folder's time changes when a file is added or removed. The restore may rewrite lock files after the stamp's time.
        return !sources.Any(path => !path.EndsWith(".lock.json", StringComparison.Ordinal) && File.GetLastWriteTimeUtc(path) > built);
    }

    private static void Assemble(House house, string from, string to)
    {
        string compiler = PackageResolution.Read(house, "AheadOfTimeCompiler");
        bool ahead = compiler.Length > 0 && File.Exists(compiler);
        if (!ahead)
            House.Say("no ahead-of-time compiler on the NuGet sources: the program works, but starts some tenths of a second slower");
        string compiled = Path.Combine(house.Artifacts, "obj", "Cli", "ahead-of-time");
        Directory.CreateDirectory(compiled);

        var assemblies = new List<(string Source, string Target)>();
        foreach (string source in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
        {
            string target = Path.Combine(to, Path.GetRelativePath(from, source));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!); // not null: the path lies under a folder
            if (ahead && Path.GetDirectoryName(source) == from && source.EndsWith(".dll", StringComparison.Ordinal))
                assemblies.Add((source, target));
            else if (!source.EndsWith(".xml", StringComparison.Ordinal))
                LinkOrCopy(source, target);
        }
        string[] references = ["-r", Path.Combine(Path.GetDirectoryName(typeof(object).Assembly.Location) ?? "", "*.dll"), "-r", Path.Combine(from, "*.dll")];
        Parallel.ForEach(assemblies, assembly =>
        {
            string image = Path.Combine(compiled, Path.GetFileName(assembly.Source));
            if (!File.Exists(image) || File.GetLastWriteTimeUtc(image) <= File.GetLastWriteTimeUtc(assembly.Source) || File.GetLastWriteTimeUtc(image) <= File.GetLastWriteTimeUtc(compiler))
            {
                ToolResult result = Tool.TryRun(compiler, [assembly.Source, "-o", image + ".tmp", .. references, "-O", "--targetos", House.Rid.Split('-')[0], "--targetarch", House.Rid.Split('-')[1]],
                    house.Root, TimeSpan.FromMinutes(5)) ?? new ToolResult(1, "the compiler does not start", false);
                if (!result.Ok)
                {
                    string log = Tool.Log(house, "ahead-of-time-" + Path.GetFileName(assembly.Source), result);
                    House.Say($"{Path.GetFileName(assembly.Source)} was not compiled ahead of time (see {log}); it works, but starts slower");
                    LinkOrCopy(assembly.Source, assembly.Target);
                    return;
                }
                File.Move(image + ".tmp", image, overwrite: true);
            }
            LinkOrCopy(image, assembly.Target);
        });
    }

    /// <summary>Copies small files; the native library of 28 MB is one file under two names where the system allows it.</summary>
    private static void LinkOrCopy(string source, string target)
    {
        const long WorthLinking = 4 << 20;
        if (!House.IsWindows && new FileInfo(source).Length >= WorthLinking
            && Tool.TryRun("ln", [source, target], Path.GetTempPath(), TimeSpan.FromSeconds(10)) is { Ok: true })
            return;
        File.Copy(source, target);
    }

    private static void RemoveOld(House house, string current)
    {
        HashSet<string> running = [];
        foreach (Process process in Process.GetProcessesByName("iptnative"))
        {
            using (process)
            {
                try
                {
                    running.Add(Path.GetDirectoryName(process.MainModule?.FileName) ?? "");
                }
                catch (Exception e) when (e is System.ComponentModel.Win32Exception or InvalidOperationException)
                {
                    // It has just ended, or belongs to another user, who runs another checkout's files or readable ones of ours:
                    // then no folder can be called unused.
                    return;
                }
            }
        }
        foreach (string folder in Directory.GetDirectories(house.Apps))
        {
            if (Path.GetFileName(folder) != current && !running.Contains(folder))
                Directory.Delete(folder, recursive: true);
        }
    }
}
