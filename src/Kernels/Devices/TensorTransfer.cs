// Between the host's spans and a device's tensors. For setup, results and checkpoints; nothing of it runs inside a step.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Devices;

/// <summary>Copies whole tensors to and from the host.</summary>
public static unsafe class TensorTransfer
{
    /// <summary>Fills a tensor.</summary>
    /// <typeparam name="T">As wide as the tensor's element.</typeparam>
    /// <param name="tensor">Where to.</param>
    /// <param name="values">As many as the tensor's elements.</param>
    /// <exception cref="ArgumentException">Another number or width.</exception>
    public static void CopyFrom<T>(this Tensor tensor, ReadOnlySpan<T> values)
        where T : unmanaged => values.CopyTo(Host<T>(tensor, values.Length, nameof(CopyFrom)));

    /// <summary>Reads a tensor.</summary>
    /// <typeparam name="T">As wide as the tensor's element.</typeparam>
    /// <param name="tensor">Where from.</param>
    /// <param name="values">As many as the tensor's elements.</param>
    /// <exception cref="ArgumentException">Another number or width.</exception>
    public static void CopyTo<T>(this Tensor tensor, Span<T> values)
        where T : unmanaged => Host<T>(tensor, values.Length, nameof(CopyTo)).CopyTo(values);

    /// <summary>Reads a tensor into an array of its own.</summary>
    /// <typeparam name="T">As wide as the tensor's element.</typeparam>
    /// <param name="tensor">Where from.</param>
    /// <returns>Its elements.</returns>
    /// <exception cref="ArgumentException">Another width, or more elements than an array holds.</exception>
    public static T[] ToArray<T>(this Tensor tensor)
        where T : unmanaged
    {
        T[] values = new T[checked((int)tensor.Elements)];
        tensor.CopyTo<T>(values);
        return values;
    }

    private static Span<T> Host<T>(Tensor tensor, int elements, string op)
        where T : unmanaged
    {
        if (tensor.Elements != elements || tensor.DType.ByteLength(1) != Unsafe.SizeOf<T>())
            throw new ArgumentException($"Tensor.{op}: found {elements} values of {Unsafe.SizeOf<T>()} bytes, expected {tensor.Elements} of {tensor.DType.Name()}.");
        return tensor.Device switch
        {
            CpuDevice => new Span<T>((void*)tensor.Address, elements),
            _ => throw Require.NoKernel($"Tensor.{op}", tensor.Device),
        };
    }
}
