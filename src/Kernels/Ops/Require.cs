// The preconditions of every op, each with one wording. A failed one is the caller's bug, so it is an ArgumentException that
// names the op, the parameter and both sizes; nothing is allocated when all is well.
using System.Diagnostics.CodeAnalysis;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>Argument checks shared by the ops.</summary>
internal static class Require
{
    /// <summary>A tensor on this device, of this type, with exactly the elements that the dimensions imply.</summary>
    /// <param name="op">Class and method, for the message.</param>
    /// <param name="device">Where the op runs.</param>
    /// <param name="tensor">The argument.</param>
    /// <param name="name">Its parameter name.</param>
    /// <param name="type">The element type it must have.</param>
    /// <param name="letters">Its shape in letters: [rows, D].</param>
    /// <param name="dims">The same in numbers.</param>
    public static void Shape(string op, ComputeDevice device, in Tensor tensor, string name, DType type, string letters, params ReadOnlySpan<long> dims)
    {
        if (tensor.DType != type)
            ThrowType(op, tensor, name, type.Name(), letters);
        Elements(op, device, tensor, name, letters, dims);
    }

    /// <summary>The same where several floating types will do: f32, f16 or bf16.</summary>
    public static void FloatShape(string op, ComputeDevice device, in Tensor tensor, string name, string letters, params ReadOnlySpan<long> dims)
    {
        if (tensor.DType is not (DType.F32 or DType.F16 or DType.BF16))
            ThrowType(op, tensor, name, "f32, f16 or bf16", letters);
        Elements(op, device, tensor, name, letters, dims);
    }

    /// <summary>A dimension of at least <paramref name="least"/>.</summary>
    public static void Dim(string op, long value, string name, long least = 1)
    {
        if (value < least)
            throw new ArgumentException($"{op}: {name} is {value}, expected {least} or more.", name);
    }

    /// <summary>A finite number in a range.</summary>
    public static void Range(string op, double value, string name, double low, double high)
    {
        if (!(value >= low && value <= high))
            throw new ArgumentException($"{op}: {name} is {value}, expected {low} to {high}.", name);
    }

    /// <summary>What an op throws on a device it has no kernel for.</summary>
    public static NotSupportedException NoKernel(string op, ComputeDevice device) =>
        new($"{op}: found device '{device.Name}' ({device.GetType().Name}), expected one that this build has kernels for: {Kernels}.");

#if ILGPU
    private const string Kernels = "cpu, cuda";
#else
    private const string Kernels = "cpu";
#endif

    private static void Elements(string op, ComputeDevice device, in Tensor tensor, string name, string letters, ReadOnlySpan<long> dims)
    {
        long expected = 1;
        foreach (long d in dims)
        {
            if (d < 0)
                ThrowSize(op, tensor, name, letters, dims);
            expected = checked(expected * d);
        }
        if (tensor.Elements != expected || (tensor.IsEmpty && expected > 0))
            ThrowSize(op, tensor, name, letters, dims);
        if (!ReferenceEquals(tensor.Device, device) && expected > 0)
            throw new ArgumentException($"{op}: {name} lies on device '{tensor.Device?.Name ?? "none"}', expected '{device.Name}', where the op runs. Copy it there first.", name);
    }

    [DoesNotReturn]
    private static void ThrowType(string op, in Tensor tensor, string name, string expected, string letters) =>
        throw new ArgumentException($"{op}: {name} {letters} holds {tensor.DType.Name()}, expected {expected}.", name);

    [DoesNotReturn]
    private static void ThrowSize(string op, in Tensor tensor, string name, string letters, ReadOnlySpan<long> dims) =>
        throw new ArgumentException($"{op}: {name} has {(tensor.IsEmpty ? "no memory" : $"{tensor.Elements} elements")}, expected {letters} = {new TensorShape(dims)}.", name);
}
