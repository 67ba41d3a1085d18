// Fetches ONNX Runtime (C# sources and this system's native library) from the npm registry, where NuGet has no package of it.
// Deliberately keeps 29 MB of the package's 385: no other system's library, no scripts run, nothing installed.
using System.Text.Json;

namespace IptNative.Bootstrap;

internal static class NpmOnnxRuntime
{
    private const string Package = "com.github.asus4.onnxruntime";

    private static readonly Dictionary<string, string> PluginFolders = new()
    {
        ["linux-x64"] = "Linux/x64",
        ["win-x64"] = "Windows/x64",
        ["win-arm64"] = "Windows/arm64",
        ["osx-arm64"] = "macOS/arm64",
    };

    /// <summary>Leaves a complete .deps/onnxruntime of the pinned version.</summary>
    public static void Ensure(House house)
    {
        (string version, string integrity) = Pin(house);
        string marker = Path.Combine(house.OnnxRuntime, ".complete");
        string wanted = $"{Package} {version} {House.Rid} {integrity}\n";
        if (File.Exists(marker) && File.ReadAllText(marker) == wanted)
            return;
        if (!PluginFolders.TryGetValue(House.Rid, out string? plugins))
            throw new BootstrapException($"ONNX Runtime: Microsoft.ML.OnnxRuntime 1.29 could not be had from the configured NuGet sources, and the npm package {Package} {version} has no native library for {House.Rid} (it has {string.Join(", ", PluginFolders.Keys)}). Configure a NuGet source that has it, or use one of those systems.");

        House.Say($"fetching ONNX Runtime from the npm registry ({Package} {version}; 29 MB are kept)");
        using var temporary = new TemporaryFolder(house);
        string folder = temporary.Path;
        foreach (string name in (string[])["package.json", "package-lock.json", ".npmrc"])
            File.Copy(Path.Combine(house.Root, "eng", "npm", name), Path.Combine(folder, name));
        ToolResult result = Tool.TryRun("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder, TimeSpan.FromMinutes(10))
            ?? throw new BootstrapException("ONNX Runtime: Microsoft.ML.OnnxRuntime 1.29 could not be had from the configured NuGet sources, and npm, its other road, was not found on PATH. Install Node.js with npm, or configure a NuGet source that has it.");
        string source = Path.Combine(folder, "node_modules", Package);
        if (!result.Ok || !Directory.Exists(source))
        {
            string log = Tool.Log(house, "npm", result);
            string found = result.TimedOut ? "took longer than 10 minutes" : $"ended with exit code {result.ExitCode}";
            string reason = result.Lines.FirstOrDefault(line => line.StartsWith("npm error", StringComparison.Ordinal)) ?? "no reason given";
            throw new BootstrapException($"ONNX Runtime: 'npm ci' of {Package} {version} {found} ({reason}; all of it: {log}). Check the network and npm's registry (npm config get registry), then try again; nothing half-made was left behind.");
        }

        string kept = Path.Combine(folder, "kept");
        Keep(Path.Combine(source, "Runtime"), Path.Combine(kept, "Runtime"), file => file.EndsWith(".cs", StringComparison.Ordinal));
        Keep(Path.Combine(source, "Plugins", plugins), Path.Combine(kept, "native", House.Rid), file => !file.EndsWith(".meta", StringComparison.Ordinal));
        foreach (string name in (string[])["LICENSE", "ThirdPartyNotices.txt"])
            File.Move(Path.Combine(source, name), Path.Combine(kept, name));
        File.WriteAllText(Path.Combine(kept, ".complete"), wanted);
        if (Directory.Exists(house.OnnxRuntime))
            Directory.Delete(house.OnnxRuntime, recursive: true);
        Directory.Move(kept, house.OnnxRuntime);
    }

    private static (string Version, string Integrity) Pin(House house)
    {
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(house.NpmLock));
        JsonElement entry = json.RootElement.GetProperty("packages").GetProperty("node_modules/" + Package);
        string Text(string name) => entry.GetProperty(name).GetString()
            ?? throw new BootstrapException($"{house.NpmLock}: {Package} has no {name}. Restore the file: git checkout eng/npm");
        return (Text("version"), Text("integrity"));
    }

    private static void Keep(string from, string to, Func<string, bool> wanted)
    {
        foreach (string file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories).Where(wanted))
        {
            string target = Path.Combine(to, Path.GetRelativePath(from, file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!); // not null: the path lies under a folder
            File.Move(file, target);
        }
    }
}
