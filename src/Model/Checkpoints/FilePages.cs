// What the system is told about pages of mapped files: which will be needed, which are needed now, which no longer. Deliberately not: whose pages, or when.
using System.Runtime.InteropServices;

namespace IptNative.Model.Checkpoints;

/// <summary>Advice on mapped file pages. Elsewhere than on Linux the system is left to itself.</summary>
internal static partial class FilePages
{
    private const int WillNeed = 3;
    private const int DontNeed = 4;
    private const int PopulateRead = 22;
    private const int InvalidArgument = 22;
    private const int Fault = 14;

    /// <summary>Whether advice is taken.</summary>
    public static bool IsSupported => OperatingSystem.IsLinux();

    /// <summary>Starts reading a range from the disk and returns.</summary>
    public static void ReadAhead(nint address, long bytes) => Advise(address, bytes, WillNeed);

    /// <summary>Reads a range and makes it part of the process' memory, so that computing with it waits for nothing.</summary>
    /// <returns>False where the file no longer has these pages; touching them would end the process.</returns>
    public static bool Read(nint address, long bytes)
    {
        int error = Advise(address, bytes, PopulateRead);
        // Linux before 5.14 does not know the advice: pages then come one by one as they are touched.
        return error is 0 or InvalidArgument || error != Fault;
    }

    /// <summary>Takes a range out of the process' memory. Only for file pages: others would lose their contents.</summary>
    public static void Forget(nint address, long bytes) => Advise(address, bytes, DontNeed);

    private static int Advise(nint address, long bytes, int advice)
    {
        if (!IsSupported || bytes <= 0)
            return 0;
        nint page = Environment.SystemPageSize, first = address / page * page;
        return Madvise(first, (nuint)(address + (nint)bytes - first), advice) == 0 ? 0 : Marshal.GetLastPInvokeError();
    }

    [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
    private static partial int Madvise(nint address, nuint length, int advice);
}
