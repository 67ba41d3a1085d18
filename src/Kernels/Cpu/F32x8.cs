// 8 float lanes (AVX2). The three widths differ in nothing but the type: .NET has no public type above them.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace IptNative.Kernels.Cpu;

/// <summary>8 floats; see <see cref="ISimd{TSelf}"/>.</summary>
internal readonly unsafe struct F32x8(Vector256<float> value) : ISimd<F32x8>
{
    private readonly Vector256<float> _v = value;

    public static int Lanes => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 Broadcast(float value) => new(Vector256.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 Load(float* source) => new(Vector256.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 LoadF16(ushort* source)
    {
        Vector256<uint> h = Widen(source);
        Vector256<uint> magnitude = h & Vector256.Create(F16Bits.Magnitude);
        // Moving the fields into place leaves the exponent 112 too low; the product mends it, subnormals included.
        Vector256<uint> finite = ((magnitude << 13).AsSingle() * Vector256.Create(F16Bits.Rebias)).AsUInt32();
        Vector256<uint> special = Vector256.GreaterThanOrEqual(magnitude, Vector256.Create(F16Bits.Infinity)) & Vector256.Create(F16Bits.SpecialExponent);
        return new((finite | special | ((h & Vector256.Create(F16Bits.Sign)) << 16)).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 LoadBF16(ushort* source) => new((Widen(source) << 16).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 LoadI8(sbyte* source) => new(Vector256.ConvertToSingle(Vector256.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<long>(source)).AsSByte()).ToVector256Unsafe())));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 LoadU4(byte* row, long first)
    {
        Vector128<ushort> pairs = Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<uint>(row + (first >> 1))).AsByte());
        // One nibble a byte: the upper half of each pair moves up by four bits.
        Vector128<byte> codes = ((pairs | (pairs << 4)) & Vector128.Create((ushort)0x0F0F)).AsByte();
        return new(Vector256.ConvertToSingle(Vector256.WidenLower(Vector128.WidenLower(codes).ToVector256Unsafe()).AsInt32()));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* target) => _v.Store(target);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 operator +(F32x8 a, F32x8 b) => new(a._v + b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 operator -(F32x8 a, F32x8 b) => new(a._v - b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 operator *(F32x8 a, F32x8 b) => new(a._v * b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 operator /(F32x8 a, F32x8 b) => new(a._v / b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 MultiplyAdd(F32x8 a, F32x8 b, F32x8 c) => new(Vector256.MultiplyAddEstimate(a._v, b._v, c._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 Max(F32x8 a, F32x8 b) => new(Vector256.MaxNative(a._v, b._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 Min(F32x8 a, F32x8 b) => new(Vector256.MinNative(a._v, b._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 Abs(F32x8 a) => new(Vector256.Abs(a._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 Sqrt(F32x8 a) => new(Vector256.Sqrt(a._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 CopySign(F32x8 a, F32x8 sign) => new(Vector256.CopySign(a._v, sign._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 SelectLess(F32x8 a, F32x8 b, F32x8 yes, F32x8 no) =>
        new(Vector256.ConditionalSelect(Vector256.LessThan(a._v, b._v), yes._v, no._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 ScaleByPowerOfTwo(F32x8 value, F32x8 shifted)
    {
        Vector256<int> k = shifted._v.AsInt32() - Vector256.Create(VectorMath.ShiftBits);
        // In two steps: 2^k itself is no float where the result is subnormal or just below overflow.
        Vector256<int> first = k >> 1;
        Vector256<int> bias = Vector256.Create(127);
        return new(value._v * ((first + bias) << 23).AsSingle() * ((k - first + bias) << 23).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 AddProductsLower(F32x8 sum, F32x8 a, F32x8 b) =>
        new(Vector256.MultiplyAddEstimate(Vector256.WidenLower(a._v), Vector256.WidenLower(b._v), sum._v.AsDouble()).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x8 AddProductsUpper(F32x8 sum, F32x8 a, F32x8 b) =>
        new(Vector256.MultiplyAddEstimate(Vector256.WidenUpper(a._v), Vector256.WidenUpper(b._v), sum._v.AsDouble()).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double SumDoubles(F32x8 lower, F32x8 upper) => Vector256.Sum(lower._v.AsDouble() + upper._v.AsDouble());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Sums(F32x8 a, F32x8 b, F32x8 c, F32x8 d) => F32x4.Sums(a.Halves, b.Halves, c.Halves, d.Halves);

    private F32x4 Halves => new(_v.GetLower() + _v.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> Widen(ushort* source) => Vector256.WidenLower(Vector128.Load(source).ToVector256Unsafe());
}
