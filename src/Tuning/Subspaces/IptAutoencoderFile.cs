// Autoencoders as other programs save them: the files of IPT's own code (torch.save), and plain W1/W2/W3 in safetensors. They do not say what model or prompt
// length they are for, so the caller does. Deliberately not: writing them, and AE types with other layers.
using System.Text.RegularExpressions;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Subspaces;

/// <summary>Reads prompt_W1, prompt_W2 and prompt_W3, with or without biases and prefixes.</summary>
/// <remarks>Source: thunlp/Intrinsic-Prompt-Tuning, best-ckpt.pt and last-ckpt.pt: {model: {..., prompt_W1.weight [d_I, n*D], ...}}; several GPUs prefix "module.".</remarks>
public static partial class IptAutoencoderFile
{
    private const string IntrinsicName = "prompt_task.weight";

    /// <summary>Reads an autoencoder.</summary>
    /// <param name="device">Where its tensors shall lie.</param>
    /// <param name="path">A .pt or .safetensors file.</param>
    /// <param name="dModel">D: the file only knows n*D.</param>
    /// <param name="model">The model that the user says it is of, or null.</param>
    /// <param name="projActivation">f; the file does not say.</param>
    /// <param name="innerActivation">g; the file does not say.</param>
    /// <returns>The subspace, with biases where the file has them; dispose it.</returns>
    /// <exception cref="InvalidDataException">The file is damaged, has other layers, or n*D is no multiple of D.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static AutoencoderSubspace Read(
        ComputeDevice device, string path, int dModel, ModelIdentity? model = null, SubspaceActivation projActivation = SubspaceActivation.Identity, SubspaceActivation innerActivation = SubspaceActivation.Tanh)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(dModel, 1);
        using TensorFile file = TensorFile.Open(path);
        Dictionary<string, string> stored = Names(file);
        long[][] weights = [Shape(file, stored, "W1"), Shape(file, stored, "W2"), Shape(file, stored, "W3")];
        (long dI, long elements, long inner) = (weights[0][0], weights[0][1], weights[1][0]);
        if (weights[1][1] != dI || weights[2][0] != elements || weights[2][1] != inner)
        {
            throw new InvalidDataException(
                $"{path}: reading an autoencoder; W1 is [{dI}, {elements}], W2 [{inner}, {weights[1][1]}], W3 [{weights[2][0]}, {weights[2][1]}], expected [d_I, n*D], [d'_I, d_I], [n*D, d'_I]. Only IPT's AE_type 1 and its variants with these three layers are read.");
        }
        if (elements % dModel != 0 || elements > int.MaxValue)
            throw new InvalidDataException($"{path}: reading an autoencoder; its prompts have {elements} numbers, expected a multiple of d_model={dModel}. It is of a model of another width.");
        var header = new SubspaceHeader
        {
            Kind = SubspaceKind.Autoencoder,
            Model = model,
            PromptLength = (int)(elements / dModel),
            DModel = dModel,
            IntrinsicDim = checked((int)dI),
            InnerDim = checked((int)inner),
            ProjActivation = projActivation,
            InnerActivation = innerActivation,
            ProjBias = stored.ContainsKey("W1.bias"),
            InnerBias = stored.ContainsKey("W2.bias"),
            OuterBias = stored.ContainsKey("W3.bias"),
            Trained = true,
        };
        try
        {
            header.Validate();
        }
        catch (ArgumentException e)
        {
            throw new InvalidDataException($"{path}: {e.Message}", e);
        }
        var subspace = new AutoencoderSubspace(device, header);
        try
        {
            foreach ((string name, TensorShape shape, Tensor value) in subspace.Tensors)
                SubspaceFile.Copy(device, file, stored[name], name, shape, value);
            return subspace;
        }
        catch
        {
            subspace.Dispose();
            throw;
        }
    }

    /// <summary>The intrinsic vector of an IST checkpoint.</summary>
    /// <param name="path">A .pt file.</param>
    /// <returns>d_I numbers.</returns>
    /// <exception cref="InvalidDataException">The file is damaged or has none.</exception>
    public static float[] ReadIntrinsicVector(string path)
    {
        using TensorFile file = TensorFile.Open(path);
        string? name = file.Names.FirstOrDefault(n => n == IntrinsicName || n.EndsWith("." + IntrinsicName, StringComparison.Ordinal));
        return name is not null ? file.ReadFloats(name)
            : throw new InvalidDataException($"{path}: reading an intrinsic vector; found no '{IntrinsicName}' among {file.Names.Count} tensors. Give a checkpoint of IPT's IST stage.");
    }

    private static Dictionary<string, string> Names(TensorFile file)
    {
        var names = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (string name in file.Names)
        {
            if (LayerName().Match(name) is { Success: true } match && !names.TryAdd(match.Groups[1].Value, name))
                throw new InvalidDataException($"{file.Path}: reading an autoencoder; found both '{names[match.Groups[1].Value]}' and '{name}', expected one of them. Save only the state dict.");
        }
        return names;
    }

    private static long[] Shape(TensorFile file, Dictionary<string, string> stored, string layer)
    {
        if (!stored.TryGetValue($"{layer}.weight", out string? name))
            throw new InvalidDataException($"{file.Path}: reading an autoencoder; found no 'prompt_{layer}.weight' (or '{layer}.weight') among {file.Names.Count} tensors. Give a checkpoint of IPT's MSF stage.");
        TensorShape shape = file.Describe(name).Shape;
        return shape.Rank == 2 && shape.Elements > 0 ? shape.Dims.ToArray() : throw new InvalidDataException($"{file.Path}: reading an autoencoder; '{name}' has shape {shape}, expected a matrix.");
    }

    [GeneratedRegex(@"^(?:module\.)?(?:prompt_)?(W[123]\.(?:weight|bias))$")]
    private static partial Regex LayerName();
}
