// The places in the repository that the bootstrap reads and writes, and the lock that keeps two starts apart.
// Everything written lies under artifacts/ and .deps/, besides eng/resolved.props; all of it git-ignored.
using System.Runtime.InteropServices;

namespace IptNative.Bootstrap;

internal sealed class House(string root)
{
    public string Root { get; } = Path.GetFullPath(root);
    public string Artifacts => Path.Combine(Root, "artifacts");
    public string Apps => Path.Combine(Artifacts, "app");
    public string Logs => Path.Combine(Artifacts, "logs");
    public string Deps => Path.Combine(Root, ".deps");
    public string OnnxRuntime => Path.Combine(Deps, "onnxruntime");
    public string NpmLock => Path.Combine(Root, "eng", "npm", "package-lock.json");
    public string ResolvedProps => Path.Combine(Root, "eng", "resolved.props");

    public static bool IsWindows => OperatingSystem.IsWindows();

    /// <summary>The portable runtime identifier of this machine, e.g. linux-x64.</summary>
    public static string Rid { get; } =
        (IsWindows ? "win" : OperatingSystem.IsMacOS() ? "osx" : "linux")
        + "-" + RuntimeInformation.OSArchitecture.ToString().ToLowerInvariant();

    public static void Say(string line) => Console.Error.WriteLine("iptnative: " + line);

    /// <summary>Whether a source of the bootstrap program changed after it was built.</summary>
    public bool IsNewerThan(string program) =>
        Directory.EnumerateFiles(Path.Combine(Root, "eng", "bootstrap")).Append(Path.Combine(Root, "Directory.Build.props"))
            .Any(file => File.GetLastWriteTimeUtc(file) > File.GetLastWriteTimeUtc(program));

    /// <summary>One bootstrap or build at a time; the system drops the lock with the process, however it ends.</summary>
    public FileStream Lock() => Lock("bootstrap.lock", "another bootstrap or build");

    /// <summary>One test run at a time: reports, logs and some tests' folders lie under artifacts/. Held beside the other lock, so that a run of tests keeps nobody from the program.</summary>
    public FileStream LockTests() => Lock("test.lock", "another ./test");

    private FileStream Lock(string file, string holder)
    {
        Directory.CreateDirectory(Artifacts);
        string path = Path.Combine(Artifacts, file);
        bool said = false;
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (File.Exists(path))
            {
                // There is no portable way to wait for a file lock; a build takes seconds, so this is fine.
                if (!said)
                    Say($"waiting for {holder} in this folder");
                said = true;
                Thread.Sleep(200);
            }
        }
    }

    /// <summary>Writes a file whole or not at all, and not at all when nothing changed: its time decides what is rebuilt.</summary>
    public static void WriteAtomically(string path, string text)
    {
        if (File.Exists(path) && File.ReadAllText(path) == text)
            return;
        string temporary = path + ".tmp";
        File.WriteAllText(temporary, text);
        File.Move(temporary, path, overwrite: true);
    }
}

/// <summary>An empty folder beside the final place, so that a rename completes it. Leftovers of killed runs go first; call with the lock held.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    public TemporaryFolder(House house)
    {
        Directory.CreateDirectory(house.Deps);
        foreach (string old in Directory.GetDirectories(house.Deps, "tmp.*"))
            Directory.Delete(old, recursive: true);
        Path = System.IO.Path.Combine(house.Deps, "tmp." + Environment.ProcessId);
        Directory.CreateDirectory(Path);
    }

    public string Path { get; }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
