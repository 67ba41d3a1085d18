// Element types of stored tensors and their sizes. Deliberately not: conversion (see the op that reads them).
namespace IptNative.Kernels;

/// <summary>Element type of a stored tensor.</summary>
public enum DType
{
    /// <summary>IEEE 754 binary32.</summary>
    F32,

    /// <summary>IEEE 754 binary16.</summary>
    F16,

    /// <summary>bfloat16: the upper 16 bits of binary32.</summary>
    BF16,

    /// <summary>IEEE 754 binary64.</summary>
    F64,

    /// <summary>Signed 8-bit integer; with scales when it holds a quantised weight.</summary>
    I8,

    /// <summary>Unsigned 8-bit integer.</summary>
    U8,

    /// <summary>Signed 32-bit integer.</summary>
    I32,

    /// <summary>Signed 64-bit integer.</summary>
    I64,

    /// <summary>Boolean, one byte an element.</summary>
    Bool,

    /// <summary>Signed 4-bit integer, two to a byte; scales lie beside it.</summary>
    I4,

    /// <summary>Unsigned 4-bit integer, two to a byte, the first in the lower half; scales and zero points lie beside it.</summary>
    U4,
}

/// <summary>Sizes and names of <see cref="DType"/>.</summary>
public static class DTypes
{
    /// <summary>Bits per element.</summary>
    /// <param name="type">The element type.</param>
    /// <returns>4 to 64.</returns>
    public static int Bits(this DType type) => type switch
    {
        DType.F64 or DType.I64 => 64,
        DType.F32 or DType.I32 => 32,
        DType.F16 or DType.BF16 => 16,
        DType.I4 or DType.U4 => 4,
        _ => 8,
    };

    /// <summary>Bytes that <paramref name="elements"/> elements take, rounded up to a whole byte.</summary>
    /// <param name="type">The element type.</param>
    /// <param name="elements">Number of elements, 0 or more.</param>
    /// <returns>Bytes.</returns>
    /// <exception cref="OverflowException">The size does not fit 64 bits.</exception>
    public static long ByteLength(this DType type, long elements) => checked((elements * type.Bits() + 7) / 8);

    /// <summary>The name used in files, options and messages: f32, f16, bf16, ...</summary>
    /// <param name="type">The element type.</param>
    /// <returns>Lower-case name.</returns>
    public static string Name(this DType type) => type.ToString().ToLowerInvariant();
}
