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
                {
                    foreach (PromptEntry part in Parts(name, adapter, prefix: true))
                        yield return part;
                }
            }
            else if (Extensions.Contains(Path.GetExtension(name), StringComparer.OrdinalIgnoreCase))
            {
                foreach (PromptEntry part in Parts(Path.GetFileNameWithoutExtension(name), entry, prefix: false))
                    yield return part;
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
                IReadOnlyList<string> parts = PromptSetFile.Names(path);
                all.AddRange(parts.Count == 0 ? [new PromptEntry(path, path)] : parts.Select(p => new PromptEntry(PromptSetFile.Address(path, p), PromptSetFile.Address(path, p))));
                continue;
            }
            int before = all.Count;
            all.AddRange(Entries(path));
            if (all.Count == before)
                throw new InvalidDataException($"{path}: reading prompts; the folder holds none, expected PEFT folders, run folders or files ({string.Join(", ", Extensions)}). Name the folder of one prompt, or a folder of several.");
        }
        return all;
    }

    // A damaged file is an entry too: whoever reads it says what is wrong.
    private static IEnumerable<PromptEntry> Parts(string name, string path, bool prefix)
    {
        IReadOnlyList<string> parts;
        try
        {
            parts = PromptSetFile.Names(path);
        }
        catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException)
        {
            parts = [];
        }
        return parts.Count == 0 ? [new PromptEntry(name, path)] : parts.Select(p => new PromptEntry(prefix ? $"{name}-{p}" : p, PromptSetFile.Address(path, p)));
    }

    private static bool IsAdapter(string folder) => File.Exists(Path.Combine(folder, PeftPrompt.ConfigName));
}
