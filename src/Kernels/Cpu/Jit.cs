// How the loops that do the arithmetic are compiled.
using System.Runtime.CompilerServices;

namespace IptNative.Kernels.Cpu;

/// <summary>Options for <see cref="MethodImplAttribute"/>.</summary>
internal static class Jit
{
    /// <summary>A loop over vectors: compiled at full optimisation at once, and never drawn into its caller.</summary>
    /// <remarks>
    /// The first because an unoptimised wrapped vector is some forty times slower. The second because the compiler's budget for inlining belongs to the outermost
    /// method and grows with that one's own length: drawn into a short caller, half of a loop's vector operations became calls (gated GELU: a third of the speed).
    /// </remarks>
    public const MethodImplOptions Loop = MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining;
}
