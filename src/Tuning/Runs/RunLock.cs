// One process at a time writes a run folder. The lock is the kernel's and dies with its process, so kill -9 leaves nothing to clean up.
using System.Globalization;

namespace IptNative.Tuning.Runs;

/// <summary>An exclusive lock on a folder, as long as it is not disposed.</summary>
internal sealed class RunLock : IDisposable
{
    private const string FileName = "lock";

    // Beside the lock: nobody can read a locked file.
    private const string OwnerName = "lock.owner";

    private readonly FileStream _file;

    private RunLock(FileStream file) => _file = file;

    /// <summary>Takes the lock.</summary>
    /// <param name="folder">What is locked.</param>
    /// <param name="doing">What for, in the message to those who come second.</param>
    /// <param name="advice">What they can do.</param>
    /// <exception cref="IOException">Another process has it; the message says which.</exception>
    public static RunLock Take(string folder, string doing = "opening the run folder", string advice = "Wait until that run ends, or give this one another 'output'")
    {
        string path = Path.Combine(folder, FileName);
        FileStream file;
        try
        {
            file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (IOException e) when (File.Exists(path))
        {
            throw new IOException($"{folder}: {doing}; {Owner(folder)} is writing it, expected nobody. {advice}.", e);
        }
        try
        {
            // For whoever finds the folder locked.
            File.WriteAllText(Path.Combine(folder, OwnerName), string.Create(CultureInfo.InvariantCulture, $"process {Environment.ProcessId} on {Environment.MachineName}"));
        }
        catch
        {
            file.Dispose();
            throw;
        }
        return new RunLock(file);
    }

    /// <summary>Whether a file is one of the lock's.</summary>
    public static bool IsOwn(string name) => name is FileName or OwnerName;

    public void Dispose() => _file.Dispose();

    private static string Owner(string folder)
    {
        string path = Path.Combine(folder, OwnerName);
        return File.Exists(path) && new FileInfo(path).Length is > 0 and < 1000 ? File.ReadAllText(path) : "another process";
    }
}
