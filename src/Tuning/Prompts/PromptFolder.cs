// Which entries of a folder are prompts, and what they are called. Deliberately not: reading them (PromptFile).
namespace IptNative.Tuning.Prompts;

/// <summary>A prompt in a folder.</summary>
/// <param name="Name">Its entry's name, without a file's extension.</param>
/// <param name="Path">What <see cref="PromptFile"/> reads.</param>
public readonly record struct PromptEntry(string Name, string Path);

/// <summary>Finds prompts: PEFT folders, run folders with one best prompt, and files of prompts.</summary>
public static class PromptFolder
{
    private static readonly string[] Extensions = [".npy", ".safetensors", ".pt", ".bin"];

    /// <summary>Whether a path is a folder of prompts, and not a prompt itself.</summary>
    /// <param name="path">Any path.</param>
    /// <returns>False for files too.</returns>
    public static bool IsOne(string path) => Directory.Exists(path) && !IsAdapter(path);

    /// <summary>The prompts of a folder by name; what is none, or begins with a dot, is passed over.</summary>
    /// <param name="folder">The folder.</param>
    /// <returns>Two entries may have one name (a.npy and a/): the caller says what that means.</returns>
    public static IEnumerable<PromptEntry> Entries(string folder)
    {
        foreach (string entry in Directory.EnumerateFileSystemEntries(folder).Order(StringComparer.Ordinal))
        {
            string name = Path.GetFileName(entry);
            if (name.StartsWith('.'))
                continue;
            if (Directory.Exists(entry))
            {
                if (((string[])[entry, Path.Combine(entry, "best")]).FirstOrDefault(IsAdapter) is { } adapter)
                    yield return new PromptEntry(name, adapter);
            }
            else if (Extensions.Contains(Path.GetExtension(name), StringComparer.OrdinalIgnoreCase))
            {
                yield return new PromptEntry(Path.GetFileNameWithoutExtension(name), entry);
            }
        }
    }

    /// <summary>The prompts that some paths mean: a prompt itself, or all of a folder.</summary>
    /// <param name="paths">Prompts and folders of prompts.</param>
    /// <returns>In the order given; a prompt that was named itself is called by its path.</returns>
    /// <exception cref="InvalidDataException">A folder holds no prompt.</exception>
    public static IReadOnlyList<PromptEntry> Expand(IEnumerable<string> paths)
    {
        ArgumentNullException.ThrowIfNull(paths);
        var all = new List<PromptEntry>();
        foreach (string path in paths)
        {
            if (!IsOne(path))
            {
                all.Add(new PromptEntry(path, path));
                continue;
            }
            int before = all.Count;
            all.AddRange(Entries(path));
            if (all.Count == before)
                throw new InvalidDataException($"{path}: reading prompts; the folder holds none, expected PEFT folders, run folders or files ({string.Join(", ", Extensions)}). Name the folder of one prompt, or a folder of several.");
        }
        return all;
    }

    private static bool IsAdapter(string folder) => File.Exists(Path.Combine(folder, PeftPrompt.ConfigName));
}
