// The canonical form of a configuration, as JSON, as a flat list for comparing, and as a table of help. Deliberately not: reading (OptionReader).
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace IptNative.Tuning.Runs.Options;

/// <summary>An option's value as JSON, by its dotted name.</summary>
/// <param name="Name">prompt.length, tasks.0.seed.</param>
/// <param name="Json">Its canonical JSON.</param>
/// <param name="Affects">What another value changes.</param>
/// <param name="Help">What it is.</param>
internal readonly record struct FlatOption(string Name, string Json, Affects Affects, string Help);

/// <summary>Lists every option with its value, in the records' order.</summary>
internal sealed class OptionLister : OptionVisitor
{
    private static readonly JsonWriterOptions Readable = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, Indented = true };

    private readonly List<FlatOption> _options = [];
    private string _prefix = "";

    private OptionLister()
    {
    }

    /// <summary>Lists a configuration.</summary>
    public static List<FlatOption> List<T>(T value, Func<T, OptionVisitor, T> visit)
    {
        var lister = new OptionLister();
        visit(value, lister);
        return lister._options;
    }

    public override string? Text(string name, string? value, string help, Affects affects = Affects.Result) => Add(name, value, json => json.WriteStringValue(value), help, affects);

    public override string Required(string name, string value, string help) => Add(name, value, json => json.WriteStringValue(value), help, Affects.Result);

    public override string? FilePath(string name, string? value, string help, bool orHubName = false) => Add(name, value, json => json.WriteStringValue(value), help, Affects.Nothing);

    public override long Integer(string name, long value, long min, long max, string help, Affects affects = Affects.Result) => Add(name, value, json => json.WriteNumberValue(value), help, affects);

    public override long? OptionalInteger(string name, long? value, long min, long max, string help, Affects affects = Affects.Result) => Add(name, value, json => WriteNullable(json, value), help, affects);

    public override double Number(string name, double value, NumberRange range, string help) => Add(name, value, json => json.WriteNumberValue(value), help, Affects.Result);

    public override double? OptionalNumber(string name, double? value, NumberRange range, string help) => Add(name, value, json => WriteNullable(json, value), help, Affects.Result);

    public override bool Switch(string name, bool value, string help, Affects affects = Affects.Result) => Add(name, value, json => json.WriteBooleanValue(value), help, affects);

    public override bool? OptionalSwitch(string name, bool? value, string help) => Add(name, value, json => WriteNullable(json, value), help, Affects.Result);

    public override T Choice<T>(string name, T value, (string Word, T Value)[] words, string help, Affects affects = Affects.Result)
    {
        string word = Array.Find(words, w => EqualityComparer<T>.Default.Equals(w.Value, value)).Word
            ?? throw new ArgumentException($"{_prefix}{name}: found {value}, expected one of {string.Join(", ", words.Select(w => w.Value))}.", nameof(value));
        return Add(name, value, json => json.WriteStringValue(word), $"{help} ({string.Join(" | ", words.Select(w => w.Word))})", affects);
    }

    public override IReadOnlyList<string> Texts(string name, IReadOnlyList<string> value, string help) => Add(name, value, json =>
    {
        json.WriteStartArray();
        foreach (string text in value)
            json.WriteStringValue(text);
        json.WriteEndArray();
    }, help, Affects.Result);

    public override IReadOnlyList<int> Integers(string name, IReadOnlyList<int> value, int min, string help) => Add(name, value, json =>
    {
        json.WriteStartArray();
        foreach (int number in value)
            json.WriteNumberValue(number);
        json.WriteEndArray();
    }, help, Affects.Result);

    public override T Section<T>(string name, T value, Func<T, OptionVisitor, T> visit, string help)
    {
        Under(name, () => visit(value, this));
        return value;
    }

    public override IReadOnlyList<T> Sections<T>(string name, IReadOnlyList<T> value, Func<T> fresh, Func<T, OptionVisitor, T> visit, string shortForm, string help)
    {
        for (int i = 0; i < value.Count; i++)
            Under($"{name}.{i}", () => visit(value[i], this));
        return value;
    }

    /// <summary>Writes listed options as one indented JSON object.</summary>
    public static string ToJson(IReadOnlyList<FlatOption> options)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, Readable))
            WriteObject(json, options);
        return Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length) + "\n";
    }

    /// <summary>Writes listed options as one JSON object: names with dots nest, numbered ones are lists.</summary>
    public static void WriteObject(Utf8JsonWriter json, IReadOnlyList<FlatOption> options)
    {
        json.WriteStartObject();
        WriteMembers(json, options, 0, options.Count, 0);
        json.WriteEndObject();
    }

    // Options of one section stand together, so that a section is a range of the list.
    private static void WriteMembers(Utf8JsonWriter json, IReadOnlyList<FlatOption> options, int first, int end, int depth)
    {
        for (int i = first; i < end;)
        {
            string[] path = options[i].Name.Split('.');
            string part = path[depth];
            bool inList = char.IsAsciiDigit(part[0]);
            if (!inList)
                json.WritePropertyName(part);
            if (path.Length == depth + 1)
            {
                json.WriteRawValue(options[i++].Json);
                continue;
            }
            string prefix = string.Join('.', path[..(depth + 1)]) + ".";
            int next = i;
            while (next < end && options[next].Name.StartsWith(prefix, StringComparison.Ordinal))
                next++;
            bool list = char.IsAsciiDigit(path[depth + 1][0]);
            if (list)
                json.WriteStartArray();
            else
                json.WriteStartObject();
            WriteMembers(json, options, i, next, depth + 1);
            if (list)
                json.WriteEndArray();
            else
                json.WriteEndObject();
            i = next;
        }
    }

    private void Under(string name, Action visit)
    {
        string outer = _prefix;
        _prefix = $"{outer}{name}.";
        visit();
        _prefix = outer;
    }

    private T Add<T>(string name, T value, Action<Utf8JsonWriter> write, string help, Affects affects)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            write(json);
        _options.Add(new FlatOption(_prefix + name, Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length), affects, help));
        return value;
    }

    private static void WriteNullable(Utf8JsonWriter json, long? value)
    {
        if (value is { } number)
            json.WriteNumberValue(number);
        else
            json.WriteNullValue();
    }

    private static void WriteNullable(Utf8JsonWriter json, double? value)
    {
        if (value is { } number)
            json.WriteNumberValue(number);
        else
            json.WriteNullValue();
    }

    private static void WriteNullable(Utf8JsonWriter json, bool? value)
    {
        if (value is { } flag)
            json.WriteBooleanValue(flag);
        else
            json.WriteNullValue();
    }
}
