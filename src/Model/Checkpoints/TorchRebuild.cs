// The few functions of PyTorch that a pickle of tensors calls, and the list of what may be named. Deliberately not: opcodes (Unpickler).
using IptNative.Kernels;

namespace IptNative.Model.Checkpoints;

/// <summary>A name that a pickle may use.</summary>
internal abstract record TorchGlobal
{
    public static readonly TorchGlobal OrderedDict = new Function("collections.OrderedDict");
    public static readonly TorchGlobal RebuildTensor = new Function("torch._utils._rebuild_tensor_v2");
    public static readonly TorchGlobal RebuildParameter = new Function("torch._utils._rebuild_parameter");

    public sealed record Function(string Name) : TorchGlobal;

    public sealed record StorageType(string Name, DType? DType, int ElementBytes) : TorchGlobal;
}

/// <summary>Makes storages and tensors over the entries of one zip, checking every size against the file.</summary>
/// <param name="path">Named in messages.</param>
/// <param name="fileLength">Bound of what a tensor may grow to.</param>
/// <param name="entries">The zip's entries.</param>
/// <param name="prefix">The folder inside the zip, with its slash.</param>
internal sealed class TorchRebuild(string path, long fileLength, IReadOnlyDictionary<string, ZipEntry> entries, string prefix)
{
    private const int MaxRank = 64;

    private readonly Dictionary<string, TorchStorage> _storages = new(StringComparer.Ordinal);

    /// <summary>The value of a name on the list.</summary>
    /// <exception cref="InvalidDataException">Any other name; nothing is ever called.</exception>
    public TorchGlobal Global(string module, string name) => (module, name) switch
    {
        ("collections", "OrderedDict") => TorchGlobal.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => TorchGlobal.RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => TorchGlobal.RebuildParameter,
        ("torch", "FloatStorage") => new TorchGlobal.StorageType("torch.FloatStorage", DType.F32, 4),
        ("torch", "HalfStorage") => new TorchGlobal.StorageType("torch.HalfStorage", DType.F16, 2),
        ("torch", "BFloat16Storage") => new TorchGlobal.StorageType("torch.BFloat16Storage", DType.BF16, 2),
        ("torch", "DoubleStorage") => new TorchGlobal.StorageType("torch.DoubleStorage", DType.F64, 8),
        ("torch", "LongStorage") => new TorchGlobal.StorageType("torch.LongStorage", DType.I64, 8),
        ("torch", "IntStorage") => new TorchGlobal.StorageType("torch.IntStorage", DType.I32, 4),
        ("torch", "ShortStorage") => new TorchGlobal.StorageType("torch.ShortStorage", null, 2),
        ("torch", "CharStorage") => new TorchGlobal.StorageType("torch.CharStorage", DType.I8, 1),
        ("torch", "ByteStorage") => new TorchGlobal.StorageType("torch.ByteStorage", DType.U8, 1),
        ("torch", "BoolStorage") => new TorchGlobal.StorageType("torch.BoolStorage", DType.Bool, 1),
        _ => throw Refused(module, name),
    };

    /// <summary>The refusal of a name.</summary>
    public InvalidDataException Refused(string module, string name) => new(
        $"{path}: reading the pickle of a PyTorch file; it names '{Shown(module)}.{Shown(name)}', expected only tensors, storages and OrderedDict. "
        + "Such a file can run programs when PyTorch opens it: nothing was run here. If you trust it, save its state dict again with torch.save, or use safetensors.");

    /// <summary>The storage of a persistent id: ('storage', type, key, device, elements).</summary>
    /// <exception cref="InvalidDataException">The id is no storage, or its entry is missing or of another size.</exception>
    public TorchStorage Storage(object? id)
    {
        if (id is not object?[] { Length: >= 5 } t || t[0] is not "storage" || t[1] is not TorchGlobal.StorageType type || t[2] is not string key || t[4] is not long elements || elements < 0)
            throw Bad("a persistent id that is no storage");
        if (!entries.TryGetValue($"{prefix}data/{key}", out ZipEntry entry))
            throw Bad($"storage '{Shown(key)}', for which the zip has no entry '{prefix}data/{Shown(key)}'");
        if (elements > entry.Length / type.ElementBytes || elements * type.ElementBytes != entry.Length)
            throw Bad($"storage '{Shown(key)}' with {elements} elements of {type.Name}, its entry has {entry.Length} bytes");
        if (!_storages.TryGetValue(key, out TorchStorage? storage))
            _storages.Add(key, storage = new TorchStorage(key, type.Name, type.DType, type.ElementBytes, entry.Offset, elements));
        else if (storage.TypeName != type.Name)
            throw Bad($"storage '{Shown(key)}' as {storage.TypeName} and as {type.Name}");
        return storage;
    }

    /// <summary>The result of a rebuild function.</summary>
    /// <exception cref="InvalidDataException">The arguments are wrong, or the view leaves its storage.</exception>
    public TorchTensor Tensor(TorchGlobal function, object?[] arguments)
    {
        // A parameter is its tensor with requires_grad and hooks, which mean nothing here.
        if (function == TorchGlobal.RebuildParameter)
            return arguments is [TorchTensor data, _, _] ? data : throw Bad("_rebuild_parameter with wrong arguments");
        if (function != TorchGlobal.RebuildTensor)
            throw Bad($"a call of {(function as TorchGlobal.StorageType)?.Name ?? "something else"}");
        if (arguments is not [TorchStorage storage, long offset, object?[] size, object?[] stride, ..] || arguments.Length < 6 || size.Length != stride.Length || size.Length > MaxRank)
            throw Bad("_rebuild_tensor_v2 with wrong arguments");

        var dims = new long[size.Length];
        var strides = new long[size.Length];
        bool empty = false;
        long last = offset;
        long elements = 1;
        try
        {
            for (int i = 0; i < dims.Length; i++)
            {
                if (size[i] is not (long d and >= 0) || stride[i] is not (long s and >= 0))
                    throw Bad("a tensor with a size or stride below 0");
                (dims[i], strides[i]) = (d, s);
                empty |= d == 0;
                elements = checked(elements * d);
                if (d > 1)
                    last = checked(last + (d - 1) * s);
            }
        }
        catch (OverflowException e)
        {
            throw new InvalidDataException($"{path}: reading the pickle of a PyTorch file; found a tensor of [{string.Join(", ", size)}] elements, more than 64 bits can count. The file is damaged.", e);
        }
        if (offset < 0 || (empty ? offset > storage.Elements : last >= storage.Elements))
            throw Bad($"a tensor of [{string.Join(", ", dims)}] with strides [{string.Join(", ", strides)}] from element {offset}, which leaves its storage '{Shown(storage.Key)}' of {storage.Elements} elements");
        // Strides of 0 repeat elements: such a view may claim any size, and laying it out would take that much memory.
        if (elements > fileLength)
            throw Bad($"a tensor of [{string.Join(", ", dims)}] that repeats {storage.Elements} stored elements; save it with .contiguous()");
        return new TorchTensor(storage, offset, new TensorShape(dims), strides);
    }

    // A hostile name must not fill the terminal, nor steer it.
    private static string Shown(string name) =>
        new([.. name.Take(100).Select(c => char.IsControl(c) ? '?' : c)]);

    private InvalidDataException Bad(string found) =>
        new($"{path}: reading the pickle of a PyTorch file; found {found}. The file is damaged: copy or download it again.");
}
