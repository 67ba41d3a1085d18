// Whether bf16 products run on machine code, and if not, why: for `doctor` and for the one line that a bf16 run prints.
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Devices;

/// <summary>What became of the machine code for <see cref="ComputeType.BF16"/>.</summary>
/// <param name="IsActive">True where it passed its self-test and is used; false where the managed kernels do its work.</param>
/// <param name="Detail">One sentence without a full stop: what runs, and why not the other.</param>
public sealed record MachineCodeStatus(bool IsActive, string Detail)
{
    /// <summary>This process' own; the first call loads and tests the code (half a millisecond, and ten of just-in-time compilation).</summary>
    public static MachineCodeStatus Current => BF16Kernels.Shared.Status;
}
