// Finds a Hub name in the local Hugging Face cache. Deliberately not: downloading anything.
using System.Text.RegularExpressions;

namespace IptNative.Model.Checkpoints;

/// <summary>The cache folder that huggingface_hub fills: models--org--name/{refs,snapshots,blobs}.</summary>
/// <param name="environment">Reads an environment variable; tests pass their own.</param>
internal sealed partial class HubCache(Func<string, string?> environment)
{
    /// <summary>Whether a text can be a Hub name: <c>name</c> or <c>org/name</c>, with <c>@revision</c> where wanted.</summary>
    public static bool IsName(string text) => Name().IsMatch(text) && !text.Contains("..", StringComparison.Ordinal) && !text.Contains("--", StringComparison.Ordinal);

    /// <summary>The cache folder by huggingface_hub's own rules.</summary>
    public string Folder
    {
        get
        {
            if (Variable("HF_HUB_CACHE") is { } hub)
                return hub;
            if (Variable("HUGGINGFACE_HUB_CACHE") is { } old)
                return old;
            if (Variable("HF_HOME") is { } home)
                return Path.Combine(home, "hub");
            string cache = Variable("XDG_CACHE_HOME") ?? Path.Combine(Variable("HOME") ?? Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
            return Path.Combine(cache, "huggingface", "hub");
        }
    }

    /// <summary>The snapshot folder of a name.</summary>
    /// <param name="name">See <see cref="IsName"/>.</param>
    /// <returns>An existing folder.</returns>
    /// <exception cref="FileNotFoundException">It is not in the cache; the message says how to fetch it.</exception>
    public string Snapshot(string name)
    {
        Match m = Name().Match(name);
        string repository = m.Groups["repo"].Value;
        string revision = m.Groups["rev"].Success ? m.Groups["rev"].Value : "main";
        string folder = Path.Combine(Folder, $"models--{repository.Replace("/", "--", StringComparison.Ordinal)}");
        string snapshots = Path.Combine(folder, "snapshots");
        if (!Directory.Exists(snapshots))
            throw Missing($"'{name}' is neither a file nor a folder here, nor in the Hugging Face cache {Folder}", repository);

        string reference = Path.Combine(folder, "refs", revision);
        if (File.Exists(reference) && new FileInfo(reference).Length < 256)
        {
            string commit = File.ReadAllText(reference).Trim();
            if (Commit().IsMatch(commit) && Directory.Exists(Path.Combine(snapshots, commit)))
                return Path.Combine(snapshots, commit);
        }
        if (Commit().IsMatch(revision) && Directory.Exists(Path.Combine(snapshots, revision)))
            return Path.Combine(snapshots, revision);
        string[] all = Directory.GetDirectories(snapshots);
        if (all is [string only] && !m.Groups["rev"].Success)
            return only;
        throw Missing($"'{name}' is in the Hugging Face cache, but not revision '{revision}': {folder} has {all.Length} snapshots ({string.Join(", ", all.Select(Path.GetFileName))})", repository);
    }

    /// <summary>How a repository is fetched into the cache.</summary>
    public static string HowToFetch(string name) =>
        $"Fetch it with 'hf download {Name().Match(name).Groups["repo"].Value}' (older: huggingface-cli download), or name a folder that holds config.json and the weights.";

    private static FileNotFoundException Missing(string found, string repository) =>
        new($"opening a checkpoint; {found}. {HowToFetch(repository)}");

    private string? Variable(string name) => environment(name) is { Length: > 0 } value ? value : null;

    [GeneratedRegex(@"^(?<repo>[A-Za-z0-9_][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?)(@(?<rev>[A-Za-z0-9_][\w.-]{0,95}))?$", RegexOptions.CultureInvariant | RegexOptions.ExplicitCapture)]
    private static partial Regex Name();

    [GeneratedRegex("^[0-9a-f]{40}$", RegexOptions.CultureInvariant)]
    private static partial Regex Commit();
}
