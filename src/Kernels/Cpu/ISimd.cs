// One vector of floats of whatever width the machine has, so that each CPU kernel is written once. Deliberately not a
// general vector library: only what the ops use. Widths: F32x16, F32x8, F32x4, and F32x1 for remainders and for
// machines (or runs) without SIMD.
using System.Runtime.Intrinsics;

namespace IptNative.Kernels.Cpu;

/// <summary>A register of float lanes.</summary>
/// <remarks>
/// Every lane does exactly the arithmetic of <see cref="F32x1"/>, so an elementwise op gives the same bits whichever
/// width ran it and wherever a row was cut. Sums are the exception: their order follows the lanes.
/// </remarks>
/// <typeparam name="TSelf">The implementing struct.</typeparam>
internal unsafe interface ISimd<TSelf>
    where TSelf : unmanaged, ISimd<TSelf>
{
    static abstract int Lanes { get; }

    static abstract TSelf Broadcast(float value);

    static abstract TSelf Load(float* source);

    /// <summary>Widens 16-bit IEEE floats, exactly.</summary>
    static abstract TSelf LoadF16(ushort* source);

    /// <summary>Widens bfloat16, exactly.</summary>
    static abstract TSelf LoadBF16(ushort* source);

    /// <summary>Signed bytes as floats, exactly.</summary>
    static abstract TSelf LoadI8(sbyte* source);

    /// <summary>Unsigned nibbles as floats, exactly; the first of two in a byte's lower half.</summary>
    /// <param name="row">The byte of nibble 0.</param>
    /// <param name="first">First nibble; even but for one lane.</param>
    static abstract TSelf LoadU4(byte* row, long first);

    void Store(float* target);

    static abstract TSelf operator +(TSelf a, TSelf b);

    static abstract TSelf operator -(TSelf a, TSelf b);

    static abstract TSelf operator *(TSelf a, TSelf b);

    static abstract TSelf operator /(TSelf a, TSelf b);

    /// <summary>a * b + c, fused where the machine does that in hardware.</summary>
    static abstract TSelf MultiplyAdd(TSelf a, TSelf b, TSelf c);

    /// <summary>The machine's own maximum; where <paramref name="b"/> is NaN the result is NaN.</summary>
    static abstract TSelf Max(TSelf a, TSelf b);

    /// <summary>The machine's own minimum; where <paramref name="b"/> is NaN the result is NaN.</summary>
    static abstract TSelf Min(TSelf a, TSelf b);

    static abstract TSelf Abs(TSelf a);

    /// <summary>Correctly rounded square root.</summary>
    static abstract TSelf Sqrt(TSelf a);

    /// <summary>Magnitude of <paramref name="a"/>, sign of <paramref name="sign"/>.</summary>
    static abstract TSelf CopySign(TSelf a, TSelf sign);

    /// <summary>a &lt; b ? yes : no, lane by lane; NaN takes <paramref name="no"/>.</summary>
    static abstract TSelf SelectLess(TSelf a, TSelf b, TSelf yes, TSelf no);

    /// <summary>value * 2^k, where <paramref name="shifted"/> is k + 1.5 * 2^23 as a float: k then stands in its low bits.</summary>
    static abstract TSelf ScaleByPowerOfTwo(TSelf value, TSelf shifted);

    /// <summary>Adds the lower half's products to <paramref name="sum"/>, which holds doubles; not for F32x1.</summary>
    static abstract TSelf AddProductsLower(TSelf sum, TSelf a, TSelf b);

    /// <summary>The same for the upper half.</summary>
    static abstract TSelf AddProductsUpper(TSelf sum, TSelf a, TSelf b);

    /// <summary>The sum of the doubles that two such sums hold.</summary>
    static abstract double SumDoubles(TSelf lower, TSelf upper);

    /// <summary>The sum of each one's lanes, in an order that is the same for all four.</summary>
    static abstract Vector128<float> Sums(TSelf a, TSelf b, TSelf c, TSelf d);
}
