// A file that only grows, whose length a checkpoint remembers: what was written after the checkpoint is cut off when the run goes on.
namespace IptNative.Tuning.Runs;

/// <summary>Appends to a file at a known offset.</summary>
internal sealed class AppendedFile : IDisposable
{
    private readonly FileStream _stream;

    /// <summary>Opens a file and cuts it back.</summary>
    /// <param name="path">Made where it is missing; its folder exists.</param>
    /// <param name="offset">Bytes to keep.</param>
    /// <exception cref="InvalidDataException">The file is shorter than that: it was changed by somebody else.</exception>
    /// <exception cref="IOException">The file cannot be opened.</exception>
    public AppendedFile(string path, long offset)
    {
        Path = path;
        // No buffer: a line is written by one call, and 'tail -f' shows it at once. Others may read.
        _stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read, bufferSize: 0);
        try
        {
            if (_stream.Length < offset)
                throw new InvalidDataException($"{path}: going on with a run; the file has {_stream.Length} bytes, its checkpoint was written when it had {offset}. It was cut or replaced since: put it back, or start the run in another folder.");
            _stream.SetLength(offset);
            _stream.Position = offset;
        }
        catch
        {
            _stream.Dispose();
            throw;
        }
    }

    public string Path { get; }

    /// <summary>Bytes so far.</summary>
    public long Offset => _stream.Position;

    /// <summary>Appends; allocates nothing.</summary>
    /// <exception cref="IOException">The disk is full or gone.</exception>
    public void Append(ReadOnlySpan<byte> bytes)
    {
        try
        {
            _stream.Write(bytes);
        }
        catch (IOException e)
        {
            throw new IOException($"{Path}: appending {bytes.Length} bytes; {e.Message.TrimEnd('.')}. The last checkpoint is whole: make room, then go on with --resume.", e);
        }
    }

    /// <summary>Waits until everything is on the disk, so that a checkpoint may name the offset.</summary>
    public void Flush() => _stream.Flush(flushToDisk: true);

    public void Dispose() => _stream.Dispose();
}
