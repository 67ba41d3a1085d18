// Subspaces on disk: safetensors with the header as one text entry. Deliberately not: IPT's own files (IptAutoencoderFile).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Subspaces;

/// <summary>Writes and reads subspaces of every kind.</summary>
internal static class SubspaceFile
{
    /// <summary>The header's key in <c>__metadata__</c>.</summary>
    public const string HeaderKey = "iptnative_subspace";

    public static void Save(PromptSubspace subspace, string path)
    {
        SafetensorsWriter writer = new SafetensorsWriter().WithMetadata(HeaderKey, subspace.Header.ToJson());
        var here = new List<DeviceBuffer>();
        using var cpu = new CpuDevice(1);
        try
        {
            foreach ((string name, TensorShape shape, Tensor value) in subspace.Tensors)
                writer.Add(new Weight(name, value.DType, shape, OnHost(cpu, value, name, here), value.DType.ByteLength(value.Elements)));
            writer.Save(path);
        }
        finally
        {
            foreach (DeviceBuffer buffer in here)
                buffer.Dispose();
        }
    }

    /// <summary>Whether a file says itself what subspace it holds; IPT's own files do not.</summary>
    public static bool HasHeader(string path)
    {
        using TensorFile file = TensorFile.Open(path);
        return file.Metadata.ContainsKey(HeaderKey);
    }

    /// <summary>The header alone, without the tensors.</summary>
    public static SubspaceHeader ReadHeader(TensorFile file) => file.Metadata.TryGetValue(HeaderKey, out string? json)
        ? SubspaceHeader.Parse(json, file.Path)
        : throw new InvalidDataException($"{file.Path}: reading a subspace; found no '{HeaderKey}' in its metadata. It is another safetensors file; IPT's own autoencoders are read with their sizes given.");

    public static PromptSubspace Load(ComputeDevice device, string path)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentException.ThrowIfNullOrEmpty(path);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        SubspaceHeader header = ReadHeader(file);
        // The file's own shapes first: the header alone must not make anyone allocate.
        string largest = header.Kind switch { SubspaceKind.Autoencoder => "W3.weight", SubspaceKind.Fastfood => "offset", _ => "basis" };
        long elements = header.Kind == SubspaceKind.Fastfood ? header.PromptElements : (long)header.PromptElements * (header.Kind == SubspaceKind.Autoencoder ? header.InnerDim : header.IntrinsicDim);
        if (file.Describe(largest) is var found && found.Shape.Elements != elements)
            throw new InvalidDataException($"{path}: tensor '{largest}' has shape {found.Shape}, the header implies {elements} elements (n*D={header.PromptElements}, d_I={header.IntrinsicDim}, d'_I={header.InnerDim}). Make the subspace again.");
        PromptSubspace subspace = header.Kind switch
        {
            SubspaceKind.Autoencoder => new AutoencoderSubspace(device, header),
            SubspaceKind.Fastfood => new FastfoodSubspace(device, header),
            _ => new LinearSubspace(device, header),
        };
        try
        {
            foreach ((string name, TensorShape shape, Tensor value) in subspace.Tensors)
                Copy(device, file, name, name, shape, value);
            subspace.Complete(path);
            return subspace;
        }
        catch
        {
            subspace.Dispose();
            throw;
        }
    }

    /// <summary>Fills a subspace's tensor from a file's, after looking at its shape and numbers.</summary>
    public static void Copy(ComputeDevice device, TensorFile file, string stored, string name, TensorShape shape, Tensor value)
    {
        Weight weight = file[stored];
        if (weight.Shape != shape)
            throw new InvalidDataException($"{file.Path}: tensor '{stored}' has shape {weight.Shape}, the subspace's {name} is {shape}. Make the subspace again.");
        if (value.DType == DType.I32)
        {
            if (weight.DType != DType.I32)
                throw new InvalidDataException($"{file.Path}: tensor '{stored}' holds {weight.DType.Name()}, expected i32. Make the subspace again.");
            using var cpu = new CpuDevice(1);
            value.CopyFrom<int>(new Tensor(cpu, weight.Address, DType.I32, value.Elements).ToArray<int>());
            return;
        }
        if (weight.DType is not (DType.F32 or DType.F16 or DType.BF16))
            throw new InvalidDataException($"{file.Path}: tensor '{stored}' holds {weight.DType.Name()}, expected f32, f16 or bf16.");
        Widen(device, weight, value);
        long bad = Reductions.FirstNonFinite(device, value, value.Elements);
        if (bad >= 0)
            throw new InvalidDataException($"{file.Path}: tensor '{stored}' {shape} has a NaN or infinity at element {bad}, expected finite numbers. The training that made it diverged: take an earlier file.");
    }

    // The file's numbers as float32 where the subspace computes.
    private static void Widen(ComputeDevice device, in Weight weight, Tensor value)
    {
        if (device is CpuDevice)
        {
            Conversion.ToF32(device, new Tensor(device, weight.Address, weight.DType, value.Elements), value, value.Elements);
            return;
        }
        using var cpu = new CpuDevice(1);
        float[] chunk = new float[Math.Min(value.Elements, 1 << 16)];
        using DeviceBuffer wide = cpu.Allocate(DType.F32, chunk.Length, "numbers of a subspace");
        var stored = new Tensor(cpu, weight.Address, weight.DType, value.Elements);
        for (long at = 0; at < value.Elements; at += chunk.Length)
        {
            int count = (int)Math.Min(chunk.Length, value.Elements - at);
            Tensor part = wide.Tensor.Slice(0, count);
            Conversion.ToF32(cpu, stored.Slice(at, count), part, count);
            part.CopyTo<float>(chunk.AsSpan(0, count));
            value.Slice(at, count).CopyFrom<float>(chunk.AsSpan(0, count));
        }
    }

    // A tensor's bytes as the host sees them: its own, or a copy.
    private static nint OnHost(CpuDevice cpu, Tensor value, string name, List<DeviceBuffer> copies)
    {
        if (value.Device is CpuDevice)
            return value.Address;
        DeviceBuffer copy = cpu.Allocate(value.DType, value.Elements, $"a copy of {name}, to be written");
        copies.Add(copy);
        if (value.DType == DType.F32)
            copy.Tensor.CopyFrom<float>(value.ToArray<float>());
        else
            copy.Tensor.CopyFrom<int>(value.ToArray<int>());
        return copy.Tensor.Address;
    }

    public static SortedDictionary<string, long> WithSeed(SubspaceHeader header, string what, long seed) => new(header.Seeds.ToDictionary(), StringComparer.Ordinal) { [what] = seed };

    public static SubspaceHeader RandomHeader(SubspaceHeader header, SubspaceKind kind, long seed) =>
        header with { Kind = kind, InnerDim = 0, Trained = false, SourceTasks = [], Seeds = WithSeed(header, "init", seed) };

    /// <summary>Writes numbers in chunks: the largest tensor has 59 million at T5-base size.</summary>
    public static void Fill(Tensor tensor, Func<float> next)
    {
        float[] chunk = new float[Math.Min(tensor.Elements, 1 << 16)];
        for (long at = 0; at < tensor.Elements; at += chunk.Length)
        {
            int count = (int)Math.Min(chunk.Length, tensor.Elements - at);
            for (int i = 0; i < count; i++)
                chunk[i] = next();
            tensor.Slice(at, count).CopyFrom<float>(chunk.AsSpan(0, count));
        }
    }

    public static void FillOrigin(PromptSubspace subspace, Tensor offset, Prompt? origin)
    {
        SubspaceHeader header = subspace.Header;
        if (origin is not null && (origin.Length != header.PromptLength || origin.DModel != header.DModel))
            throw new ArgumentException($"subspace: the origin has shape [{origin.Length}, {origin.DModel}], expected [{header.PromptLength}, {header.DModel}].", nameof(origin));
        float scale = header.Standardisation.Scale;
        offset.CopyFrom<float>(origin is null ? new float[offset.Elements] : Array.ConvertAll(origin.Values, v => v / scale));
    }

    /// <summary>A shared space needs at least two tasks.</summary>
    public static void RequireTasks(string what, IReadOnlyList<string> tasks)
    {
        if (tasks.Count < 2)
            throw new ArgumentException($"{what}: found {tasks.Count} training task{(tasks.Count == 1 ? $" ('{tasks[0]}')" : "s")}, expected at least 2. A space that tasks share cannot be found from fewer.");
    }
}
