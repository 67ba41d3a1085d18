// Which runs a sweep consists of: one run file, and lists of values for some of its options. Deliberately not: running them (SweepRun).
using System.Text;
using System.Text.Json;
using IptNative.Tuning.Runs;

namespace IptNative.Tuning.Sweeps;

/// <summary>One run of a sweep.</summary>
/// <param name="Index">From 0, in the order of the grid, the last axis fastest.</param>
/// <param name="Name">Its folder's name, unique in the sweep.</param>
/// <param name="Values">What it sets, by axis.</param>
/// <param name="Config">Its options, checked.</param>
public sealed record SweepPoint(int Index, string Name, IReadOnlyList<string> Values, RunConfig Config);

/// <summary>A part of a sweep that one process computes.</summary>
/// <param name="Number">From 1.</param>
/// <param name="Count">How many parts there are.</param>
public readonly record struct SweepShard(int Number, int Count)
{
    /// <summary>The whole sweep.</summary>
    public static SweepShard Whole { get; } = new(1, 1);

    /// <summary>Reads "i/n".</summary>
    /// <param name="text">The text.</param>
    /// <returns>The part.</returns>
    /// <exception cref="ArgumentException">It has no such form, or i is not 1 to n.</exception>
    public static SweepShard Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] parts = text.Split('/');
        if (parts.Length != 2 || !int.TryParse(parts[0], out int number) || !int.TryParse(parts[1], out int count))
            throw new ArgumentException($"shard {text}: expected i/n, for example 2/8.");
        return count >= 1 && number >= 1 && number <= count ? new SweepShard(number, count) : throw new ArgumentException($"shard {text}: expected i from 1 to n = {count}, and n 1 or more.");
    }

    /// <summary>Whether a point is this part's: points go round, so that neighbours, which cost alike, are spread.</summary>
    /// <param name="point">The point.</param>
    /// <returns>True for exactly one part.</returns>
    public bool Has(SweepPoint point)
    {
        ArgumentNullException.ThrowIfNull(point);
        return point.Index % Count == Number - 1;
    }
}

/// <summary>A sweep's file, read and checked: every point's options are known to be possible before the first is trained.</summary>
public sealed class SweepPlan
{
    private const int MaxPoints = 10_000;
    private const long MaxBytes = 1 << 20;

    private static readonly JsonDocumentOptions Lenient = new() { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true, AllowDuplicateProperties = false, MaxDepth = 16 };

    private SweepPlan(string name, string folder, IReadOnlyList<string> axes, IReadOnlyList<SweepPoint> points, string? x) => (Name, Folder, Axes, Points, X) = (name, folder, axes, points, x);

    /// <summary>The file's name without extension.</summary>
    public string Name { get; }

    /// <summary>Where the points' folders and the table go.</summary>
    public string Folder { get; }

    /// <summary>Names of the options that vary.</summary>
    public IReadOnlyList<string> Axes { get; }

    /// <summary>The runs.</summary>
    public IReadOnlyList<SweepPoint> Points { get; }

    /// <summary>The axis that figures have at their bottom; null where no axis has numbers.</summary>
    public string? X { get; }

    /// <summary>Reads a sweep file.</summary>
    /// <param name="path">JSON: "run" (a run file), "grid" (option: [values]), and where wanted "set" (option: value), "x" (an axis) and "output" (a folder). Relative paths start from its folder.</param>
    /// <param name="output">Instead of the file's "output"; null takes that, or runs/NAME under the current folder.</param>
    /// <param name="overrides">key=value for every point, stronger than the file; not for an axis.</param>
    /// <returns>The plan.</returns>
    /// <exception cref="InvalidDataException">A name is unknown or missing, or a point's options are impossible; the message says which.</exception>
    /// <exception cref="ArgumentException">An override is no key=value, or sets an axis.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static SweepPlan Load(string path, string? output, IReadOnlyList<string> overrides)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(overrides);
        if (!File.Exists(path))
            throw new FileNotFoundException($"{path}: reading a sweep; there is no such file. Give a .json file with 'run' and 'grid', for example examples/sweep-length.json.", path);
        if (new FileInfo(path).Length > MaxBytes)
            throw new InvalidDataException($"{path}: reading a sweep; found {new FileInfo(path).Length} bytes, expected at most {MaxBytes}.");
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!; // a full path of a file has a folder
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path), Lenient);
            return Read(json.RootElement, path, folder, output, overrides);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: reading a sweep; {e.Message}", e);
        }
    }

    private static SweepPlan Read(JsonElement root, string path, string folder, string? output, IReadOnlyList<string> overrides)
    {
        if (root.ValueKind != JsonValueKind.Object)
            throw new InvalidDataException($"{path}: reading a sweep; found a {root.ValueKind}, expected an object with 'run' and 'grid'.");
        string? run = null, x = null;
        var set = new List<string>();
        var axes = new List<(string Name, string[] Values)>();
        foreach (JsonProperty field in root.EnumerateObject())
        {
            switch (field.Name)
            {
                case "run": run = Path.GetFullPath(Text(field, path), folder); break;
                case "output": output ??= Path.GetFullPath(Text(field, path), folder); break;
                case "x": x = Text(field, path); break;
                case "set":
                    Require(field.Value.ValueKind == JsonValueKind.Object, path, "set", field.Value, "an object of options and values");
                    set.AddRange(field.Value.EnumerateObject().Select(o => $"{o.Name}={Value(o.Value, folder)}"));
                    break;
                case "grid":
                    Require(field.Value.ValueKind == JsonValueKind.Object && field.Value.EnumerateObject().Any(), path, "grid", field.Value, "an object of options and lists of values");
                    foreach (JsonProperty axis in field.Value.EnumerateObject())
                    {
                        Require(axis.Value.ValueKind == JsonValueKind.Array && axis.Value.GetArrayLength() > 0, path, $"grid.{axis.Name}", axis.Value, "a list of one value or more");
                        axes.Add((axis.Name, [.. axis.Value.EnumerateArray().Select(v => Value(v, folder))]));
                        if (axes[^1].Values.Distinct(StringComparer.Ordinal).Count() < axes[^1].Values.Length)
                            throw new InvalidDataException($"{path}: reading a sweep; 'grid.{axis.Name}' names a value twice. Leave one out.");
                    }
                    break;
                default: throw new InvalidDataException($"{path}: reading a sweep; '{field.Name}' is unknown, expected run, grid, set, x or output.");
            }
        }
        if (run is null || axes.Count == 0)
            throw new InvalidDataException($"{path}: reading a sweep; '{(run is null ? "run" : "grid")}' is missing, expected {(run is null ? "the path of a run file" : "options and lists of values")}.");
        if (axes.FirstOrDefault(a => a.Name == "output").Name is not null)
            throw new InvalidDataException($"{path}: reading a sweep; 'output' cannot be an axis: every point has a folder of its own.");
        if (overrides.FirstOrDefault(o => axes.Any(a => o.StartsWith(a.Name + "=", StringComparison.Ordinal))) is { } clash)
            throw new ArgumentException($"--set {clash}: this option is an axis of the sweep. Change the sweep file.");
        if (x is not null && axes.All(a => a.Name != x))
            throw new InvalidDataException($"{path}: reading a sweep; 'x' is {x}, expected one of the axes: {string.Join(", ", axes.Select(a => a.Name))}.");
        long count = axes.Aggregate(1L, (n, a) => Math.Min(n * a.Values.Length, MaxPoints + 1));
        if (count > MaxPoints)
            throw new InvalidDataException($"{path}: reading a sweep; the grid has more than {MaxPoints} points. Cut it into several sweeps.");
        string name = Path.GetFileNameWithoutExtension(path);
        string to = output is null ? Path.GetFullPath(Path.Combine("runs", name)) : Path.GetFullPath(output);
        var points = new List<SweepPoint>();
        for (int i = 0; i < count; i++)
        {
            string[] values = At(axes, i);
            string own = string.Join("_", axes.Zip(values, (a, v) => $"{a.Name.Split('.')[^1]}-{Slug(v)}"));
            if (points.Any(p => string.Equals(p.Name, own, StringComparison.OrdinalIgnoreCase)))
                own = $"{own}_{i}";
            string[] all = [.. set, .. overrides, .. axes.Zip(values, (a, v) => $"{a.Name}={v}"), $"output={Path.Combine(to, "points", own)}"];
            try
            {
                points.Add(new SweepPoint(i, own, values, RunConfig.Load(run, all)));
            }
            catch (Exception e) when (e is InvalidDataException or ArgumentException)
            {
                throw new InvalidDataException($"{path}: point {own}: {e.Message}", e);
            }
        }
        return new SweepPlan(name, to, [.. axes.Select(a => a.Name)], points, x ?? axes.FirstOrDefault(a => a.Values.Length > 1 && a.Values.All(SweepTable.IsNumber)).Name);
    }

    private static string[] At(List<(string Name, string[] Values)> axes, int index)
    {
        string[] values = new string[axes.Count];
        for (int a = axes.Count - 1; a >= 0; a--)
        {
            values[a] = axes[a].Values[index % axes[a].Values.Length];
            index /= axes[a].Values.Length;
        }
        return values;
    }

    // As it would stand behind --set; a text that names something beside the sweep file means that.
    private static string Value(JsonElement value, string folder)
    {
        if (value.ValueKind != JsonValueKind.String)
            return value.GetRawText();
        string text = value.GetString()!; // it is a string
        return text.Length > 0 && Path.Exists(Path.Combine(folder, text)) ? Path.GetFullPath(text, folder) : text;
    }

    private static string Slug(string value)
    {
        var slug = new StringBuilder();
        foreach (char c in Path.IsPathRooted(value) ? Path.GetFileName(Path.TrimEndingDirectorySeparator(value)) : value)
            slug.Append(char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '+' ? c : '-');
        string text = slug.ToString().Trim('-', '.');
        return text.Length == 0 ? "empty" : text.Length > 60 ? text[..60] : text;
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
