// Memory for the activation tape in a temporary file: pages behind the block at work leave the process, and come back when the backward sweep asks for
// them. Deliberately not: what lies where in it (the forward pass lays its tape).
using System.IO.MemoryMappedFiles;
using IptNative.Model.Checkpoints;
using Microsoft.Win32.SafeHandles;

namespace IptNative.Model.Blocks;

/// <summary>A mapped file that grows to the largest tape seen. It has no name any more once it is open, so that nothing is left behind however the process ends.</summary>
internal sealed unsafe class SpillFile(string folder) : IDisposable
{
    private MemoryMappedFile? _map;
    private MemoryMappedViewAccessor? _view;
    private byte* _start;

    /// <summary>Bytes of the file.</summary>
    public long Length { get; private set; }

    /// <summary>Room for so many bytes; contents are lost when it grows.</summary>
    /// <param name="bytes">1 or more.</param>
    /// <returns>The first one's address.</returns>
    /// <exception cref="IOException">The folder cannot be written, or the disk is too full: asked before, and taken at once.</exception>
    public nint Take(long bytes)
    {
        if (bytes <= Length)
            return (nint)_start;
        Release();
        SafeFileHandle handle = Open(folder, bytes);
        try
        {
            _map = MemoryMappedFile.CreateFromFile(handle, null, bytes, MemoryMappedFileAccess.ReadWrite, HandleInheritability.None, leaveOpen: false);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
        _view = _map.CreateViewAccessor(0, bytes, MemoryMappedFileAccess.ReadWrite);
        byte* start = null;
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
        _start = start + _view.PointerOffset;
        Length = bytes;
        return (nint)_start;
    }

    /// <summary>Refuses to start what the disk cannot hold.</summary>
    /// <param name="folder">For the message.</param>
    /// <param name="needed">Bytes.</param>
    /// <param name="free">Bytes.</param>
    /// <exception cref="IOException">Too little is free.</exception>
    internal static void RequireFreeSpace(string folder, long needed, long free) =>
        DiskSpace.Require(folder, "spilling the activation tape", needed, free, "choose a folder on another disk, or keep less: --activations blocks.");

    public void Dispose() => Release();

    private static SafeFileHandle Open(string folder, long bytes)
    {
        if (!Directory.Exists(folder))
            throw new DirectoryNotFoundException($"{folder}: spilling the activation tape; there is no such folder. Make it, or choose another.");
        RequireFreeSpace(folder, bytes, new DriveInfo(Path.GetFullPath(folder)).AvailableFreeSpace);
        string path = Path.Combine(folder, $"iptnative-tape-{Environment.ProcessId}-{Guid.NewGuid():N}");
        // Preallocated: a disk that fills up later cannot take pages away from under a computation, which would end the process.
        SafeFileHandle handle = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, OperatingSystem.IsWindows() ? FileOptions.DeleteOnClose : FileOptions.None, preallocationSize: bytes);
        if (!OperatingSystem.IsWindows())
            File.Delete(path);
        return handle;
    }

    private void Release()
    {
        if (_start is not null)
            _view!.SafeMemoryMappedViewHandle.ReleasePointer();
        _start = null;
        Length = 0;
        _view?.Dispose();
        _map?.Dispose();
        (_view, _map) = (null, null);
    }
}

/// <summary>One stack's tape in a spill file: which bytes are which block's, and which blocks are in memory.</summary>
internal sealed class SpilledBlocks
{
    private readonly List<(nint Address, long Bytes)> _blocks = [];
    private int _current = -1;

    /// <summary>Begins anew, with so many bytes a block from an address on.</summary>
    public void Lay(nint start, long bytesPerBlock, int blocks)
    {
        Leave();
        _blocks.Clear();
        for (int i = 0; i < blocks; i++)
            _blocks.Add((start + (nint)(i * bytesPerBlock), bytesPerBlock));
    }

    /// <summary>A block computes: the one before leaves the process, the next is read ahead.</summary>
    /// <param name="block">The block.</param>
    /// <param name="next">The one that will be read after it; -1 for none.</param>
    public void Enter(int block, int next)
    {
        if (_current != block)
            Leave();
        _current = block;
        if (next >= 0)
            FilePages.ReadAhead(_blocks[next].Address, _blocks[next].Bytes);
    }

    /// <summary>The stack is done for now.</summary>
    public void Leave()
    {
        if (_current >= 0)
            FilePages.Forget(_blocks[_current].Address, _blocks[_current].Bytes);
        _current = -1;
    }
}
