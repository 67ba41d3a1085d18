// How rows are shared out where a warp does one.
using ILGPU;

namespace IptNative.Kernels.Gpu;

/// <summary>One warp a row.</summary>
internal static class GpuRows
{
    /// <summary>Groups that give every row a warp, as far as that helps.</summary>
    public static int WarpGroups(IlgpuDevice gpu, long rows)
    {
        int warps = gpu.Threads / gpu.WarpSize;
        return gpu.Groups((rows + warps - 1) / warps);
    }

    /// <summary>16-byte pieces of a row; 0 where rows do not begin at multiples of 16 bytes.</summary>
    public static long Quads(long columns, nint addresses) => columns % 4 == 0 && (addresses & 15) == 0 ? columns / 4 : 0;

    /// <summary>On the device: the warp's first row.</summary>
    public static long First() => (long)Grid.IdxX * (Group.DimX / Warp.WarpSize) + Group.IdxX / Warp.WarpSize;

    /// <summary>On the device: from row to row.</summary>
    public static long Stride() => (long)Grid.DimX * (Group.DimX / Warp.WarpSize);
}
