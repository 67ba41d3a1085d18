// Decides which files a checkpoint's path or name means. Deliberately not: reading them.
using IptNative.Model.Onnx;

namespace IptNative.Model.Checkpoints;

/// <summary>What a path was found to be.</summary>
/// <param name="Kind">Which reader takes it.</param>
/// <param name="Path">The weight file, its index, or for ONNX the folder or file.</param>
/// <param name="Folder">Where the tokenizer and config.json are looked for.</param>
internal readonly record struct LocatedCheckpoint(LocatedCheckpoint.Format Kind, string Path, string Folder)
{
    /// <summary>Which reader takes a checkpoint.</summary>
    public enum Format
    {
        /// <summary>safetensors or .bin, one file or an index.</summary>
        HuggingFace,

        /// <summary>A package or an exported pair.</summary>
        Onnx,
    }
}

/// <summary>Finds a checkpoint's files.</summary>
/// <param name="cache">Where Hub names are looked up.</param>
internal sealed class CheckpointLocator(HubCache cache)
{
    // In the order in which a folder is searched, after a package of ours.
    private static readonly string[] WeightFiles = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

    private static readonly string[] OtherFrameworks = ["tf_model.h5", "flax_model.msgpack", "model.ckpt.index", "rust_model.ot"];

    /// <summary>Finds what a path or Hub name means.</summary>
    /// <exception cref="InvalidDataException">The folder or file holds no checkpoint; the message lists what it holds.</exception>
    /// <exception cref="FileNotFoundException">There is no such file, folder or cached name.</exception>
    public LocatedCheckpoint Locate(string path)
    {
        if (Directory.Exists(path))
            return InFolder(path, path);
        if (File.Exists(path))
            return FromFile(path);
        if (HubCache.IsName(path) && !IsWeightFile(path))
            return InFolder(cache.Snapshot(path), path);
        throw new FileNotFoundException($"{path}: opening a checkpoint; there is no such file or folder. Give a folder with config.json and weights, a weight file, or a Hub name such as google/t5-base-lm-adapt.", path);
    }

    /// <summary>config.json beside a file, or in the folder above.</summary>
    /// <exception cref="InvalidDataException">There is none.</exception>
    public static string Config(string folder)
    {
        string full = Path.GetFullPath(folder);
        string[] candidates = [Path.Combine(folder, "config.json"), Path.Combine(Path.GetDirectoryName(full) ?? full, "config.json")];
        return candidates.FirstOrDefault(File.Exists)
            ?? throw new InvalidDataException($"{folder}: opening a checkpoint; config.json is missing, here and in the folder above. Copy it from the place where the weights came from.");
    }

    private static LocatedCheckpoint InFolder(string folder, string name)
    {
        if (OnnxCheckpoints.IsPackage(folder))
            return new(LocatedCheckpoint.Format.Onnx, folder, folder);
        foreach (string file in WeightFiles)
        {
            string path = Path.Combine(folder, file);
            if (File.Exists(path))
                return new(LocatedCheckpoint.Format.HuggingFace, path, folder);
        }
        if (OnnxCheckpoints.IsOptimumPair(folder))
            return new(LocatedCheckpoint.Format.Onnx, folder, folder);

        string[] held = [.. Directory.EnumerateFileSystemEntries(folder).Select(e => Path.GetFileName(e)).Order(StringComparer.Ordinal).Take(20)];
        string? other = OtherFrameworks.FirstOrDefault(held.Contains);
        string whatToDo = other is not null ? $"{other} is of another framework: convert it with transformers, from_pretrained(..., from_tf=True or from_flax=True).save_pretrained(DIR)."
            : held.Contains("adapter_config.json") ? "It is a PEFT adapter: give it as --prompt and its base model as the checkpoint."
            : folder != name ? HubCache.HowToFetch(name)
            : "Give the folder that save_pretrained or 'iptnative export' wrote.";
        throw new InvalidDataException($"{folder}: opening a checkpoint; found {(held.Length == 0 ? "an empty folder" : string.Join(", ", held))}, expected one of package.json, {string.Join(", ", WeightFiles)}, encoder_model.onnx. {whatToDo}");
    }

    private static LocatedCheckpoint FromFile(string path)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!; // a full path of a file has a folder
        string name = Path.GetFileName(path);
        if (name is "package.json" || name.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase))
            return new(LocatedCheckpoint.Format.Onnx, name is "package.json" ? folder : path, folder);
        if (name is "config.json")
            return InFolder(folder, folder);
        if (IsWeightFile(name))
            return new(LocatedCheckpoint.Format.HuggingFace, path, folder);
        throw new InvalidDataException($"{path}: opening a checkpoint; found a file of unknown kind, expected .safetensors, .bin, .pt, .pth, .index.json or .onnx. Give one of these or the checkpoint's folder.");
    }

    private static bool IsWeightFile(string name) =>
        ((string[])[".safetensors", ".bin", ".pt", ".pth", ".index.json", ".onnx"]).Any(e => name.EndsWith(e, StringComparison.OrdinalIgnoreCase));
}
