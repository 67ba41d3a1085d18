// Writes a file so that a reader sees the old one or the whole new one, never a part. Deliberately not: locking between writers.
namespace IptNative.Model.Checkpoints;

/// <summary>Files that appear whole or not at all.</summary>
public static class AtomicFile
{
    /// <summary>Writes to a temporary name in the same folder, flushes it to the disk, then renames it over <paramref name="path"/>.</summary>
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
    }
}
