// The index of a sharded checkpoint: which tensor lies in which file. Deliberately not: the shards' formats.
using System.Text.Json;
using IptNative.Model.Config;

namespace IptNative.Model.Checkpoints;

/// <summary>A <c>*.index.json</c> file: tensor name to shard, and the shards' full paths.</summary>
/// <param name="Path">The index file.</param>
/// <param name="ShardOf">File name of the shard of each tensor.</param>
/// <param name="Shards">File names of the shards, sorted.</param>
internal sealed record ShardIndex(string Path, IReadOnlyDictionary<string, string> ShardOf, IReadOnlyList<string> Shards)
{
    // T5-XXL's index has 50 KB.
    private const long MaxFileBytes = 1 << 26;

    /// <summary>Reads an index and checks that every shard is there.</summary>
    /// <exception cref="InvalidDataException">The index is damaged, a shard would lie outside the folder, or shards are missing.</exception>
    public static ShardIndex Load(string path)
    {
        long bytes = new FileInfo(path).Length;
        if (bytes > MaxFileBytes)
            throw Bad(path, $"found {bytes} bytes, expected at most {MaxFileBytes}");
        var shardOf = new Dictionary<string, string>(StringComparer.Ordinal);
        try
        {
            using JsonDocument json = JsonDocument.Parse(JsonText.ReadFile(path), new JsonDocumentOptions { AllowDuplicateProperties = false });
            if (json.RootElement.ValueKind != JsonValueKind.Object || !json.RootElement.TryGetProperty("weight_map", out JsonElement map) || map.ValueKind != JsonValueKind.Object)
                throw Bad(path, "found no object 'weight_map'");
            foreach (JsonProperty entry in map.EnumerateObject())
            {
                string shard = entry.Value.ValueKind == JsonValueKind.String ? entry.Value.GetString() ?? "" : throw Bad(path, $"tensor '{entry.Name}' is mapped to {entry.Value.ValueKind}, expected a file name");
                // A shard lies beside its index: anything that names another folder could read any file of the machine.
                if (shard.Length == 0 || shard is "." or ".." || shard.AsSpan().IndexOfAny("/\\:\0") >= 0)
                    throw Bad(path, $"tensor '{entry.Name}' is mapped to '{shard}', expected the name of a file in the same folder");
                shardOf.Add(entry.Name, shard);
            }
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: reading the index of a sharded checkpoint; found broken JSON ({e.Message}). Copy or download it again.", e);
        }
        if (shardOf.Count == 0)
            throw Bad(path, "'weight_map' is empty");

        string[] shards = [.. shardOf.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        string folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!; // a full path of a file has a folder
        string[] missing = [.. shards.Where(s => !File.Exists(System.IO.Path.Combine(folder, s)))];
        if (missing.Length > 0)
            throw new InvalidDataException($"{path}: opening a sharded checkpoint; {missing.Length} of {shards.Length} shards are missing: {string.Join(", ", missing)}. The index names {string.Join(", ", shards)}: copy or download them all into that folder.");
        return new ShardIndex(path, shardOf, shards);
    }

    /// <summary>The path of a shard.</summary>
    public string Resolve(string shard) => System.IO.Path.Combine(System.IO.Path.GetDirectoryName(Path) ?? "", shard);

    private static InvalidDataException Bad(string path, string found) =>
        new($"{path}: reading the index of a sharded checkpoint; {found}. Copy or download it again.");
}
