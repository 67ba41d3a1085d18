// 16 float lanes (AVX-512). The three widths differ in nothing but the type: .NET has no public type above them.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace IptNative.Kernels.Cpu;

/// <summary>16 floats; see <see cref="ISimd{TSelf}"/>.</summary>
internal readonly unsafe struct F32x16(Vector512<float> value) : ISimd<F32x16>
{
    private readonly Vector512<float> _v = value;

    public static int Lanes => 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 Broadcast(float value) => new(Vector512.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 Load(float* source) => new(Vector512.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 LoadF16(ushort* source)
    {
        Vector512<uint> h = Widen(source);
        Vector512<uint> magnitude = h & Vector512.Create(F16Bits.Magnitude);
        // Moving the fields into place leaves the exponent 112 too low; the product mends it, subnormals included.
        Vector512<uint> finite = ((magnitude << 13).AsSingle() * Vector512.Create(F16Bits.Rebias)).AsUInt32();
        Vector512<uint> special = Vector512.GreaterThanOrEqual(magnitude, Vector512.Create(F16Bits.Infinity)) & Vector512.Create(F16Bits.SpecialExponent);
        return new((finite | special | ((h & Vector512.Create(F16Bits.Sign)) << 16)).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 LoadBF16(ushort* source) => new((Widen(source) << 16).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 LoadI8(sbyte* source) => new(Vector512.ConvertToSingle(Vector512.WidenLower(Vector256.WidenLower(Vector128.Load(source).ToVector256Unsafe()).ToVector512Unsafe())));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 LoadU4(byte* row, long first)
    {
        Vector128<ushort> pairs = Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<ulong>(row + (first >> 1))).AsByte());
        // One nibble a byte: the upper half of each pair moves up by four bits.
        Vector128<byte> codes = ((pairs | (pairs << 4)) & Vector128.Create((ushort)0x0F0F)).AsByte();
        return new(Vector512.ConvertToSingle(Vector512.WidenLower(Vector256.WidenLower(codes.ToVector256Unsafe()).ToVector512Unsafe()).AsInt32()));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* target) => _v.Store(target);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 operator +(F32x16 a, F32x16 b) => new(a._v + b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 operator -(F32x16 a, F32x16 b) => new(a._v - b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 operator *(F32x16 a, F32x16 b) => new(a._v * b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 operator /(F32x16 a, F32x16 b) => new(a._v / b._v);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 MultiplyAdd(F32x16 a, F32x16 b, F32x16 c) => new(Vector512.MultiplyAddEstimate(a._v, b._v, c._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 Max(F32x16 a, F32x16 b) => new(Vector512.MaxNative(a._v, b._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 Min(F32x16 a, F32x16 b) => new(Vector512.MinNative(a._v, b._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 Abs(F32x16 a) => new(Vector512.Abs(a._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 Sqrt(F32x16 a) => new(Vector512.Sqrt(a._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 CopySign(F32x16 a, F32x16 sign) => new(Vector512.CopySign(a._v, sign._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) =>
        new(Vector512.ConditionalSelect(Vector512.LessThan(a._v, b._v), yes._v, no._v));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 ScaleByPowerOfTwo(F32x16 value, F32x16 shifted)
    {
        Vector512<int> k = shifted._v.AsInt32() - Vector512.Create(VectorMath.ShiftBits);
        // In two steps: 2^k itself is no float where the result is subnormal or just below overflow.
        Vector512<int> first = k >> 1;
        Vector512<int> bias = Vector512.Create(127);
        return new(value._v * ((first + bias) << 23).AsSingle() * ((k - first + bias) << 23).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 AddProductsLower(F32x16 sum, F32x16 a, F32x16 b) =>
        new(Vector512.MultiplyAddEstimate(Vector512.WidenLower(a._v), Vector512.WidenLower(b._v), sum._v.AsDouble()).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F32x16 AddProductsUpper(F32x16 sum, F32x16 a, F32x16 b) =>
        new(Vector512.MultiplyAddEstimate(Vector512.WidenUpper(a._v), Vector512.WidenUpper(b._v), sum._v.AsDouble()).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double SumDoubles(F32x16 lower, F32x16 upper) => Vector512.Sum(lower._v.AsDouble() + upper._v.AsDouble());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Sums(F32x16 a, F32x16 b, F32x16 c, F32x16 d)
    {
        if (!Avx512F.IsSupported)
            return F32x8.Sums(a.Halves, b.Halves, c.Halves, d.Halves);
        // As F32x4 does, in each quarter; then the quarters are added.
        Vector512<float> ab = Avx512F.UnpackLow(a._v, b._v) + Avx512F.UnpackHigh(a._v, b._v), cd = Avx512F.UnpackLow(c._v, d._v) + Avx512F.UnpackHigh(c._v, d._v);
        Vector512<float> quarters = Avx512F.UnpackLow(ab.AsDouble(), cd.AsDouble()).AsSingle() + Avx512F.UnpackHigh(ab.AsDouble(), cd.AsDouble()).AsSingle();
        Vector256<float> halves = quarters.GetLower() + quarters.GetUpper();
        return halves.GetLower() + halves.GetUpper();
    }

    private F32x8 Halves => new(_v.GetLower() + _v.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Widen(ushort* source) => Vector512.WidenLower(Vector256.Load(source).ToVector512Unsafe());
}
