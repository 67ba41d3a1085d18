// Writes a file so that a reader sees the old one or the whole new one, never a part. Deliberately not: locking between writers.
using System.Runtime.InteropServices;

namespace IptNative.Model.Checkpoints;

/// <summary>Files that appear whole or not at all.</summary>
public static partial class AtomicFile
{
    /// <summary>Writes to a temporary name in the same folder, flushes it to the disk, renames it over <paramref name="path"/> and flushes the folder.</summary>
    /// <param name="path">The file to make or replace; its folder exists.</param>
    /// <param name="write">Writes the contents; what it throws leaves <paramref name="path"/> as it was and no temporary file behind.</param>
    /// <exception cref="IOException">The folder is missing or cannot be written.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        string temporary = $"{path}.{Environment.ProcessId}.{Guid.NewGuid():N}.tmp";
        try
        {
            using (var stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }
            File.Move(temporary, path, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
        FlushFolder(Path.GetDirectoryName(Path.GetFullPath(path))!); // a full path of a file has a folder
    }

    /// <summary>Removes what a process that was killed inside <see cref="Write"/> left in a folder; only while nobody else writes there.</summary>
    /// <param name="folder">The folder; a missing one has nothing to remove.</param>
    public static void RemoveLeftovers(string folder)
    {
        if (!Directory.Exists(folder))
            return;
        foreach (string file in Directory.EnumerateFiles(folder, "*.tmp"))
        {
            // name.pid.guid.tmp, and nothing else that ends so.
            string[] parts = Path.GetFileName(file).Split('.');
            if (parts.Length >= 4 && int.TryParse(parts[^3], out _) && Guid.TryParseExact(parts[^2], "N", out _))
                File.Delete(file);
        }
    }

    // Without this a power cut may undo the rename: the file's bytes are on the disk, the folder's entry is not. .NET opens no folders. A file
    // system that cannot flush a folder (network, FUSE) has its own rules for renames, so a refusal is no failure of the write.
    private static void FlushFolder(string folder)
    {
        if (OperatingSystem.IsWindows())
            return;
        int descriptor = Open(folder, 0);
        if (descriptor < 0)
            return;
        _ = Fsync(descriptor);
        _ = Close(descriptor);
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync")]
    private static partial int Fsync(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);
}
