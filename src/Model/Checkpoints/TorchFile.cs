// A torch.save file (.bin, .pt, .pth): zip, pickle and raw storages brought together. Deliberately not: writing, and formats before PyTorch 1.6.
using IptNative.Kernels;

namespace IptNative.Model.Checkpoints;

/// <summary>What torch.save wrote since PyTorch 1.6, read without running anything of it.</summary>
/// <remarks>
/// <see cref="TensorFile.Names"/> are the tensors of the state dict: the top-level dict, or the one under <c>state_dict</c> or <c>model</c> where a training
/// checkpoint wraps it. Tensors of nested dicts are named with dots. A file that is one bare tensor names it <see cref="BareTensor"/>.
/// </remarks>
public sealed class TorchFile : TensorFile
{
    /// <summary>The name of the tensor in a file that holds nothing else, as IPT saves its prompts.</summary>
    public const string BareTensor = "tensor";

    // A T5-XXL state dict pickles to 70 KB; optimizer checkpoints are of the same order.
    private const int MaxPickleBytes = 1 << 26;
    private const int MaxVisited = 1 << 20;

    private readonly Dictionary<string, ZipEntry> _entries;

    private TorchFile(MappedFile map)
        : base(map)
    {
        ForeignFormat.RefusePointer(map);
        _entries = ZipDirectory.Read(map);
        const string Pickle = "/data.pkl";
        string[] pickles = [.. _entries.Keys.Where(n => n.EndsWith(Pickle, StringComparison.Ordinal) && n.IndexOf('/') == n.Length - Pickle.Length)];
        if (pickles is not [string pickleName])
            throw new InvalidDataException($"{Path}: opening a PyTorch file; found a zip with {pickles.Length} entries '<name>/data.pkl', expected one. Is this a file of torch.save?");
        string prefix = pickleName[..^(Pickle.Length - 1)];
        RequireLittleEndian(prefix);

        ZipEntry pickle = _entries[pickleName];
        if (pickle.Length > MaxPickleBytes)
            throw new InvalidDataException($"{Path}: opening a PyTorch file; its pickle has {pickle.Length} bytes, expected at most {MaxPickleBytes}. Save only the state dict, or use safetensors.");
        Verify(pickle);
        Root = Unpickler.Read(Map.Span(pickle.Offset, (int)pickle.Length, "the pickle"), Path, new TorchRebuild(Path, Map.Length, _entries, prefix));
        Flatten();
    }

    /// <summary>The whole value that was saved: null, bool, long, double, string, byte[], <see cref="TorchTensor"/>, <see cref="TorchDict"/>, List (a list) or array (a tuple) of such values.</summary>
    /// <remarks>No container holds itself and nesting is at most 64 deep; a container may stand at several places.</remarks>
    public object? Root { get; }

    /// <summary>Opens a file and reads its pickle.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The file; dispose it.</returns>
    /// <exception cref="InvalidDataException">The file is damaged, of an older format, or names a class or function that is not on the list.</exception>
    /// <exception cref="IOException">The file cannot be opened.</exception>
    public static new TorchFile Open(string path)
    {
        var map = new MappedFile(path);
        try
        {
            return new TorchFile(map);
        }
        catch
        {
            map.Dispose();
            throw;
        }
    }

    /// <summary>A floating-point tensor of <see cref="Root"/> as floats.</summary>
    /// <param name="tensor">A tensor of this file.</param>
    /// <returns>Row-major values.</returns>
    /// <exception cref="InvalidDataException">No floating-point type, or more than 2^31 elements.</exception>
    public float[] ReadFloats(TorchTensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        StoredTensor t = Stored(BareTensor, tensor);
        if (t.DType is not { } type)
            throw new InvalidDataException($"{Path}: reading a tensor; its elements are {t.TypeName}, expected f32, f16, bf16 or f64.");
        long bytes = type.ByteLength(t.Shape.Elements);
        using var copy = NativeCopy.Of(Map.Address(t.Offset, t.ByteExtent, "a tensor"), t.Shape.Dims, t.Strides ?? StoredTensor.RowMajor(t.Shape), type.Bits() / 8, bytes);
        return WeightValues.ToFloats(new Weight(t.Name, type, t.Shape, copy.Address, bytes), Path);
    }

    /// <inheritdoc/>
    public override void VerifyChecksums()
    {
        foreach (ZipEntry entry in _entries.Values)
            Verify(entry);
    }

    private void Flatten()
    {
        int visited = 0;
        switch (Root)
        {
            case TorchTensor tensor:
                TryAdd(Stored(BareTensor, tensor));
                break;
            case TorchDict root:
                Add("", StateDict(root));
                break;
        }

        static TorchDict StateDict(TorchDict root)
        {
            if (root.Items.Any(i => i.Value is TorchTensor))
                return root;
            foreach (string key in (string[])["state_dict", "model"])
            {
                if (root.TryGet(key, out object? inner) && inner is TorchDict dict)
                    return dict;
            }
            return root;
        }

        // Depth is bounded by the unpickler; the work is bounded here, because dicts that stand at several places multiply.
        void Add(string prefix, TorchDict dict)
        {
            foreach ((object key, object? value) in dict.Items)
            {
                if (++visited > MaxVisited)
                    throw new InvalidDataException($"{Path}: reading the tensors of a PyTorch file; found more than {MaxVisited} entries in nested dicts. Save only the state dict, or use safetensors.");
                string name = $"{prefix}{key}";
                if (value is TorchDict inner)
                    Add($"{name}.", inner);
                else if (value is TorchTensor tensor && !TryAdd(Stored(name, tensor)))
                    throw new InvalidDataException($"{Path}: reading the tensors of a PyTorch file; found '{name}' twice. Save only the state dict, or use safetensors.");
            }
        }
    }

    private static StoredTensor Stored(string name, TorchTensor t)
    {
        TorchStorage s = t.Storage;
        long extent = 0;
        if (t.Shape.Elements > 0)
        {
            extent = 1;
            for (int i = 0; i < t.Shape.Rank; i++)
                extent += (t.Shape[i] - 1) * t.Strides[i];
        }
        return new StoredTensor(name, s.TypeName, s.DType, t.Shape, s.Offset + t.StorageOffset * s.ElementBytes, extent * s.ElementBytes, extent == 0 || IsRowMajor(t) ? null : t.Strides);
    }

    // The stride of a dimension of 1 is never used and may be anything.
    private static bool IsRowMajor(TorchTensor t)
    {
        long[] expected = StoredTensor.RowMajor(t.Shape);
        for (int i = 0; i < expected.Length; i++)
        {
            if (t.Shape[i] > 1 && t.Strides[i] != expected[i])
                return false;
        }
        return true;
    }

    private void RequireLittleEndian(string prefix)
    {
        if (!_entries.TryGetValue($"{prefix}byteorder", out ZipEntry entry))
            return;
        ReadOnlySpan<byte> order = Map.Span(entry.Offset, (int)Math.Min(entry.Length, 16), "the byte order");
        if (!order.SequenceEqual("little"u8))
            throw new InvalidDataException($"{Path}: opening a PyTorch file; its byte order is not 'little'. Save it again on a little-endian machine, or use safetensors.");
    }

    private void Verify(ZipEntry entry)
    {
        // torch.serialization.set_crc32_options(False) leaves the sum out.
        if (entry.Crc == 0)
            return;
        const int Chunk = 1 << 24;
        uint crc = 0;
        for (long at = 0; at < entry.Length; at += Chunk)
            crc = Crc32.Append(crc, Map.Span(entry.Offset + at, (int)Math.Min(Chunk, entry.Length - at), $"entry '{entry.Name}'"));
        if (crc != entry.Crc)
            throw new InvalidDataException($"{Path}: checking entry '{entry.Name}'; its bytes have the check sum {crc:x8}, the file says {entry.Crc:x8}. The file is damaged: copy or download it again.");
    }
}
