// Reads a configuration strictly: an unknown name, a wrong type and a number out of its range are errors that say where and what instead.
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Runs.Options;

/// <summary>Takes values from a tree; what the tree does not name keeps its default.</summary>
internal sealed partial class OptionReader : OptionVisitor
{
    private readonly List<string> _known = [];
    private readonly List<(string Name, string Help)> _missing = [];
    private readonly OptionNode _section;
    private readonly string _path;

    private OptionReader(OptionNode section, string path)
    {
        _section = section;
        _path = path;
    }

    /// <summary>Reads a whole configuration.</summary>
    /// <exception cref="InvalidDataException">A name is unknown or missing, or a value is not what it should be.</exception>
    public static T Read<T>(OptionNode root, T defaults, Func<T, OptionVisitor, T> visit) => ReadSection(root, "", defaults, visit);

    public override string? Text(string name, string? value, string help, Affects affects = Affects.Result) => Find(name) switch
    {
        null => value,
        { Kind: JsonTokenType.Null } => null,
        { Kind: JsonTokenType.String } node => node.Raw,
        // Typed without quotation marks, 42 and true are texts as well.
        { FromCommandLine: true, Kind: JsonTokenType.Number or JsonTokenType.True or JsonTokenType.False } node => node.Raw,
        { } node => throw Bad(node, name, "a text"),
    };

    public override string Required(string name, string value, string help)
    {
        string text = Text(name, value, help) ?? "";
        if (text.Length == 0)
            _missing.Add((name, help));
        return text;
    }

    public override string? FilePath(string name, string? value, string help, bool orHubName = false)
    {
        string? text = Text(name, value, help);
        if (Find(name) is not { } node || string.IsNullOrEmpty(text))
            return text;
        string path = Path.GetFullPath(text, node.Folder);
        return orHubName && !Path.Exists(path) && HubName().IsMatch(text) ? text : path;
    }

    public override long Integer(string name, long value, long min, long max, string help, Affects affects = Affects.Result) =>
        Find(name) is { } node ? Whole(node, name, min, max, orNull: false) : value;

    public override long? OptionalInteger(string name, long? value, long min, long max, string help, Affects affects = Affects.Result) => Find(name) switch
    {
        null => value,
        { Kind: JsonTokenType.Null } => null,
        { } node => Whole(node, name, min, max, orNull: true),
    };

    public override double Number(string name, double value, NumberRange range, string help) => Find(name) is { } node ? Real(node, name, range, orNull: false) : value;

    public override double? OptionalNumber(string name, double? value, NumberRange range, string help) => Find(name) switch
    {
        null => value,
        { Kind: JsonTokenType.Null } => null,
        { } node => Real(node, name, range, orNull: true),
    };

    public override bool Switch(string name, bool value, string help, Affects affects = Affects.Result) => Find(name) switch
    {
        null => value,
        { Kind: JsonTokenType.True } => true,
        { Kind: JsonTokenType.False } => false,
        { } node => throw Bad(node, name, "true or false"),
    };

    public override bool? OptionalSwitch(string name, bool? value, string help) => Find(name) switch
    {
        null => value,
        { Kind: JsonTokenType.Null } => null,
        { Kind: JsonTokenType.True } => true,
        { Kind: JsonTokenType.False } => false,
        { } node => throw Bad(node, name, "true, false or null"),
    };

    public override T Choice<T>(string name, T value, (string Word, T Value)[] words, string help, Affects affects = Affects.Result)
    {
        if (Find(name) is not { } node)
            return value;
        foreach ((string word, T meaning) in words)
        {
            if (node.Kind == JsonTokenType.String && node.Raw == word)
                return meaning;
        }
        string all = string.Join(", ", words.Select(w => $"\"{w.Word}\""));
        string near = node.Kind == JsonTokenType.String ? $"; did you mean \"{NearestName.Of(words.Select(w => w.Word), node.Raw)}\"?" : ".";
        throw new InvalidDataException($"{node.Place}: {Dotted(name)} is {node.Describe()}, expected one of {all}{near}");
    }

    public override IReadOnlyList<string> Texts(string name, IReadOnlyList<string> value, string help) => Find(name) switch
    {
        null => value,
        { Kind: JsonTokenType.Null } => [],
        { Kind: JsonTokenType.StartArray } node => [.. node.Items.Select(i => i.Kind == JsonTokenType.String ? i.Raw : throw Bad(i, name, "a list of texts"))],
        { Kind: JsonTokenType.String } node => [node.Raw],
        { FromCommandLine: true, Kind: JsonTokenType.Number or JsonTokenType.True or JsonTokenType.False } node => [node.Raw],
        { } node => throw Bad(node, name, "a text or a list of texts"),
    };

    public override IReadOnlyList<int> Integers(string name, IReadOnlyList<int> value, int min, string help) => Find(name) switch
    {
        null => value,
        { Kind: JsonTokenType.Null } => [],
        { Kind: JsonTokenType.StartArray } node => [.. node.Items.Select(i => (int)Whole(i, name, min, int.MaxValue, orNull: false))],
        { } node => [(int)Whole(node, name, min, int.MaxValue, orNull: false)],
    };

    public override T Section<T>(string name, T value, Func<T, OptionVisitor, T> visit, string help)
    {
        if (Find(name) is not { } node)
            return value;
        return node.Kind == JsonTokenType.StartObject ? ReadSection(node, Dotted(name), value, visit) : throw Bad(node, name, "an object { ... }");
    }

    public override IReadOnlyList<T> Sections<T>(string name, IReadOnlyList<T> value, Func<T> fresh, Func<T, OptionVisitor, T> visit, string shortForm, string help)
    {
        if (Find(name) is not { } node)
            return value;
        if (node.Kind != JsonTokenType.StartArray)
            throw Bad(node, name, "a list [ ... ]");
        var items = new List<T>();
        foreach (OptionNode item in node.Items)
        {
            string path = $"{Dotted(name)}.{items.Count}";
            items.Add(item.Kind switch
            {
                JsonTokenType.StartObject => ReadSection(item, path, fresh(), visit),
                JsonTokenType.String => ReadSection(OptionNode.Wrap(item, shortForm), path, fresh(), visit),
                _ => throw new InvalidDataException($"{item.Place}: {path} is {item.Describe()}, expected an object {{ ... }}, or a text for its '{shortForm}'."),
            });
        }
        return items;
    }

    private static T ReadSection<T>(OptionNode section, string path, T defaults, Func<T, OptionVisitor, T> visit)
    {
        var reader = new OptionReader(section, path);
        T value;
        try
        {
            value = visit(defaults, reader);
        }
        catch (ArgumentException e)
        {
            // Two options that contradict each other: the records say which, this says where.
            throw new InvalidDataException($"{section.Place}: {e.Message}", e);
        }
        foreach ((string name, OptionNode node) in section.Members)
        {
            if (reader._known.Contains(name))
                continue;
            string near = NearestName.Of(reader._known, name) is { } best ? $"; the nearest is '{best}'" : "";
            throw new InvalidDataException($"{node.Place}: '{reader.Dotted(name)}' is unknown{near}. {(path.Length == 0 ? "There are" : $"'{path}' has")}: {string.Join(", ", reader._known)}.");
        }
        if (reader._missing is [(string missing, string help), ..])
            throw new InvalidDataException($"{section.Place}: '{reader.Dotted(missing)}' is missing, expected a text. {help}");
        return value;
    }

    private OptionNode? Find(string name)
    {
        if (!_known.Contains(name))
            _known.Add(name);
        return _section.Member(name);
    }

    private string Dotted(string name) => _path.Length == 0 ? name : $"{_path}.{name}";

    private long Whole(OptionNode node, string name, long min, long max, bool orNull)
    {
        // 1e3 is a whole number, too.
        if (node.Kind == JsonTokenType.Number && decimal.TryParse(node.Raw, NumberStyles.Float, CultureInfo.InvariantCulture, out decimal number)
            && decimal.IsInteger(number) && number >= min && number <= max)
        {
            return (long)number;
        }
        string range = max is int.MaxValue or long.MaxValue ? $"{min} or more" : $"from {min} to {max}";
        throw Bad(node, name, $"a whole number {range}{(orNull ? ", or null" : "")}");
    }

    private double Real(OptionNode node, string name, NumberRange range, bool orNull)
    {
        if (node.Kind == JsonTokenType.Number && double.TryParse(node.Raw, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) && double.IsFinite(number) && range.Contains(number))
            return number;
        throw Bad(node, name, $"a number {range}{(orNull ? ", or null" : "")}");
    }

    private InvalidDataException Bad(OptionNode node, string name, string expected) => new($"{node.Place}: {Dotted(name)} is {node.Describe()}, expected {expected}.");

    // google/t5-base-lm-adapt or t5-small: what the Hub takes as a name.
    [GeneratedRegex(@"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", RegexOptions.CultureInvariant)]
    private static partial Regex HubName();
}
