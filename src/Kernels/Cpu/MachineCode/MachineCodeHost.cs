// What decides whether machine code may run here: processor, system, the user's word. Asked once; tests make their own answers.
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace IptNative.Kernels.Cpu;

/// <summary>The facts that the gate looks at.</summary>
/// <param name="IsLinuxX64">The code uses Linux' calling convention; Windows keeps xmm6 to xmm15 for the caller, macOS wants other page calls.</param>
/// <param name="HasAvx512">AVX-512 F and BW, usable: the runtime has asked the processor, and by XGETBV whether the system saves the registers.</param>
/// <param name="HasBF16">CPUID leaf 7, subleaf 1, EAX bit 5.</param>
/// <param name="Setting">The environment variable, null where it is not set.</param>
/// <param name="Pages">Where executable memory comes from.</param>
internal sealed record MachineCodeHost(bool IsLinuxX64, bool HasAvx512, bool HasBF16, string? Setting, IPageSystem Pages)
{
    public const string Variable = "IPTNATIVE_MACHINE_CODE";
    private const int BF16Bit = 5;

    /// <summary>This process' own.</summary>
    public static MachineCodeHost Ask()
    {
        bool linuxX64 = OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == Architecture.X64;
        return new(linuxX64, Avx512F.IsSupported && Avx512BW.IsSupported, linuxX64 && ProcessorHasBF16(), Environment.GetEnvironmentVariable(Variable), new LinuxPages());
    }

    /// <summary>Why not, or null.</summary>
    public string? Obstacle() => (Setting?.Trim().ToLowerInvariant()) switch
    {
        "off" => $"{Variable} is off",
        not (null or "" or "on") => $"{Variable} is '{Setting}', expected on or off",
        _ when !IsLinuxX64 => "the code is for Linux on x86-64",
        _ when !HasAvx512 => "the processor or the system has no AVX-512 F and BW, or .NET was told not to use it",
        _ when !HasBF16 => "the processor has no AVX512-BF16",
        _ => null,
    };

    private static bool ProcessorHasBF16() =>
        X86Base.IsSupported && X86Base.CpuId(0, 0).Eax >= 7 && X86Base.CpuId(7, 0).Eax >= 1 && (X86Base.CpuId(7, 1).Eax >> BF16Bit & 1) != 0;
}
