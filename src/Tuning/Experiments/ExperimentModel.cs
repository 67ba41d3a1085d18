// Which model package an experiment is about, file by file, so that results of another one are never taken for its own: a tokenizer counts here, which says nothing
// of whether a subspace fits (Subspaces.ModelIdentity). Deliberately does not load weights.
using System.Security.Cryptography;
using System.Text;
using IptNative.Model.Config;

namespace IptNative.Tuning.Experiments;

/// <summary>What of a model package the plan must know.</summary>
/// <param name="Hash">SHA-256 that changes with the weights, the configuration or the tokenizer.</param>
/// <param name="DModel">D.</param>
public sealed record ExperimentModel(string Hash, int DModel)
{
    /// <summary>Reads a package folder. package.json holds the sha256 of every other file; a folder without it is hashed file by file.</summary>
    /// <param name="folder">Folder of the package.</param>
    /// <returns>The identity.</returns>
    /// <exception cref="InvalidDataException">The folder is missing, or its configuration is no T5's.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static ExperimentModel Read(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        if (!Directory.Exists(folder)) throw new InvalidDataException($"{folder}: opening the experiment's model; there is no such folder. \"model\" names a package folder, as iptnative export writes it.");
        int dModel = T5Config.Load(Path.Combine(folder, "config.json")).DModel;
        string package = Path.Combine(folder, "package.json");
        string[] files = File.Exists(package) ? [package] : [.. Directory.GetFiles(folder).Order(StringComparer.Ordinal)];
        using var whole = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string file in files)
        {
            using FileStream stream = File.OpenRead(file);
            whole.AppendData(Encoding.UTF8.GetBytes(Path.GetFileName(file)));
            whole.AppendData(SHA256.HashData(stream));
        }
        return new ExperimentModel(Convert.ToHexStringLower(whole.GetHashAndReset()), dModel);
    }
}
