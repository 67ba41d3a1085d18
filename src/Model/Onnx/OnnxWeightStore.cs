// Weights found in ONNX files, handed out by HF name: mapped where the layout allows it, laid out once where it does not.
// Deliberately not: finding them (OptimumNames) or knowing which file they came from.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;
using IptNative.Model.Onnx.Wire;

namespace IptNative.Model.Onnx;

/// <summary>A tensor that holds a parameter.</summary>
/// <param name="Tensor">The initialiser.</param>
/// <param name="Transposed">True where it is stored [in, out]: torch's exporter folds Linear's transpose into the weight.</param>
internal readonly record struct OnnxWeight(OnnxTensor Tensor, bool Transposed)
{
    /// <summary>f32 [rows, blocks of a row] where the tensor holds codes.</summary>
    public OnnxTensor? Scales { get; init; }

    /// <summary>u4 [rows, blocks of a row] where the tensor holds 4-bit codes.</summary>
    public OnnxTensor? ZeroPoints { get; init; }

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
            if (!weight.Transposed && tensor.InPlace is { } mapped && mapped % Math.Max(1, dtype.Bits() / 8) == 0)
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
        return new Weight(name, dtype, weight.Shape, address, tensor.ByteLength) { Scales = ScalesOf(weight) };
    }

    /// <summary>Whether memory is a tensor's own place in its file.</summary>
    public bool IsMapped(in Weight weight) => weights.TryGetValue(weight.Name, out OnnxWeight stored) && stored.Tensor.InPlace == weight.Address;

    /// <summary>Frees a parameter's copy, where there is one, and gives its pages back.</summary>
    /// <param name="name">Canonical HF name.</param>
    public void Release(string name)
    {
        lock (_lock)
        {
            if (_copies.Remove(name, out NativeCopy? copy))
                copy.Dispose();
            if (_disposed || !weights.TryGetValue(name, out OnnxWeight weight))
                return;
            foreach (OnnxTensor? tensor in (ReadOnlySpan<OnnxTensor?>)[weight.Tensor, weight.Scales, weight.ZeroPoints])
            {
                if (tensor?.InPlace is { } mapped)
                    FilePages.Forget(mapped, tensor.ByteLength);
            }
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

    // Whoever filled the store has checked types, shapes and alignment: scales are read where they lie.
    private static BlockScales ScalesOf(in OnnxWeight weight) => weight.Scales is not { InPlace: { } scales } s ? default
        : new BlockScales(scales, weight.ZeroPoints?.InPlace ?? 0, weight.Shape[1], weight.Shape[1] / s.Shape[1]);

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
