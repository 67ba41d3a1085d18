// Reads prompts in every form that other projects write. Deliberately not: T5X's zarr folders, prefixes inside the layers.
using IptNative.Kernels;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Prompts;

/// <summary>Prompts on disk: PEFT folders, NumPy files (T5X's without extension too), safetensors, and torch.save files of one tensor (IPT's).</summary>
public static class PromptFile
{
    /// <summary>Reads a prompt.</summary>
    /// <param name="path">A PEFT folder or a file; a file is known by its first bytes, then by its name.</param>
    /// <returns>The prompt, all of whose numbers are finite.</returns>
    /// <exception cref="InvalidDataException">The file is damaged, or holds something else than one prompt.</exception>
    /// <exception cref="IOException">There is no such file or folder, or it cannot be read.</exception>
    public static Prompt Read(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (Directory.Exists(path))
            return PeftPrompt.Read(path);
        if (!File.Exists(path) && PromptSetFile.Split(path) is { } part)
            return PromptSetFile.Read(part.Path, part.Name);
        if (!File.Exists(path))
            throw new FileNotFoundException($"{path}: reading a prompt; there is no such file or folder. Give a PEFT folder, a .npy, .safetensors or .pt file.", path);
        if (Path.GetFileName(path) is "adapter_config.json" or "adapter_model.safetensors" or "adapter_model.bin")
            return PeftPrompt.Read(Path.GetDirectoryName(Path.GetFullPath(path))!); // a full path of a file has a folder
        if (NumpyFile.IsNumpy(path))
        {
            NumpyFile array = NumpyFile.Read(path);
            return Make(path, array.ToFloats(), array.Shape);
        }
        using TensorFile file = TensorFile.Open(path);
        string name = Single(file);
        if (file.Names.Count == 1 && name != PeftPrompt.TensorName)
            return PromptSetFile.Of(file, name);
        return Make(path, file.ReadFloats(name), file.Describe(name).Shape);
    }

    /// <summary>A prompt of [P, D], or of [1, P, D] as some tools save it.</summary>
    internal static Prompt Make(string path, float[] values, TensorShape shape)
    {
        int first = shape.Rank == 3 && shape[0] == 1 ? 1 : 0;
        if (shape.Rank - first != 2 || shape.Elements == 0)
            throw new InvalidDataException($"{path}: reading a prompt; found shape {shape}, expected [virtual tokens, d_model].");
        int bad = Array.FindIndex(values, v => !float.IsFinite(v));
        if (bad >= 0)
            throw new InvalidDataException($"{path}: reading a prompt {shape}; row {bad / shape[shape.Rank - 1]} has a NaN or infinity, expected finite numbers. The training that made it diverged: take an earlier checkpoint.");
        return new Prompt(values, (int)shape[first], (int)shape[first + 1]);
    }

    // PEFT's name, or the only tensor there is.
    private static string Single(TensorFile file)
    {
        if (file.Contains(PeftPrompt.TensorName))
            return PeftPrompt.TensorName;
        if (file.Names is [string only])
            return only;
        throw new InvalidDataException($"{file.Path}: reading a prompt; found {file.Names.Count} tensors ({string.Join(", ", file.Names.Take(5))}{(file.Names.Count > 5 ? ", ..." : "")}), expected '{PeftPrompt.TensorName}' or a single one. Of a file with several prompts name one: {file.Path}#{file.Names[0]}.");
    }
}
