// Weights found in ONNX files, handed out by HF name: mapped where the layout allows it, laid out once where it does not.
// Deliberately not: finding them (OptimumNames) or knowing which file they came from.
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Onnx.Wire;

namespace IptNative.Model.Onnx;

/// <summary>A tensor that holds a parameter.</summary>
/// <param name="Tensor">The initialiser.</param>
/// <param name="Transposed">True where it is stored [in, out]: torch's exporter folds Linear's transpose into the weight.</param>
internal readonly record struct OnnxWeight(OnnxTensor Tensor, bool Transposed)
{
    /// <summary>Dimensions in torch's layout.</summary>
    public TensorShape Shape => Transposed ? new(Tensor.Shape[1], Tensor.Shape[0]) : Tensor.Shape;
}

/// <summary>Parameters by canonical HF name. Thread-safe; copies live until released or disposed.</summary>
/// <param name="location">For messages.</param>
/// <param name="weights">What was found.</param>
internal sealed class OnnxWeightStore(string location, IReadOnlyDictionary<string, OnnxWeight> weights) : IDisposable
{
    private readonly Dictionary<string, NativeCopy> _copies = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();
    private bool _disposed;

    /// <summary>A parameter's bytes in torch's layout.</summary>
    /// <param name="name">Canonical HF name.</param>
    /// <returns>The tensor.</returns>
    /// <exception cref="InvalidDataException">There is no such tensor.</exception>
    public Weight Get(string name)
    {
        if (!weights.TryGetValue(name, out OnnxWeight weight))
            throw new InvalidDataException($"{location}: reading tensor '{name}'; the model has no such parameter.");
        OnnxTensor tensor = weight.Tensor;
        // DType was checked by whoever filled the store: only float types get in.
        DType dtype = tensor.DType!.Value;
        nint address;
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (!weight.Transposed && tensor.InPlace is { } mapped && mapped % (dtype.Bits() / 8) == 0)
            {
                address = mapped;
            }
            else
            {
                if (!_copies.TryGetValue(name, out NativeCopy? copy))
                    _copies.Add(name, copy = Copy(weight));
                address = copy.Address;
            }
        }
        return new Weight(name, dtype, weight.Shape, address, tensor.ByteLength);
    }

    /// <summary>Frees a parameter's copy, where there is one.</summary>
    /// <param name="name">Canonical HF name.</param>
    public void Release(string name)
    {
        lock (_lock)
        {
            if (_copies.Remove(name, out NativeCopy? copy))
                copy.Dispose();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            foreach (NativeCopy copy in _copies.Values)
                copy.Dispose();
            _copies.Clear();
        }
    }

    // The size is that of bytes which lie in the file: nothing is allocated that the file does not hold.
    private static unsafe NativeCopy Copy(OnnxWeight weight)
    {
        OnnxTensor tensor = weight.Tensor;
        // Torch's [out, in] read from [in, out]: the strides are swapped.
        long[] strides = weight.Transposed ? [1, tensor.Shape[1]] : StoredTensor.RowMajor(tensor.Shape);
        int size = tensor.DType!.Value.Bits() / 8;
        if (tensor.InPlace is { } mapped)
            return NativeCopy.Of(mapped, weight.Shape.Dims, strides, size, tensor.ByteLength);
        byte[] unpacked = tensor.Unpack();
        fixed (byte* source = unpacked)
            return NativeCopy.Of((nint)source, weight.Shape.Dims, strides, size, tensor.ByteLength);
    }
}
