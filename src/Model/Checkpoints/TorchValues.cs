// What a torch.save file holds besides raw bytes: a small tree of values. Deliberately not: classes, functions, anything that runs.
using System.Diagnostics.CodeAnalysis;
using IptNative.Kernels;

namespace IptNative.Model.Checkpoints;

/// <summary>A dict of a PyTorch file, in the file's order. Keys are text or whole numbers.</summary>
/// <remarks>
/// Values are null, bool, long, double, string, byte[], <see cref="TorchTensor"/>, <see cref="TorchDict"/>, List of values (a list) or an array of values (a tuple).
/// </remarks>
[SuppressMessage("Naming", "CA1710:Identifiers should have correct suffix", Justification = "It is what Python calls a dict; it is no .NET collection.")]
public sealed class TorchDict
{
    private readonly OrderedDictionary<object, object?> _items = [];

    internal TorchDict()
    {
    }

    /// <summary>Number of entries.</summary>
    public int Count => _items.Count;

    /// <summary>Entries in the file's order.</summary>
    public IEnumerable<KeyValuePair<object, object?>> Items => _items;

    /// <summary>Looks an entry up by its text key.</summary>
    /// <param name="key">The key.</param>
    /// <param name="value">What it holds.</param>
    /// <returns>True where the key is there.</returns>
    public bool TryGet(string key, out object? value) => _items.TryGetValue(key, out value);

    /// <summary>Looks an entry up by its number, as optimizer states are keyed.</summary>
    /// <param name="key">The key.</param>
    /// <param name="value">What it holds.</param>
    /// <returns>True where the key is there.</returns>
    public bool TryGet(long key, out object? value) => _items.TryGetValue(key, out value);

    internal bool TryAdd(object key, object? value) => _items.TryAdd(key, value);
}

/// <summary>A tensor of a PyTorch file; its bytes come from <see cref="TorchFile.ReadFloats(TorchTensor)"/> or by name.</summary>
public sealed class TorchTensor
{
    internal TorchTensor(TorchStorage storage, long offset, TensorShape shape, long[] strides) =>
        (Storage, StorageOffset, Shape, Strides) = (storage, offset, shape, strides);

    /// <summary>Element type; null for one that IptNative does not read.</summary>
    public DType? DType => Storage.DType;

    /// <summary>Dimensions.</summary>
    public TensorShape Shape { get; }

    internal TorchStorage Storage { get; }

    internal long StorageOffset { get; }

    internal long[] Strides { get; }
}

/// <summary>A run of elements that tensors view; two tensors with one storage are tied.</summary>
/// <param name="Key">The entry's name below <c>data/</c>.</param>
/// <param name="TypeName">torch.FloatStorage and so on.</param>
/// <param name="DType">Null for a type that is not read.</param>
/// <param name="ElementBytes">1, 2, 4 or 8.</param>
/// <param name="Offset">First byte in the file.</param>
/// <param name="Elements">Number of elements.</param>
internal sealed record TorchStorage(string Key, string TypeName, DType? DType, int ElementBytes, long Offset, long Elements);
