// Sums and maxima over the lanes of a warp and the warps of a group, always in the same order. Every thread of the group must call.
using ILGPU;

namespace IptNative.Kernels.Gpu;

/// <summary>Four floats, moved by one 16-byte instruction.</summary>
internal struct F4
{
    public float X, Y, Z, W;

    public F4(float x, float y, float z, float w)
    {
        X = x;
        Y = y;
        Z = z;
        W = w;
    }
}

/// <summary>Four 32-bit words: eight 16-bit floats.</summary>
internal struct U4
{
    public uint X, Y, Z, W;
}

/// <summary>Reductions by shuffles.</summary>
internal static class GpuSums
{
    /// <summary>Warps of the largest group.</summary>
    public const int MaxWarps = 32;

    /// <summary>The warp's sum, in every lane. The tree is symmetric: all lanes get the same bits.</summary>
    public static double Warp(double value)
    {
        for (int mask = ILGPU.Warp.WarpSize / 2; mask > 0; mask >>= 1)
            value += ILGPU.Warp.ShuffleXor(value, mask);
        return value;
    }

    /// <summary>The warp's maximum, in every lane; a NaN may be lost.</summary>
    public static float WarpMax(float value)
    {
        for (int mask = ILGPU.Warp.WarpSize / 2; mask > 0; mask >>= 1)
        {
            float other = ILGPU.Warp.ShuffleXor(value, mask);
            value = other > value ? other : value;
        }
        return value;
    }

    /// <summary>The group's maximum, in every thread; a NaN may be lost. <paramref name="shared"/> as for <see cref="Group"/>.</summary>
    public static float GroupMax(float value, ArrayView<float> shared)
    {
        value = WarpMax(value);
        if (ILGPU.Warp.LaneIdx == 0)
            shared[ILGPU.Group.IdxX / ILGPU.Warp.WarpSize] = value;
        ILGPU.Group.Barrier();
        int warps = ILGPU.Group.DimX / ILGPU.Warp.WarpSize;
        for (int w = 0; w < warps; w++)
        {
            float other = shared[w];
            value = other > value ? other : value;
        }
        ILGPU.Group.Barrier();
        return value;
    }

    /// <summary>The group's sum, in every thread. <paramref name="shared"/> holds one number per warp and is free again on return.</summary>
    public static double Group(double value, ArrayView<double> shared)
    {
        value = Warp(value);
        if (ILGPU.Warp.LaneIdx == 0)
            shared[ILGPU.Group.IdxX / ILGPU.Warp.WarpSize] = value;
        ILGPU.Group.Barrier();
        double sum = 0;
        int warps = ILGPU.Group.DimX / ILGPU.Warp.WarpSize;
        for (int w = 0; w < warps; w++)
            sum += shared[w];
        ILGPU.Group.Barrier();
        return sum;
    }
}
