// A typed piece of a device's memory. No shape, no ownership: ops take their dimensions as arguments.
namespace IptNative.Kernels.Devices;

/// <summary>Address, element type and length of device memory; a value, owned by nobody.</summary>
/// <param name="Device">Where the memory lies.</param>
/// <param name="Address">First byte: a host pointer on the CPU, a device pointer on CUDA.</param>
/// <param name="DType">Element type.</param>
/// <param name="Elements">Number of elements.</param>
public readonly record struct Tensor(ComputeDevice Device, nint Address, DType DType, long Elements)
{
    /// <summary>What the codes of a quantised matrix stand for; absent for plain numbers.</summary>
    public BlockScales Scales { get; init; }

    /// <summary>True for a tensor that an op may leave out.</summary>
    public bool IsEmpty => Address == 0;

    /// <summary>Elements <paramref name="start"/> to <paramref name="start"/> + <paramref name="elements"/>.</summary>
    /// <param name="start">First element; on a byte boundary for 4-bit types.</param>
    /// <param name="elements">How many.</param>
    /// <returns>A view of the same memory.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The range leaves the tensor.</exception>
    public Tensor Slice(long start, long elements)
    {
        if (start < 0 || elements < 0 || start > Elements - elements)
            throw new ArgumentOutOfRangeException(nameof(start), $"Tensor.Slice: found [{start}, {start + elements}), expected a range inside [0, {Elements}).");
        if (Scales.IsPresent && elements != Elements)
            throw new ArgumentException($"Tensor.Slice: found [{start}, {start + elements}) of a quantised matrix of {Elements} elements, expected all of it: its scales belong to whole rows.", nameof(elements));
        return this with { Address = Address + (nint)DType.ByteLength(start), Elements = elements };
    }
}
