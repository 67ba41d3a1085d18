// What becomes of the process when a mapped page cannot be read any more: a message and an exit code in place of a dump.
// Deliberately no recovery: what the page held is gone, and whoever asked for it is in the middle of a sum.
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace IptNative.Kernels.Cpu;

/// <summary>Ends the process in words when another program truncates a file under a computation that reads it, or its disk fails.</summary>
/// <remarks>
/// The model's files are looked at before every pass. Between two looks the system can only send SIGBUS to the thread that touches the page.
/// .NET takes it for a wild pointer and aborts with a stack. No C# may run in a signal's handler (the runtime may be anywhere, in a collection too), so the handler is a few
/// machine instructions that make two system calls: write and exit_group. Written for Linux on x86-64; elsewhere, and where a system allows no page of
/// code, it stays the abort. Source: Linux signal-safety(7), syscall(2); Intel 64 SDM, volume 2.
/// </remarks>
public static unsafe partial class LostPages
{
    private const int BusError = 7;
    private const ulong WithInfo = 4, OnOwnStack = 0x0800_0000;

    // struct sigaction of glibc and musl on x86-64: handler, 128 bytes of mask, flags, restorer.
    private const int ActionBytes = 152, FlagsAt = 136;

    // Reachable for ever, so that no finalizer unmaps it.
    private static readonly List<ExecutablePages> Installed = [];

    /// <summary>From now on a lost page prints a message and ends the process.</summary>
    /// <param name="message">Printed on standard error, as it is.</param>
    /// <param name="exitCode">0 to 255.</param>
    /// <returns>False where this system has no such way; nothing is changed then.</returns>
    public static bool EndWith(string message, int exitCode)
    {
        ArgumentNullException.ThrowIfNull(message);
        ArgumentOutOfRangeException.ThrowIfNegative(exitCode);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(exitCode, 255);
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
            return false;
        byte[] text = Encoding.UTF8.GetBytes(message);
        // The flag that only the first of several threads finds at 0. Neither it nor the code is ever given back: a signal may come at any time.
        nint flag = (nint)NativeMemory.AllocZeroed(sizeof(int));
        if (ExecutablePages.Load(new LinuxPages(), Handler(flag, text, exitCode), out _) is not { } code)
            return false;
        Installed.Add(code);
        Span<byte> action = stackalloc byte[ActionBytes];
        action.Clear();
        BinaryPrimitives.WriteInt64LittleEndian(action, code.Address);
        BinaryPrimitives.WriteUInt64LittleEndian(action[FlagsAt..], WithInfo | OnOwnStack);
        fixed (byte* a = action)
            return SetAction(BusError, a, null) == 0;
    }

    private static byte[] Handler(nint flag, byte[] text, int exitCode)
    {
        byte[] code =
        [
            0xB9, 1, 0, 0, 0,               //  0  mov ecx, 1
            0x48, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, //  5  mov rax, flag
            0x87, 0x08,                     // 15  xchg [rax], ecx
            0x85, 0xC9,                     // 17  test ecx, ecx
            0x74, 9,                        // 19  jz 30
            0xB8, 34, 0, 0, 0,              // 21  mov eax, pause: the first thread ends this one
            0x0F, 0x05,                     // 26  syscall
            0xEB, 0xF7,                     // 28  jmp 21
            0xBF, 2, 0, 0, 0,               // 30  mov edi, 2
            0x48, 0x8D, 0x35, 31, 0, 0, 0,  // 35  lea rsi, [73]
            0xBA, 0, 0, 0, 0,               // 42  mov edx, length
            0xB8, 1, 0, 0, 0,               // 47  mov eax, write
            0x0F, 0x05,                     // 52  syscall
            0xBF, 0, 0, 0, 0,               // 54  mov edi, exit code
            0xB8, 231, 0, 0, 0,             // 59  mov eax, exit_group
            0x0F, 0x05,                     // 64  syscall
            0x0F, 0x0B, 0x0F, 0x0B, 0x0F, 0x0B, 0x90, // 66  never reached
        ];
        BinaryPrimitives.WriteInt64LittleEndian(code.AsSpan(7), flag);
        BinaryPrimitives.WriteInt32LittleEndian(code.AsSpan(43), text.Length);
        BinaryPrimitives.WriteInt32LittleEndian(code.AsSpan(55), exitCode);
        return [.. code, .. text];
    }

    [LibraryImport("libc", EntryPoint = "sigaction", SetLastError = true)]
    private static partial int SetAction(int signal, byte* action, byte* former);
}
