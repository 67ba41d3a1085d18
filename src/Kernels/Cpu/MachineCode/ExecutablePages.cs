// A few pages of memory that hold machine code: written first, executable afterwards, never both at the same time.
using System.Runtime.InteropServices;

namespace IptNative.Kernels.Cpu;

/// <summary>What the operating system is asked for; tests let it say no.</summary>
internal interface IPageSystem
{
    /// <summary>New private memory, readable and writable.</summary>
    /// <returns>The address, or null and the system's reason.</returns>
    nint Map(long bytes, out string reason);

    /// <summary>Takes writing away and gives executing.</summary>
    /// <returns>False and the system's reason where it is denied.</returns>
    bool MakeExecutable(nint address, long bytes, out string reason);

    /// <summary>Gives the memory back.</summary>
    void Unmap(nint address, long bytes);
}

/// <summary>mmap, mprotect, munmap of Linux.</summary>
internal sealed partial class LinuxPages : IPageSystem
{
    // The values of Linux on x86-64.
    private const int Read = 1, Write = 2, Execute = 4;
    private const int PrivateAnonymous = 0x22;

    public nint Map(long bytes, out string reason)
    {
        nint address = MapMemory(0, (nuint)bytes, Read | Write, PrivateAnonymous, -1, 0);
        reason = address == -1 ? Reason() : "";
        return address == -1 ? 0 : address;
    }

    public bool MakeExecutable(nint address, long bytes, out string reason)
    {
        bool done = Protect(address, (nuint)bytes, Read | Execute) == 0;
        reason = done ? "" : Reason();
        return done;
    }

    public void Unmap(nint address, long bytes) => _ = UnmapMemory(address, (nuint)bytes);

    private static string Reason() => $"{Marshal.GetLastPInvokeErrorMessage()} (errno {Marshal.GetLastPInvokeError()})";

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial nint MapMemory(nint address, nuint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", EntryPoint = "mprotect", SetLastError = true)]
    private static partial int Protect(nint address, nuint length, int protection);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    private static partial int UnmapMemory(nint address, nuint length);
}

/// <summary>Code that may be called until it is disposed of.</summary>
internal sealed unsafe class ExecutablePages : IDisposable
{
    private readonly IPageSystem _system;
    private readonly long _bytes;
    private nint _address;

    private ExecutablePages(IPageSystem system, nint address, long bytes)
    {
        _system = system;
        _address = address;
        _bytes = bytes;
    }

    ~ExecutablePages() => Free();

    public nint Address => _address;

    /// <summary>What lies there now.</summary>
    public ReadOnlySpan<byte> Content => new((void*)_address, (int)_bytes);

    /// <summary>Copies the code to memory of its own and makes that executable.</summary>
    /// <returns>Null and the reason where the system does not allow it.</returns>
    public static ExecutablePages? Load(IPageSystem system, ReadOnlySpan<byte> code, out string reason)
    {
        nint address = system.Map(code.Length, out reason);
        if (address == 0)
        {
            reason = $"mapping {code.Length} bytes failed: {reason}";
            return null;
        }
        var pages = new ExecutablePages(system, address, code.Length);
        code.CopyTo(new Span<byte>((void*)address, code.Length));
        if (system.MakeExecutable(address, code.Length, out reason))
            return pages;
        reason = $"making {code.Length} bytes executable was denied: {reason}";
        pages.Dispose();
        return null;
    }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        nint held = Interlocked.Exchange(ref _address, 0);
        if (held != 0)
            _system.Unmap(held, _bytes);
    }
}
