// A read-only memory map that cannot be read outside its bounds. Deliberately not: any format, any copy.
using System.IO.MemoryMappedFiles;
using Microsoft.Win32.SafeHandles;

namespace IptNative.Model.Checkpoints;

/// <summary>A whole file mapped for reading, with 64-bit offsets; remembers what the file was when it was opened.</summary>
internal sealed unsafe class MappedFile : IDisposable
{
    private readonly MemoryMappedFile? _map;
    private readonly SafeMemoryMappedViewHandle? _handle;
    private readonly MemoryMappedViewAccessor? _view;
    private readonly byte* _start;
    private readonly DateTime _modifiedUtc;
    private readonly SafeFileHandle? _file;
    private bool _disposed;

    /// <summary>Maps a file; an empty one has no pages and length 0.</summary>
    /// <exception cref="IOException">The file is missing or cannot be opened.</exception>
    public MappedFile(string path)
    {
        Path = path;
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0);
        try
        {
            // The length is taken from the open file, not from the folder: it cannot belong to another file of that name.
            Length = stream.Length;
            _modifiedUtc = File.GetLastWriteTimeUtc(stream.SafeFileHandle);
            if (Length == 0)
            {
                stream.Dispose();
                return;
            }
            _file = stream.SafeFileHandle;
            _map = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
            _view = _map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
            _handle = _view.SafeMemoryMappedViewHandle;
            byte* start = null;
            _handle.AcquirePointer(ref start);
            _start = start + _view.PointerOffset;
        }
        catch
        {
            _view?.Dispose();
            _map?.Dispose();
            stream.Dispose();
            throw;
        }
    }

    /// <summary>The file as it was named.</summary>
    public string Path { get; }

    /// <summary>Bytes.</summary>
    public long Length { get; }

    /// <summary>True where the name now holds another length or time than the file that was mapped: it was rewritten or replaced.</summary>
    public bool HasChanged()
    {
        var now = new FileInfo(Path);
        return !now.Exists || now.Length != Length || now.LastWriteTimeUtc != _modifiedUtc;
    }

    /// <summary>Refuses to go on with a file that was truncated or written to: its missing pages would end the process, its new ones are another model's.</summary>
    /// <exception cref="IOException">It was.</exception>
    public void RequireUnchanged()
    {
        if (_file is null)
            return;
        long length = RandomAccess.GetLength(_file);
        if (length != Length)
            throw new IOException($"{Path}: reading weights; the file has {length} bytes, it had {Length} when it was opened. Something truncated or rewrote it while it was in use: export or copy it again and start anew.");
        if (File.GetLastWriteTimeUtc(_file) != _modifiedUtc)
            throw new IOException($"{Path}: reading weights; the file was written to since it was opened. Export or copy it again and start anew.");
    }

    /// <summary>Whether a range of memory is this file's.</summary>
    public bool Contains(nint address, long bytes) => !_disposed && address >= (nint)_start && address - (nint)_start <= Length - bytes;

    /// <summary>Gives a range's pages back; they are read again from the file when they are touched again.</summary>
    public void Forget(long offset, long length)
    {
        if (!_disposed && length > 0)
            FilePages.Forget((nint)(_start + offset), length);
    }

    /// <summary>The address of a range.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="what">Named in the message.</param>
    /// <exception cref="InvalidDataException">The range leaves the file.</exception>
    /// <exception cref="ObjectDisposedException">The map is gone.</exception>
    public nint Address(long offset, long length, string what)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (offset < 0 || length < 0 || offset > Length - length)
            throw new InvalidDataException($"{Path}: reading {what}; it takes {length} bytes from byte {offset}, the file has {Length}. The file is truncated or damaged: copy or download it again.");
        return (nint)(_start + offset);
    }

    /// <summary>The bytes of a range of less than 2 GB.</summary>
    /// <exception cref="InvalidDataException">The range leaves the file.</exception>
    public ReadOnlySpan<byte> Span(long offset, int length, string what) => new((void*)Address(offset, length, what), length);

    /// <summary>Up to <paramref name="length"/> bytes from <paramref name="offset"/>, fewer at the end of the file.</summary>
    public ReadOnlySpan<byte> Prefix(long offset, int length) => Span(offset, (int)Math.Min(length, Math.Max(0, Length - offset)), "the first bytes");

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _handle?.ReleasePointer();
        _view?.Dispose();
        _map?.Dispose();
    }
}
