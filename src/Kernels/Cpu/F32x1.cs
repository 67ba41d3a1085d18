// One float lane: remainders of every loop, and every loop where SIMD is off. What this does defines the other widths.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace IptNative.Kernels.Cpu;

/// <summary>One float; see <see cref="ISimd{TSelf}"/>.</summary>
internal readonly unsafe struct F32x1(float value) : ISimd<F32x1>
{
    private readonly float _v = value;

    public static int Lanes => 1;

    public float Value => _v;

    public static F32x1 Broadcast(float value) => new(value);

    public static F32x1 Load(float* source) => new(*source);

    public static F32x1 LoadF16(ushort* source) => new((float)BitConverter.UInt16BitsToHalf(*source));

    public static F32x1 LoadBF16(ushort* source) => new(BitConverter.UInt32BitsToSingle((uint)*source << 16));

    public static F32x1 LoadI8(sbyte* source) => new(*source);

    public static F32x1 LoadU4(byte* row, long first) => new((row[first >> 1] >> (int)((first & 1) << 2)) & 15);

    public void Store(float* target) => *target = _v;

    public static F32x1 operator +(F32x1 a, F32x1 b) => new(a._v + b._v);

    public static F32x1 operator -(F32x1 a, F32x1 b) => new(a._v - b._v);

    public static F32x1 operator *(F32x1 a, F32x1 b) => new(a._v * b._v);

    public static F32x1 operator /(F32x1 a, F32x1 b) => new(a._v / b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x1 MultiplyAdd(F32x1 a, F32x1 b, F32x1 c) => new(float.MultiplyAddEstimate(a._v, b._v, c._v));

    public static F32x1 Max(F32x1 a, F32x1 b) => a._v > b._v ? a : b;

    public static F32x1 Min(F32x1 a, F32x1 b) => a._v < b._v ? a : b;

    public static F32x1 Abs(F32x1 a) => new(MathF.Abs(a._v));

    public static F32x1 Sqrt(F32x1 a) => new(MathF.Sqrt(a._v));

    public static F32x1 CopySign(F32x1 a, F32x1 sign) => new(MathF.CopySign(a._v, sign._v));

    public static F32x1 SelectLess(F32x1 a, F32x1 b, F32x1 yes, F32x1 no) => a._v < b._v ? yes : no;

    public static F32x1 ScaleByPowerOfTwo(F32x1 value, F32x1 shifted)
    {
        int k = BitConverter.SingleToInt32Bits(shifted._v) - VectorMath.ShiftBits;
        int first = k >> 1;
        return new(value._v * BitConverter.Int32BitsToSingle((first + 127) << 23) * BitConverter.Int32BitsToSingle((k - first + 127) << 23));
    }

    // One float cannot hold a double: loops over one lane sum into a double of their own (see RowMath).
    public static F32x1 AddProductsLower(F32x1 sum, F32x1 a, F32x1 b) => throw new NotSupportedException("One lane has no halves.");

    public static F32x1 AddProductsUpper(F32x1 sum, F32x1 a, F32x1 b) => throw new NotSupportedException("One lane has no halves.");

    public static double SumDoubles(F32x1 lower, F32x1 upper) => 0;

    public static Vector128<float> Sums(F32x1 a, F32x1 b, F32x1 c, F32x1 d) => Vector128.Create(a._v, b._v, c._v, d._v);
}

/// <summary>Bit fields of IEEE binary16, as the vector widths read them.</summary>
internal static class F16Bits
{
    public const uint Magnitude = 0x7FFF;
    public const uint Sign = 0x8000;
    public const uint Infinity = 0x7C00;
    public const uint SpecialExponent = 0x7F80_0000;

    /// <summary>2^112: binary32's exponent bias less binary16's.</summary>
    public const float Rebias = 5.192296858534828e33f;
}
