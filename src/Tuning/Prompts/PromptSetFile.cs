// Many prompts in one safetensors file, each a tensor by its name; and the addresses of their parts: FILE#NAME. Deliberately not: folders of prompts
// (PromptFolder), prompts that are to be trained together.
using IptNative.Kernels;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Prompts;

/// <summary>Reads and writes files of several prompts, and reads single tasks of PEFT's multi-task adapters.</summary>
/// <remarks>A prompt's template is metadata "template.NAME". Any program that reads safetensors reads the tensors [virtual tokens, d_model].</remarks>
public static class PromptSetFile
{
    private const string TemplateKey = "template.";

    /// <summary>The prompts' names, where a path has several.</summary>
    /// <param name="path">A .safetensors file, or a PEFT folder.</param>
    /// <returns>In the file's order; empty where it is one prompt, or none.</returns>
    /// <exception cref="InvalidDataException">The file is damaged.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static IReadOnlyList<string> Names(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (Directory.Exists(path))
            return PeftPrompt.Tasks(path);
        if (!path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase) || !File.Exists(path))
            return [];
        using SafetensorsFile file = SafetensorsFile.Open(path);
        string[] names = [.. file.Names];
        return names.Length < 2 || names.Contains(PeftPrompt.TensorName) ? [] : names;
    }

    /// <summary>The address of one prompt of several.</summary>
    /// <param name="path">File or folder.</param>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <returns>What <see cref="PromptFile.Read"/> reads.</returns>
    public static string Address(string path, string name) => $"{path}#{name}";

    /// <summary>Takes an address apart.</summary>
    /// <param name="address">FILE#NAME.</param>
    /// <returns>Null where it is none, or where there is no such file or folder.</returns>
    public static (string Path, string Name)? Split(string address)
    {
        ArgumentNullException.ThrowIfNull(address);
        for (int at = address.LastIndexOf('#'); at > 0; at = address.LastIndexOf('#', at - 1))
        {
            string path = address[..at];
            if (at + 1 < address.Length && (File.Exists(path) || Directory.Exists(path)))
                return (path, address[(at + 1)..]);
        }
        return null;
    }

    /// <summary>Reads one of several prompts.</summary>
    /// <param name="path">A .safetensors file, or a PEFT folder of several tasks.</param>
    /// <param name="name">Its name, or the task's number.</param>
    /// <returns>The prompt.</returns>
    /// <exception cref="InvalidDataException">The file is damaged, or has no such prompt.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static Prompt Read(string path, string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentException.ThrowIfNullOrEmpty(name);
        if (Directory.Exists(path))
            return PeftPrompt.Read(path, name);
        using TensorFile file = TensorFile.Open(path);
        if (!file.Contains(name))
            throw new InvalidDataException($"{path}: reading prompt '{name}'; the file has {file.Names.Count} prompts, the nearest name is '{NearestName.Of(file.Names, name)}'.");
        return Of(file, name);
    }

    /// <summary>Writes several prompts, whole or not at all.</summary>
    /// <param name="path">A .safetensors file.</param>
    /// <param name="prompts">Unique names; all of one width.</param>
    /// <exception cref="ArgumentException">There are none, two have one name, or their widths differ.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(string path, IReadOnlyList<KeyValuePair<string, Prompt>> prompts)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(prompts);
        if (prompts.Count == 0)
            throw new ArgumentException("Writing prompts: found none, expected at least one.", nameof(prompts));
        var writer = new SafetensorsWriter();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach ((string name, Prompt prompt) in prompts)
        {
            if (!seen.Add(name) || name.Length == 0 || name == PeftPrompt.TensorName)
                throw new ArgumentException($"Writing prompts: the name '{name}' {(seen.Contains(name) && name.Length > 0 && name != PeftPrompt.TensorName ? "is there twice" : "is not to be used")}, expected unique names. Rename one of them.", nameof(prompts));
            if (prompt.DModel != prompts[0].Value.DModel)
                throw new ArgumentException($"Writing prompts: '{name}' has d_model {prompt.DModel}, '{prompts[0].Key}' has {prompts[0].Value.DModel}; expected one width. Prompts of one file belong to one model.", nameof(prompts));
            writer.Add(name, new TensorShape(prompt.Length, prompt.DModel), prompt.Values);
            if (prompt.Template is { } template)
                writer.WithMetadata(TemplateKey + name, template.Source);
        }
        writer.Save(path);
    }

    internal static Prompt Of(TensorFile file, string name)
    {
        string address = Address(file.Path, name);
        Prompt prompt = PromptFile.Make(address, file.ReadFloats(name), file.Describe(name).Shape);
        if (!file.Metadata.TryGetValue(TemplateKey + name, out string? template))
            return prompt;
        try
        {
            return prompt with { Template = PromptTemplate.Parse(template) };
        }
        catch (ArgumentException e)
        {
            throw new InvalidDataException($"{address}: {e.Message}", e);
        }
    }
}
