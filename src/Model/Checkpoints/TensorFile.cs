// The tensors of one file by name, whatever its format. Deliberately not: what the names mean (HfCheckpoint does).
using System.Diagnostics.CodeAnalysis;
using System.Numerics;
using System.Runtime.InteropServices;
using IptNative.Kernels;

namespace IptNative.Model.Checkpoints;

/// <summary>Type and shape of a tensor in a file, without its bytes.</summary>
/// <param name="Name">As the file has it.</param>
/// <param name="TypeName">The file's own name of the element type, for messages.</param>
/// <param name="DType">Null for an element type that IptNative does not read, for example 16-bit integers.</param>
/// <param name="Shape">Dimensions.</param>
public readonly record struct TensorInfo(string Name, string TypeName, DType? DType, TensorShape Shape);

/// <summary>An opened file of named tensors: safetensors or PyTorch's zip.</summary>
/// <remarks>
/// Tensors lie in the mapped file where that is possible; a strided or unaligned one is copied once into native memory when first asked for.
/// Thread-safe for reading. Addresses are valid until Dispose.
/// </remarks>
public abstract class TensorFile : IDisposable
{
    private readonly Dictionary<string, StoredTensor> _tensors = new(StringComparer.Ordinal);
    private readonly List<string> _names = [];
    private readonly Dictionary<StoredTensor, NativeCopy> _copies = new(ReferenceEqualityComparer.Instance);

    private protected TensorFile(MappedFile map) => Map = map;

    /// <summary>The file's path as it was given.</summary>
    public string Path => Map.Path;

    /// <summary>Names in the file's order.</summary>
    public IReadOnlyList<string> Names => _names;

    /// <summary>The file's own text entries (safetensors' <c>__metadata__</c>); empty where it has none.</summary>
    public virtual IReadOnlyDictionary<string, string> Metadata { get; } = new Dictionary<string, string>();

    /// <summary>True where the file on disk is no longer the one that was opened.</summary>
    public bool HasChanged => Map.HasChanged();

    private protected MappedFile Map { get; }

    /// <summary>A tensor's bytes.</summary>
    /// <param name="name">As in <see cref="Names"/>.</param>
    /// <returns>Row-major, contiguous, aligned to its element; owned by this file.</returns>
    /// <exception cref="InvalidDataException">The file has no such tensor, or it is of a type that is not read.</exception>
    public Weight this[string name]
    {
        get
        {
            StoredTensor t = Find(name);
            if (t.DType is not { } type)
                throw new InvalidDataException($"{Path}: reading tensor '{name}'; its elements are {t.TypeName}, expected one of f32, f16, bf16, f64, i64, i32, i8, u8, bool. Convert it before saving.");
            long bytes = type.ByteLength(t.Shape.Elements);
            return new Weight(name, type, t.Shape, Address(t, type, bytes), bytes);
        }
    }

    /// <summary>Opens a file by its first bytes; a name that ends in <c>.safetensors</c> is taken at its word.</summary>
    /// <param name="path">A <c>.safetensors</c>, <c>.bin</c>, <c>.pt</c> or <c>.pth</c> file.</param>
    /// <returns>The file; dispose it.</returns>
    /// <exception cref="InvalidDataException">The file is damaged, or of a format that is not read; the message says which and what to do.</exception>
    /// <exception cref="IOException">The file cannot be opened.</exception>
    public static TensorFile Open(string path) =>
        path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase) ? SafetensorsFile.Open(path) : TorchFile.Open(path);

    /// <summary>Whether the file has the tensor.</summary>
    /// <param name="name">A name.</param>
    /// <returns>True where <see cref="Names"/> has it.</returns>
    public bool Contains(string name) => _tensors.ContainsKey(name);

    /// <summary>Type and shape, without touching the bytes.</summary>
    /// <param name="name">As in <see cref="Names"/>.</param>
    /// <returns>What the file says.</returns>
    /// <exception cref="InvalidDataException">The file has no such tensor.</exception>
    public TensorInfo Describe(string name)
    {
        StoredTensor t = Find(name);
        return new TensorInfo(name, t.TypeName, t.DType, t.Shape);
    }

    /// <summary>A floating-point tensor's values as floats; meant for small ones (prompts, autoencoders).</summary>
    /// <param name="name">As in <see cref="Names"/>.</param>
    /// <returns>Row-major values; f64 is rounded, f16 and bf16 are exact.</returns>
    /// <exception cref="InvalidDataException">No such tensor, no floating-point type, or more than 2^31 elements.</exception>
    public float[] ReadFloats(string name) => WeightValues.ToFloats(this[name], Path);

    /// <summary>Refuses to go on with a file that was truncated or rewritten since it was opened.</summary>
    /// <exception cref="IOException">It was.</exception>
    public void RequireUnchanged() => Map.RequireUnchanged();

    /// <summary>Whether memory is that of the file itself.</summary>
    internal bool IsMapped(in Weight weight) => Map.Contains(weight.Address, weight.ByteLength);

    /// <summary>Gives back the memory that holds a tensor: a copy is freed and its address dead, mapped pages are read again when touched again.</summary>
    /// <param name="name">As in <see cref="Names"/>.</param>
    public void Release(string name)
    {
        if (!_tensors.TryGetValue(name, out StoredTensor? t))
            return;
        lock (_copies)
        {
            if (_copies.Remove(t, out NativeCopy? copy))
                copy.Dispose();
        }
        Map.Forget(t.Offset, t.ByteExtent);
    }

    /// <summary>Compares the bytes with the check sums that the format carries; safetensors has none.</summary>
    /// <exception cref="InvalidDataException">Bytes have changed since the file was written.</exception>
    public virtual void VerifyChecksums()
    {
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_copies)
        {
            foreach (NativeCopy copy in _copies.Values)
                copy.Dispose();
            _copies.Clear();
        }
        Map.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Adds a tensor whose range has been checked to lie in the file.</summary>
    /// <returns>False where the name is taken.</returns>
    private protected bool TryAdd(StoredTensor tensor)
    {
        if (!_tensors.TryAdd(tensor.Name, tensor))
            return false;
        _names.Add(tensor.Name);
        return true;
    }

    [SuppressMessage("Design", "CA1062", Justification = "Internal: every caller passes a table entry.")]
    private nint Address(StoredTensor t, DType type, long bytes)
    {
        int size = type.Bits() / 8;
        if (t.Strides is null)
        {
            nint mapped = Map.Address(t.Offset, bytes, $"tensor '{t.Name}'");
            if (BitOperations.IsPow2(size) && mapped % size == 0)
                return mapped;
        }
        lock (_copies)
        {
            ref NativeCopy? copy = ref CollectionsMarshal.GetValueRefOrAddDefault(_copies, t, out _);
            copy ??= NativeCopy.Of(
                Map.Address(t.Offset, t.ByteExtent, $"tensor '{t.Name}'"), t.Shape.Dims, t.Strides ?? StoredTensor.RowMajor(t.Shape), size, bytes);
            return copy.Address;
        }
    }

    private StoredTensor Find(string name) => _tensors.TryGetValue(name, out StoredTensor? t) ? t
        : throw new InvalidDataException($"{Path}: tensor '{name}' is missing; {NearestName.Among(_names, name)}.");
}

/// <summary>Where a tensor lies in a file.</summary>
/// <param name="Name">As the file has it.</param>
/// <param name="TypeName">The file's name of the element type.</param>
/// <param name="DType">Null for a type that is not read.</param>
/// <param name="Shape">Dimensions; the product fits 64 bits.</param>
/// <param name="Offset">First byte in the file.</param>
/// <param name="ByteExtent">Bytes from the first to the end of the last element.</param>
/// <param name="Strides">In elements; null where row-major and contiguous.</param>
internal sealed record StoredTensor(string Name, string TypeName, DType? DType, TensorShape Shape, long Offset, long ByteExtent, long[]? Strides)
{
    public static long[] RowMajor(TensorShape shape)
    {
        var strides = new long[shape.Rank];
        long step = 1;
        for (int i = shape.Rank - 1; i >= 0; i--)
        {
            strides[i] = step;
            step *= shape[i];
        }
        return strides;
    }
}
