// Stored codes with scales, expanded while packing: no expanded copy of a weight ever exists. Deliberately not: making codes from floats.
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Ops;

/// <summary>Signed 8-bit codes, each times the scale of its row's block: exactly the float32 that expanding beforehand gives.</summary>
/// <param name="codes">The stored matrix.</param>
/// <param name="scales">Scales, row by row.</param>
/// <param name="ld">Codes from row to row.</param>
/// <param name="scalesPerRow">Scales from row to row.</param>
/// <param name="blockShift">Binary logarithm of the block; 63: one scale a row.</param>
internal readonly unsafe struct Int8Source(sbyte* codes, float* scales, long ld, long scalesPerRow, int blockShift) : IPackSource<Int8Source>
{
    /// <summary>B of a product, validated.</summary>
    public static Int8Source OfB(in GemmArgs args) =>
        new((sbyte*)args.B.Address, (float*)args.ScalesB.Address, args.StepB, args.ScalesPerRow, args.BlockB == 0 ? 63 : BitOperations.Log2((uint)args.BlockB));

    // Batch entries share a quantised operand: GemmArgs.Validate.
    public Int8Source At(long elements) => this;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public V Load<V>(long row, long column)
        where V : unmanaged, ISimd<V> => V.LoadI8(codes + row * ld + column) * V.Broadcast(scales[row * scalesPerRow + (column >> blockShift)]);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Prefetch(long row, long column)
    {
        if (Sse.IsSupported)
            Sse.Prefetch0(codes + row * ld + column);
    }
}
