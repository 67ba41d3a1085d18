// A sweep's file as it is written. Deliberately not: which runs it means (SweepPlan).
using System.Text.Json;
using IptNative.Model.Config;

namespace IptNative.Tuning.Sweeps;

/// <summary>An option that varies, and what it takes; values as they would stand behind --set.</summary>
internal sealed record SweepAxis(string Name, string[] Values);

/// <summary>The fields of a sweep's file.</summary>
internal sealed record SweepFile(string Run, IReadOnlyList<string> Set, IReadOnlyList<SweepAxis> Grid, IReadOnlyList<SweepAxis> Ablate, string? X, string? Output)
{
    private const long MaxBytes = 1 << 20;

    private static readonly JsonDocumentOptions Lenient = new() { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true, AllowDuplicateProperties = false, MaxDepth = 16 };

    /// <summary>Reads a file; relative paths start from its folder.</summary>
    /// <exception cref="InvalidDataException">A field is unknown, missing or of another form.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static SweepFile Load(string path)
    {
        if (!File.Exists(path))
            throw new FileNotFoundException($"{path}: reading a sweep; there is no such file. Give a .json file with 'run' and 'grid', for example examples/sweep-length.json.", path);
        if (new FileInfo(path).Length > MaxBytes)
            throw new InvalidDataException($"{path}: reading a sweep; found {new FileInfo(path).Length} bytes, expected at most {MaxBytes}.");
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!; // a full path of a file has a folder
        try
        {
            using var json = JsonDocument.Parse(JsonText.ReadFile(path), Lenient);
            return Read(json.RootElement, path, folder);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: reading a sweep; {e.Message}", e);
        }
    }

    private static SweepFile Read(JsonElement root, string path, string folder)
    {
        if (root.ValueKind != JsonValueKind.Object)
            throw new InvalidDataException($"{path}: reading a sweep; found a {root.ValueKind}, expected an object with 'run' and 'grid'.");
        string? run = null, x = null, output = null;
        var set = new List<string>();
        var axes = new Dictionary<string, List<SweepAxis>> { ["grid"] = [], ["ablate"] = [] };
        foreach (JsonProperty field in root.EnumerateObject())
        {
            switch (field.Name)
            {
                case "run": run = Path.GetFullPath(Text(field, path), folder); break;
                case "output": output = Path.GetFullPath(Text(field, path), folder); break;
                case "x": x = Text(field, path); break;
                case "set":
                    Require(field.Value.ValueKind == JsonValueKind.Object, path, "set", field.Value, "an object of options and values");
                    set.AddRange(field.Value.EnumerateObject().Select(o => $"{o.Name}={Value(o.Value, folder)}"));
                    break;
                case "grid" or "ablate":
                    Require(field.Value.ValueKind == JsonValueKind.Object && field.Value.EnumerateObject().Any(), path, field.Name, field.Value, "an object of options and lists of values");
                    foreach (JsonProperty axis in field.Value.EnumerateObject())
                        axes[field.Name].Add(Axis(axis, $"{field.Name}.{axis.Name}", path, folder));
                    break;
                default: throw new InvalidDataException($"{path}: reading a sweep; '{field.Name}' is unknown, expected run, grid, ablate, set, x or output.");
            }
        }
        string[] names = [.. axes.Values.SelectMany(a => a.Select(b => b.Name))];
        if (run is null)
            throw new InvalidDataException($"{path}: reading a sweep; 'run' is missing, expected the path of a run file.");
        if (names.Length == 0)
            throw new InvalidDataException($"{path}: reading a sweep; 'grid' is missing, expected options and lists of values, in 'grid' for every combination or in 'ablate' for one at a time.");
        if (names.Contains("output"))
            throw new InvalidDataException($"{path}: reading a sweep; 'output' cannot be an axis: every point has a folder of its own.");
        if (names.GroupBy(n => n).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new InvalidDataException($"{path}: reading a sweep; '{twice.Key}' is in 'grid' and in 'ablate', expected it in one of them.");
        return x is null || names.Contains(x) ? new SweepFile(run, set, axes["grid"], axes["ablate"], x, output)
            : throw new InvalidDataException($"{path}: reading a sweep; 'x' is {x}, expected one of the axes: {string.Join(", ", names)}.");
    }

    private static SweepAxis Axis(JsonProperty axis, string name, string path, string folder)
    {
        Require(axis.Value.ValueKind == JsonValueKind.Array && axis.Value.GetArrayLength() > 0, path, name, axis.Value, "a list of one value or more");
        string[] values = [.. axis.Value.EnumerateArray().Select(v => Value(v, folder))];
        return values.Distinct(StringComparer.Ordinal).Count() == values.Length ? new SweepAxis(axis.Name, values)
            : throw new InvalidDataException($"{path}: reading a sweep; '{name}' names a value twice. Leave one out.");
    }

    // As it would stand behind --set; a text that names something beside the sweep file means that.
    private static string Value(JsonElement value, string folder)
    {
        if (value.ValueKind != JsonValueKind.String)
            return value.GetRawText();
        string text = value.GetString()!; // it is a string
        return text.Length > 0 && Path.Exists(Path.Combine(folder, text)) ? Path.GetFullPath(text, folder) : text;
    }

    private static string Text(JsonProperty field, string path)
    {
        Require(field.Value.ValueKind == JsonValueKind.String && field.Value.GetString() is not "", path, field.Name, field.Value, "a text");
        return field.Value.GetString()!; // it is a string
    }

    private static void Require(bool ok, string path, string name, JsonElement value, string expected)
    {
        if (ok)
            return;
        string raw = value.GetRawText();
        throw new InvalidDataException($"{path}: reading a sweep; '{name}' is {(raw.Length > 60 ? raw[..60] + "…" : raw)}, expected {expected}.");
    }
}
