// How packing reads a stored matrix: one struct per element type, expanding to float on the way. Deliberately not: packing itself (Packing.cs).
// A block-quantised format fits as another struct that holds codes and scales: row and column are given so that it finds the block, and
// packing asks for groups of 4 or 16 that start at multiples of 4 or 16 from the matrix' corner, so a group never straddles a block of 16 or more.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace IptNative.Kernels.Ops;

/// <summary>A row-major matrix of any stored type, read as float.</summary>
/// <typeparam name="TSelf">The implementing struct.</typeparam>
internal interface IPackSource<TSelf>
    where TSelf : unmanaged, IPackSource<TSelf>
{
    /// <summary>The matrix that begins <paramref name="elements"/> further: a batch entry.</summary>
    TSelf At(long elements);

    /// <summary>One element.</summary>
    float Load1(long row, long column);

    /// <summary>Four neighbours of a row.</summary>
    Vector128<float> Load4(long row, long column);

    /// <summary>Sixteen neighbours of a row.</summary>
    Vector512<float> Load16(long row, long column);
}

/// <summary>Stored floats.</summary>
internal readonly unsafe struct F32Source(float* data, long ld) : IPackSource<F32Source>
{
    public F32Source At(long elements) => new(data + elements, ld);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Load1(long row, long column) => data[row * ld + column];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector128<float> Load4(long row, long column) => Vector128.Load(data + row * ld + column);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Load16(long row, long column) => Vector512.Load(data + row * ld + column);
}

/// <summary>Stored bfloat16: the upper half of a float, so expansion is a shift.</summary>
internal readonly unsafe struct BF16Source(ushort* data, long ld) : IPackSource<BF16Source>
{
    public BF16Source At(long elements) => new(data + elements, ld);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Load1(long row, long column) => BitConverter.UInt32BitsToSingle((uint)data[row * ld + column] << 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector128<float> Load4(long row, long column) =>
        Vector128.ShiftLeft(Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(ulong*)(data + row * ld + column)).AsUInt16()), 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Load16(long row, long column)
    {
        Vector256<ushort> bits = Vector256.Load(data + row * ld + column);
        return Vector512.ShiftLeft(Vector512.Create(Vector256.WidenLower(bits), Vector256.WidenUpper(bits)), 16).AsSingle();
    }
}

/// <summary>Stored binary16, expanded by integer arithmetic and one exact multiplication: .NET has no F16C intrinsic.</summary>
internal readonly unsafe struct F16Source(ushort* data, long ld) : IPackSource<F16Source>
{
    // The half's exponent and fraction, moved to a float's place, are 2^112 too small (bias 127 against 15); subnormals come out right too.
    private const float Rebias = 5.192296858534828e33f;
    private const uint MagnitudeBits = 0x7fff;
    private const uint SignBit = 0x8000;
    private const uint FirstNonFinite = 0x7c00 << 13;
    private const uint FloatExponent = 0x7f800000;

    public F16Source At(long elements) => new(data + elements, ld);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Load1(long row, long column) => (float)BitConverter.UInt16BitsToHalf(data[row * ld + column]);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector128<float> Load4(long row, long column)
    {
        Vector128<uint> half = Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(ulong*)(data + row * ld + column)).AsUInt16());
        Vector128<uint> magnitude = Vector128.ShiftLeft(half & Vector128.Create(MagnitudeBits), 13);
        Vector128<uint> value = (magnitude.AsSingle() * Vector128.Create(Rebias)).AsUInt32();
        value |= Vector128.GreaterThanOrEqual(magnitude, Vector128.Create(FirstNonFinite)) & Vector128.Create(FloatExponent);
        return (value | Vector128.ShiftLeft(half & Vector128.Create(SignBit), 16)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Load16(long row, long column)
    {
        Vector256<ushort> bits = Vector256.Load(data + row * ld + column);
        Vector512<uint> half = Vector512.Create(Vector256.WidenLower(bits), Vector256.WidenUpper(bits));
        Vector512<uint> magnitude = Vector512.ShiftLeft(half & Vector512.Create(MagnitudeBits), 13);
        Vector512<uint> value = (magnitude.AsSingle() * Vector512.Create(Rebias)).AsUInt32();
        value |= Vector512.GreaterThanOrEqual(magnitude, Vector512.Create(FirstNonFinite)) & Vector512.Create(FloatExponent);
        return (value | Vector512.ShiftLeft(half & Vector512.Create(SignBit), 16)).AsSingle();
    }
}
