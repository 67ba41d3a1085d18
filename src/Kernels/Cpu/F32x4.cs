// 4 float lanes (SSE, NEON). The three widths differ in nothing but the type: .NET has no public type above them.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace IptNative.Kernels.Cpu;

/// <summary>4 floats; see <see cref="ISimd{TSelf}"/>.</summary>
internal readonly unsafe struct F32x4(Vector128<float> value) : ISimd<F32x4>
{
    private readonly Vector128<float> _v = value;

    public static int Lanes => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 Broadcast(float value) => new(Vector128.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 Load(float* source) => new(Vector128.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 LoadF16(ushort* source)
    {
        Vector128<uint> h = Widen(source);
        Vector128<uint> magnitude = h & Vector128.Create(F16Bits.Magnitude);
        // Moving the fields into place leaves the exponent 112 too low; the product mends it, subnormals included.
        Vector128<uint> finite = ((magnitude << 13).AsSingle() * Vector128.Create(F16Bits.Rebias)).AsUInt32();
        Vector128<uint> special = Vector128.GreaterThanOrEqual(magnitude, Vector128.Create(F16Bits.Infinity)) & Vector128.Create(F16Bits.SpecialExponent);
        return new((finite | special | ((h & Vector128.Create(F16Bits.Sign)) << 16)).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 LoadBF16(ushort* source) => new((Widen(source) << 16).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 LoadI8(sbyte* source) => new(Vector128.ConvertToSingle(Vector128.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<int>(source)).AsSByte()))));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 LoadU4(byte* row, long first)
    {
        // n3n2n1n0 to one nibble a byte.
        uint x = Unsafe.ReadUnaligned<ushort>(row + (first >> 1));
        x = (x | (x << 8)) & 0x00FF_00FF;
        x = (x | (x << 4)) & 0x0F0F_0F0F;
        return new(Vector128.ConvertToSingle(Vector128.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(x).AsByte())).AsInt32()));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* target) => _v.Store(target);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 operator +(F32x4 a, F32x4 b) => new(a._v + b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 operator -(F32x4 a, F32x4 b) => new(a._v - b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 operator *(F32x4 a, F32x4 b) => new(a._v * b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 operator /(F32x4 a, F32x4 b) => new(a._v / b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 MultiplyAdd(F32x4 a, F32x4 b, F32x4 c) => new(Vector128.MultiplyAddEstimate(a._v, b._v, c._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 Max(F32x4 a, F32x4 b) => new(Vector128.MaxNative(a._v, b._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 Min(F32x4 a, F32x4 b) => new(Vector128.MinNative(a._v, b._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 Abs(F32x4 a) => new(Vector128.Abs(a._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 Sqrt(F32x4 a) => new(Vector128.Sqrt(a._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 CopySign(F32x4 a, F32x4 sign) => new(Vector128.CopySign(a._v, sign._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 SelectLess(F32x4 a, F32x4 b, F32x4 yes, F32x4 no) =>
        new(Vector128.ConditionalSelect(Vector128.LessThan(a._v, b._v), yes._v, no._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 ScaleByPowerOfTwo(F32x4 value, F32x4 shifted)
    {
        Vector128<int> k = shifted._v.AsInt32() - Vector128.Create(VectorMath.ShiftBits);
        // In two steps: 2^k itself is no float where the result is subnormal or just below overflow.
        Vector128<int> first = k >> 1;
        Vector128<int> bias = Vector128.Create(127);
        return new(value._v * ((first + bias) << 23).AsSingle() * ((k - first + bias) << 23).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 AddProductsLower(F32x4 sum, F32x4 a, F32x4 b) =>
        new(Vector128.MultiplyAddEstimate(Vector128.WidenLower(a._v), Vector128.WidenLower(b._v), sum._v.AsDouble()).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x4 AddProductsUpper(F32x4 sum, F32x4 a, F32x4 b) =>
        new(Vector128.MultiplyAddEstimate(Vector128.WidenUpper(a._v), Vector128.WidenUpper(b._v), sum._v.AsDouble()).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double SumDoubles(F32x4 lower, F32x4 upper) => Vector128.Sum(lower._v.AsDouble() + upper._v.AsDouble());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Sums(F32x4 a, F32x4 b, F32x4 c, F32x4 d)
    {
        if (!Sse.IsSupported)
            return Vector128.Create(Vector128.Sum(a._v), Vector128.Sum(b._v), Vector128.Sum(c._v), Vector128.Sum(d._v));
        // Lanes 0 + 2 and 1 + 3 of two each, then the two sums of all four.
        Vector128<float> ab = Sse.UnpackLow(a._v, b._v) + Sse.UnpackHigh(a._v, b._v), cd = Sse.UnpackLow(c._v, d._v) + Sse.UnpackHigh(c._v, d._v);
        return Sse.MoveLowToHigh(ab, cd) + Sse.MoveHighToLow(cd, ab);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<uint> Widen(ushort* source) => Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<ulong>(source)).AsUInt16());
}
