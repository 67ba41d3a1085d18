// Which runs a sweep consists of: one run file, and lists of values for some of its options. Deliberately not: running them (SweepRun).
using System.Text;
using System.Text.Json;
using IptNative.Tuning.Runs;

namespace IptNative.Tuning.Sweeps;

/// <summary>One run of a sweep.</summary>
/// <param name="Index">From 0, in the order of the grid, the last axis fastest.</param>
/// <param name="Name">Its folder's name, unique in the sweep.</param>
/// <param name="Values">What it has, by axis; paths by their last part, where that tells them apart.</param>
/// <param name="Config">Its options, checked.</param>
public sealed record SweepPoint(int Index, string Name, IReadOnlyList<string> Values, RunConfig Config);

/// <summary>A sweep's file, read and checked: every point's options are known to be possible before the first is trained.</summary>
/// <remarks>
/// Axes of the grid are combined with each other. Axes that are ablated vary one at a time, the others staying what the run file says, for every combination of the
/// grid: Lester et al. 2021, section 3.2. Points with the same options are one.
/// </remarks>
public sealed class SweepPlan
{
    private const int MaxPoints = 10_000;
    private const string ModelAxis = "model", BaseName = "base";

    private SweepPlan(string name, string folder, SweepFile file, IReadOnlyList<SweepPoint> points, IReadOnlyList<string> usual, IReadOnlyList<IReadOnlyList<string>> orders)
    {
        (Name, Folder, Points, Usual, Orders) = (name, folder, points, usual, orders);
        (Axes, Ablated) = ([.. file.Grid.Concat(file.Ablate).Select(a => a.Name)], [.. file.Ablate.Select(a => a.Name)]);
        // Over model sizes where there are several, as the paper's figures; else the first axis with numbers that is in every point.
        IReadOnlyList<SweepAxis> across = file.Ablate.Count > 0 ? file.Grid : [.. file.Grid, .. file.Ablate];
        X = file.X ?? across.FirstOrDefault(a => a.Name == ModelAxis && a.Values.Length > 1)?.Name ?? across.FirstOrDefault(a => a.Values.Length > 1 && a.Values.All(SweepTable.IsNumber))?.Name;
    }

    /// <summary>The file's name without extension.</summary>
    public string Name { get; }

    /// <summary>Where the points' folders and the table go.</summary>
    public string Folder { get; }

    /// <summary>Names of the options that vary: the grid's, then the ablated ones.</summary>
    public IReadOnlyList<string> Axes { get; }

    /// <summary>Those that vary one at a time.</summary>
    public IReadOnlyList<string> Ablated { get; }

    /// <summary>What each axis is where it does not vary; empty for an axis of the grid.</summary>
    public IReadOnlyList<string> Usual { get; }

    /// <summary>Each axis' values in the file's order, as points have them.</summary>
    internal IReadOnlyList<IReadOnlyList<string>> Orders { get; }

    /// <summary>The runs.</summary>
    public IReadOnlyList<SweepPoint> Points { get; }

    /// <summary>The axis that figures have at their bottom; null where no axis of the grid lends itself to that.</summary>
    public string? X { get; }

    /// <summary>Reads a sweep file.</summary>
    /// <param name="path">JSON: "run" (a run file), "grid" or "ablate" (option: [values]), and where wanted "set" (option: value), "x" (an axis) and "output" (a folder). Relative paths start from its folder.</param>
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
        var file = SweepFile.Load(path);
        if (overrides.FirstOrDefault(o => file.Grid.Concat(file.Ablate).Any(a => o.StartsWith(a.Name + "=", StringComparison.Ordinal))) is { } clash)
            throw new ArgumentException($"--set {clash}: this option is an axis of the sweep. Change the sweep file.");
        long combinations = file.Grid.Aggregate(1L, (n, a) => Math.Min(n * a.Values.Length, MaxPoints + 1));
        if (combinations * Math.Max(1, file.Ablate.Sum(a => (long)a.Values.Length)) > MaxPoints)
            throw new InvalidDataException($"{path}: reading a sweep; the grid has more than {MaxPoints} points. Cut it into several sweeps.");
        string name = Path.GetFileNameWithoutExtension(path);
        return new Builder(path, file, [.. file.Set, .. overrides], output ?? file.Output ?? Path.Combine("runs", name)).Build(name, (int)combinations);
    }

    /// <summary>What decides whether two points are the same, and whether one is done: where it lies and how many threads it had are no part of what was asked.</summary>
    internal static string Options(RunConfig config) => (config with { Output = "", Threads = 0 }).ToJson().ReplaceLineEndings("\n");

    // One plan in the making.
    private sealed class Builder(string path, SweepFile file, string[] set, string output)
    {
        private readonly string _output = Path.GetFullPath(output);
        private readonly List<SweepPoint> _points = [];
        private readonly HashSet<string> _names = new(StringComparer.OrdinalIgnoreCase);
        private readonly Dictionary<string, int> _known = new(StringComparer.Ordinal);

        public SweepPlan Build(string name, int combinations)
        {
            string[] usual = [.. file.Grid.Select(_ => "")];
            for (int i = 0; i < combinations; i++)
            {
                string[] values = At(file.Grid, i);
                (string, string)[] grid = [.. file.Grid.Zip(values, (a, v) => (a.Name, v))];
                if (file.Ablate.Count == 0)
                {
                    Add(grid, values, grid);
                    continue;
                }
                // What the run file says, which one of an axis' values may be; it need not be a point.
                RunConfig based = Load(grid, BaseName);
                string same = Options(based);
                RunConfig[][] configs = [.. file.Ablate.Select(a => a.Values.Select(v => Load([.. grid, (a.Name, v)], Named([(a.Name, v)]))).ToArray())];
                string[] stays = [.. file.Ablate.Select((a, n) => a.Values.Where((_, v) => Options(configs[n][v]) == same).FirstOrDefault(Default(based, a.Name)))];
                if (i == 0)
                    usual = [.. usual, .. stays];
                for (int a = 0; a < file.Ablate.Count; a++)
                {
                    foreach (string value in file.Ablate[a].Values)
                        Add([.. grid, (file.Ablate[a].Name, value)], [.. values, .. stays.Select((s, n) => n == a ? value : s)], value == stays[a] ? [.. grid] : [.. grid, (file.Ablate[a].Name, value)]);
                }
            }
            return new SweepPlan(name, _output, file, _points, [.. usual.Select(Shown)], [.. file.Grid.Concat(file.Ablate).Select((a, n) => a.Values.Select(v => Shown(v, n)).ToArray())]);
        }

        private void Add((string Name, string Value)[] options, string[] values, (string, string)[] naming)
        {
            string own = Named(naming), name = own;
            RunConfig config = Load(options, own);
            if (!_known.TryAdd(Options(config), _points.Count) && file.Ablate.Count > 0)
                return;
            for (int twin = _points.Count; !_names.Add(name); twin++)
                name = $"{own}_{twin}";
            _points.Add(new SweepPoint(_points.Count, name, [.. values.Select(Shown)], config with { Output = Path.Combine(_output, "points", name) }));
        }

        // Paths by their last part, where that tells an axis' values apart.
        private string Shown(string value, int axis)
        {
            string[] values = axis < file.Grid.Count ? file.Grid[axis].Values : file.Ablate[axis - file.Grid.Count].Values;
            return values.Select(Short).Distinct(StringComparer.Ordinal).Count() == values.Length ? Short(value) : value;
        }

        private RunConfig Load(IEnumerable<(string Name, string Value)> options, string name)
        {
            try
            {
                return RunConfig.Load(file.Run, [.. set, .. options.Select(o => $"{o.Name}={o.Value}"), $"output={_output}"]);
            }
            catch (Exception e) when (e is InvalidDataException or ArgumentException)
            {
                throw new InvalidDataException($"{path}: point {name}: {e.Message}", e);
            }
        }

        private static string Named((string Name, string Value)[] options) =>
            options.Length == 0 ? BaseName : string.Join("_", options.Select(o => $"{o.Name.Split('.')[^1]}-{Slug(o.Value)}"));

        // The option as the run file or its default has it, for the table.
        private static string Default(RunConfig config, string axis)
        {
            string json = config.Flatten().FirstOrDefault(o => o.Name == axis.Replace(".*.", ".0.", StringComparison.Ordinal)).Json ?? "";
            return json.StartsWith('"') ? JsonSerializer.Deserialize<string>(json) ?? "" : json;
        }
    }

    private static string[] At(IReadOnlyList<SweepAxis> axes, int index)
    {
        string[] values = new string[axes.Count];
        for (int a = axes.Count - 1; a >= 0; a--)
        {
            values[a] = axes[a].Values[index % axes[a].Values.Length];
            index /= axes[a].Values.Length;
        }
        return values;
    }

    private static string Slug(string value)
    {
        var slug = new StringBuilder();
        foreach (char c in Short(value))
            slug.Append(char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '+' ? c : '-');
        string text = slug.ToString().Trim('-', '.');
        return text.Length == 0 ? "empty" : text.Length > 60 ? text[..60] : text;
    }

    private static string Short(string value) => Path.IsPathRooted(value) ? Path.GetFileName(Path.TrimEndingDirectorySeparator(value)) : value;
}
