// 16-bit floats by integer arithmetic, and the double functions that PTX lacks. Deliberately not ILGPU's Half: it has no bfloat16, and on the CPU it
// converts by table.
using ILGPU;

namespace IptNative.Kernels.Gpu;

/// <summary>A yes or no among a kernel's arguments: ILGPU passes no bool, which has another size on the host.</summary>
internal struct GpuFlag
{
    private int _value;

    public static implicit operator bool(GpuFlag flag) => flag._value != 0;

    public static implicit operator GpuFlag(bool value) => new() { _value = value ? 1 : 0 };
}

/// <summary>Conversions and elementary functions on the device.</summary>
internal static class GpuBits
{
    // 2^112 moves binary16's exponent bias to binary32's; a subnormal half becomes a normal float on the way.
    private const float Rebias = 5.192296858534828e33f;

    public static float FromBF16(ushort bits) => Interop.IntAsFloat((uint)bits << 16);

    public static float FromF16(ushort bits)
    {
        uint magnitude = bits & 0x7FFFu;
        uint wide = Interop.FloatAsInt(Interop.IntAsFloat(magnitude << 13) * Rebias);
        // Infinity and NaN keep an exponent of ones.
        if (magnitude >= 0x7C00u)
            wide = (magnitude << 13) | 0x7F80_0000u;
        return Interop.IntAsFloat(wide | ((bits & 0x8000u) << 16));
    }

    /// <summary>Rounded to nearest, ties to even; NaN stays.</summary>
    public static ushort ToBF16(float value)
    {
        uint bits = Interop.FloatAsInt(value);
        bool isNaN = (bits & 0x7FFF_FFFFu) > 0x7F80_0000u;
        return isNaN ? (ushort)((bits >> 16) | 0x40u) : (ushort)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
    }

    /// <summary>Rounded to nearest, ties to even; overflow is infinity, NaN stays.</summary>
    public static ushort ToF16(float value)
    {
        uint bits = Interop.FloatAsInt(value);
        uint sign = (bits >> 16) & 0x8000u;
        uint magnitude = bits & 0x7FFF_FFFFu;
        uint half;
        if (magnitude > 0x7F80_0000u)
            half = 0x7E00u;
        else if (magnitude >= 0x4780_0000u)
            half = 0x7C00u;
        else if (magnitude < 0x3880_0000u)
            // Below 2^-14: adding 0.5 puts the last kept bit at the float's own last bit, and the addition rounds.
            half = Interop.FloatAsInt(Interop.IntAsFloat(magnitude) + 0.5f) - 0x3F00_0000u;
        else
            half = (magnitude - 0x3800_0000u + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
        return (ushort)(half | sign);
    }

    /// <summary>e^x in double: at most 2 ulp off for |x| below 700; 0 far below. For sums that a float would spoil, not for every element.</summary>
    public static double Exp(double x)
    {
        // Also -infinity; NaN passes both comparisons as false.
        if (x < -700)
            return 0;
        double k = x * 1.4426950408889634;
        int whole = (int)(k < 0 ? k - 0.5 : k + 0.5);
        double f = x - whole * 0.6931471803691238 - whole * 1.9082149292705877e-10;
        // Taylor to f^13: the next term is below 4e-18 for |f| up to ln 2 / 2.
        double p = 1.0 / 6227020800;
        p = p * f + 1.0 / 479001600;
        p = p * f + 1.0 / 39916800;
        p = p * f + 1.0 / 3628800;
        p = p * f + 1.0 / 362880;
        p = p * f + 1.0 / 40320;
        p = p * f + 1.0 / 5040;
        p = p * f + 1.0 / 720;
        p = p * f + 1.0 / 120;
        p = p * f + 1.0 / 24;
        p = p * f + 1.0 / 6;
        p = p * f + 0.5;
        p = p * f + 1;
        p = p * f + 1;
        return p * Interop.IntAsFloat((ulong)(whole + 1023) << 52);
    }

    /// <summary>ln x of a normal positive double: at most 2 ulp off. Infinity and NaN stay; 0 gives -infinity.</summary>
    public static double Log(double x)
    {
        ulong bits = Interop.FloatAsInt(x);
        // Not finite, not positive, subnormal: the sums this is for are 1 or more, or not numbers.
        if (!(x > 1e-300) || bits >= 0x7FF0_0000_0000_0000ul)
            return x == 0 ? Interop.IntAsFloat(0xFFF0_0000_0000_0000ul) : x;
        int exponent = (int)(bits >> 52) - 1023;
        double m = Interop.IntAsFloat((bits & 0x000F_FFFF_FFFF_FFFFul) | 0x3FF0_0000_0000_0000ul);
        if (m > 1.4142135623730951)
        {
            m *= 0.5;
            exponent++;
        }
        // ln m = 2 artanh((m - 1) / (m + 1)); |s| below 0.172, so s^23 / 23 ends it.
        double s = (m - 1) / (m + 1), z = s * s;
        double p = 1.0 / 23;
        p = p * z + 1.0 / 21;
        p = p * z + 1.0 / 19;
        p = p * z + 1.0 / 17;
        p = p * z + 1.0 / 15;
        p = p * z + 1.0 / 13;
        p = p * z + 1.0 / 11;
        p = p * z + 1.0 / 9;
        p = p * z + 1.0 / 7;
        p = p * z + 1.0 / 5;
        p = p * z + 1.0 / 3;
        return exponent * 0.6931471803691238 + (2 * s + (2 * s * z * p + exponent * 1.9082149292705877e-10));
    }
}
