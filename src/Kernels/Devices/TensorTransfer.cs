// Between the host's spans and a device's tensors. For setup, results and checkpoints; nothing of it runs inside a step.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace IptNative.Kernels.Devices;

/// <summary>Copies whole tensors to and from the host.</summary>
public static class TensorTransfer
{
    // A span of bytes holds 2 GB.
    private const int Chunk = 1 << 27;

    /// <summary>Fills a tensor.</summary>
    /// <typeparam name="T">As wide as the tensor's element.</typeparam>
    /// <param name="tensor">Where to.</param>
    /// <param name="values">As many as the tensor's elements.</param>
    /// <exception cref="ArgumentException">Another number or width.</exception>
    public static void CopyFrom<T>(this Tensor tensor, ReadOnlySpan<T> values)
        where T : unmanaged
    {
        Require<T>(tensor, values.Length, nameof(CopyFrom));
        for (int start = 0; start < values.Length; start += Chunk)
        {
            int n = Math.Min(Chunk, values.Length - start);
            tensor.Device.CopyFromHost(MemoryMarshal.AsBytes(values.Slice(start, n)), tensor.Slice(start, n));
        }
    }

    /// <summary>Reads a tensor.</summary>
    /// <typeparam name="T">As wide as the tensor's element.</typeparam>
    /// <param name="tensor">Where from.</param>
    /// <param name="values">As many as the tensor's elements.</param>
    /// <exception cref="ArgumentException">Another number or width.</exception>
    public static void CopyTo<T>(this Tensor tensor, Span<T> values)
        where T : unmanaged
    {
        Require<T>(tensor, values.Length, nameof(CopyTo));
        for (int start = 0; start < values.Length; start += Chunk)
        {
            int n = Math.Min(Chunk, values.Length - start);
            tensor.Device.CopyToHost(tensor.Slice(start, n), MemoryMarshal.AsBytes(values.Slice(start, n)));
        }
    }

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

    private static void Require<T>(Tensor tensor, int elements, string op)
        where T : unmanaged
    {
        if (tensor.Elements != elements || tensor.DType.ByteLength(1) != Unsafe.SizeOf<T>())
            throw new ArgumentException($"Tensor.{op}: found {elements} values of {Unsafe.SizeOf<T>()} bytes, expected {tensor.Elements} of {tensor.DType.Name()}.");
    }
}
