// One process at a time writes a run folder. The lock is the kernel's and dies with its process, so kill -9 leaves nothing to clean up.
using System.Globalization;
using System.Text;

namespace IptNative.Tuning.Runs;

/// <summary>An exclusive lock on a folder, as long as it is not disposed.</summary>
internal sealed class RunLock : IDisposable
{
    public const string FileName = "lock";
    private const int MaxHolderBytes = 200;

    private readonly FileStream _file;

    private RunLock(FileStream file) => _file = file;

    /// <summary>Takes the lock.</summary>
    /// <exception cref="IOException">Another process has it; the message says which.</exception>
    public static RunLock Take(string folder)
    {
        string path = Path.Combine(folder, FileName);
        FileStream file;
        try
        {
            file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (IOException e) when (File.Exists(path))
        {
            throw new IOException($"{folder}: opening the run folder; {Holder(path)} is writing it, expected nobody. Wait until that run ends, or give this one another 'output'.", e);
        }
        // For whoever finds the folder locked.
        file.SetLength(0);
        file.Write(Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"process {Environment.ProcessId} on {Environment.MachineName}")));
        file.Flush();
        return new RunLock(file);
    }

    public void Dispose() => _file.Dispose();

    private static string Holder(string path)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
            Span<byte> bytes = stackalloc byte[MaxHolderBytes];
            int read = file.ReadAtLeast(bytes, MaxHolderBytes, throwOnEndOfStream: false);
            if (read > 0)
                return Encoding.ASCII.GetString(bytes[..read]);
        }
        catch (IOException)
        {
            // Windows lets nobody read a locked file.
            return "another process";
        }
        return "another process";
    }
}
