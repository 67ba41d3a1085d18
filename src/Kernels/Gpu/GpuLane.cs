// One float of a GPU thread, with the arithmetic of Cpu/ISimd.cs: exp, tanh and the activations are written once (Cpu/VectorMath.cs,
// Cpu/Activations.cs) and compiled for both. Why not F32x1: it asks for instructions by names that ILGPU does not know.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using ILGPU;
using IptNative.Kernels.Cpu;

namespace IptNative.Kernels.Gpu;

/// <summary>One float in a register.</summary>
internal readonly unsafe struct GpuLane(float value) : ISimd<GpuLane>
{
    private const uint SignBit = 0x8000_0000;
    private readonly float _v = value;

    public static int Lanes => 1;

    public float Value => _v;

    public static GpuLane Broadcast(float value) => new(value);

    public static GpuLane Load(float* source) => new(*source);

    public static GpuLane LoadF16(ushort* source) => new(GpuBits.FromF16(*source));

    public static GpuLane LoadBF16(ushort* source) => new(GpuBits.FromBF16(*source));

    public static GpuLane LoadI8(sbyte* source) => new(*source);

    public static GpuLane LoadU4(byte* row, long first) => new((row[first >> 1] >> (int)((first & 1) << 2)) & 15);

    public void Store(float* target) => *target = _v;

    public static GpuLane operator +(GpuLane a, GpuLane b) => new(a._v + b._v);

    public static GpuLane operator -(GpuLane a, GpuLane b) => new(a._v - b._v);

    public static GpuLane operator *(GpuLane a, GpuLane b) => new(a._v * b._v);

    public static GpuLane operator /(GpuLane a, GpuLane b) => new(a._v / b._v);

    /// <summary>Fused by the PTX assembler, which joins a product and a sum that stand alone.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static GpuLane MultiplyAdd(GpuLane a, GpuLane b, GpuLane c) => new(a._v * b._v + c._v);

    public static GpuLane Max(GpuLane a, GpuLane b) => a._v > b._v ? a : b;

    public static GpuLane Min(GpuLane a, GpuLane b) => a._v < b._v ? a : b;

    public static GpuLane Abs(GpuLane a) => new(Interop.IntAsFloat(Interop.FloatAsInt(a._v) & ~SignBit));

    public static GpuLane Sqrt(GpuLane a) => new(MathF.Sqrt(a._v));

    public static GpuLane CopySign(GpuLane a, GpuLane sign) =>
        new(Interop.IntAsFloat((Interop.FloatAsInt(a._v) & ~SignBit) | (Interop.FloatAsInt(sign._v) & SignBit)));

    public static GpuLane SelectLess(GpuLane a, GpuLane b, GpuLane yes, GpuLane no) => a._v < b._v ? yes : no;

    public static GpuLane ScaleByPowerOfTwo(GpuLane value, GpuLane shifted)
    {
        int k = (int)Interop.FloatAsInt(shifted._v) - VectorMath.ShiftBits;
        int first = k >> 1;
        return new(value._v * Interop.IntAsFloat((uint)((first + 127) << 23)) * Interop.IntAsFloat((uint)((k - first + 127) << 23)));
    }

    // As in F32x1: sums are doubles of their own.
    public static GpuLane AddProductsLower(GpuLane sum, GpuLane a, GpuLane b) => sum;

    public static GpuLane AddProductsUpper(GpuLane sum, GpuLane a, GpuLane b) => sum;

    public static double SumDoubles(GpuLane lower, GpuLane upper) => 0;

    public static Vector128<float> Sums(GpuLane a, GpuLane b, GpuLane c, GpuLane d) => Vector128<float>.Zero;
}
