// run.json: what a run folder is a run of. Resolved options, versions and input hashes; and which of them differ from another start's.
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Runs;

/// <summary>A run's identity card.</summary>
internal sealed class RunManifest
{
    public const string FileName = "run.json";
    private const int Format = 1;
    private const long MaxBytes = 1 << 24;
    private const int MostNamed = 8;

    private RunManifest(string identity, long createdUnixSeconds, string host, Dictionary<string, string> options, Dictionary<string, string> inputs)
    {
        (Identity, CreatedUnixSeconds, Host, Options, Inputs) = (identity, createdUnixSeconds, host, options, inputs);
    }

    public string Identity { get; }

    public long CreatedUnixSeconds { get; }

    public string Host { get; }

    /// <summary>Options as flat JSON.</summary>
    public Dictionary<string, string> Options { get; }

    public Dictionary<string, string> Inputs { get; }

    /// <summary>The manifest of a new run.</summary>
    public static RunManifest Of(RunConfig config, RunInputs inputs, TimeProvider clock) => new(
        config.Identity(inputs), clock.GetUtcNow().ToUnixTimeSeconds(), SafeHost(),
        config.Flatten().ToDictionary(o => o.Name, o => o.Json, StringComparer.Ordinal), new Dictionary<string, string>(inputs.Files, StringComparer.Ordinal));

    /// <summary>Writes it, whole or not at all.</summary>
    public void Save(string folder, RunConfig config)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteNumber("format", Format);
            json.WriteString("identity", Identity);
            json.WriteNumber("created", CreatedUnixSeconds);
            json.WriteString("host", Host);
            json.WriteStartObject("versions");
            json.WriteString("iptnative", typeof(RunManifest).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown");
            json.WriteString("dotnet", RuntimeInformation.FrameworkDescription);
            json.WriteString("platform", RuntimeInformation.RuntimeIdentifier);
            json.WriteEndObject();
            json.WritePropertyName("options");
            OptionLister.WriteObject(json, config.Flatten());
            json.WriteStartObject("inputs");
            foreach ((string name, string sha256) in Inputs)
                json.WriteString(name, sha256);
            json.WriteEndObject();
            json.WriteEndObject();
        }
        buffer.WriteByte((byte)'\n');
        AtomicFile.Write(Path.Combine(folder, FileName), stream => buffer.WriteTo(stream));
    }

    /// <summary>Reads a folder's manifest.</summary>
    /// <exception cref="InvalidDataException">It is damaged.</exception>
    public static RunManifest Load(string folder)
    {
        string path = Path.Combine(folder, FileName);
        long bytes = new FileInfo(path).Length;
        if (bytes > MaxBytes)
            throw new InvalidDataException($"{path}: reading a run's card; found {bytes} bytes, expected at most {MaxBytes}.");
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            JsonElement root = document.RootElement;
            int format = root.GetProperty("format").GetInt32();
            if (format != Format)
                throw new InvalidDataException($"{path}: reading a run's card; it has format {format}, expected {Format}. It was written by another version of the program.");
            var options = new Dictionary<string, string>(StringComparer.Ordinal);
            Flatten(root.GetProperty("options"), "", options);
            return new RunManifest(
                root.GetProperty("identity").GetString()!,
                root.GetProperty("created").GetInt64(),
                root.GetProperty("host").GetString()!,
                options,
                root.GetProperty("inputs").EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetString()!, StringComparer.Ordinal));
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException or ArgumentException)
        {
            throw new InvalidDataException($"{path}: reading a run's card; it is damaged ({e.Message}). Start the run in another folder.", e);
        }
    }

    /// <summary>Throws where a start with these options and inputs would be another run.</summary>
    /// <returns>Options that change only the last bits, in words, for the user to know.</returns>
    public IReadOnlyList<string> RequireSame(string folder, RunConfig config, RunInputs inputs)
    {
        List<FlatOption> now = config.Flatten();
        // Other values first: options that come and go with a choice ("optimizer.name") say less.
        List<string> differences = [];
        List<string> added = [];
        List<string> notes = [];
        foreach (FlatOption option in now)
        {
            string? then = Options.GetValueOrDefault(option.Name);
            if (then == option.Json)
                continue;
            string what = $"{option.Name} is {option.Json}, the run was started with {then ?? "none"}";
            if (option.Affects == Affects.Result)
                (then is null ? added : differences).Add(what);
            else if (option.Affects == Affects.Rounding)
                notes.Add(what + "; results may differ in the last bits.");
        }
        var names = now.Select(o => o.Name).ToHashSet(StringComparer.Ordinal);
        differences.AddRange(added);
        differences.AddRange(Options.Keys.Where(k => !names.Contains(k)).Select(k => $"{k} is gone, the run was started with {Options[k]}"));
        foreach (string name in Inputs.Keys.Union(inputs.Files.Keys).Order(StringComparer.Ordinal))
        {
            string? then = Inputs.GetValueOrDefault(name), file = inputs.Files.GetValueOrDefault(name);
            if (then != file)
                differences.Add(then is null ? $"the file {name} is new" : file is null ? $"the file {name} is gone" : $"the file {name} has changed");
        }
        if (differences.Count == 0 && config.Identity(inputs) == Identity)
            return notes;
        string listed = differences.Count == 0 ? "its options are the same, but its identity is not (run.json was edited)" : string.Join("; ", differences.Take(MostNamed))
            + (differences.Count > MostNamed ? $"; and {differences.Count - MostNamed} more" : "");
        throw new InvalidDataException($"{folder}: going on with a run; this is another run: {listed}. Use the options that it was started with (run.json has them), or give another 'output'.");
    }

    private static void Flatten(JsonElement element, string prefix, Dictionary<string, string> into)
    {
        foreach (JsonProperty property in element.EnumerateObject())
        {
            string name = prefix + property.Name;
            if (property.Value.ValueKind == JsonValueKind.Object)
                Flatten(property.Value, name + ".", into);
            else if (property.Value.ValueKind == JsonValueKind.Array && property.Value.GetArrayLength() > 0 && property.Value[0].ValueKind == JsonValueKind.Object)
            {
                for (int i = 0; i < property.Value.GetArrayLength(); i++)
                    Flatten(property.Value[i], $"{name}.{i}.", into);
            }
            else
                into[name] = Canonical(property.Value);
        }
    }

    // As the lister writes it, whatever the spaces in the file.
    private static string Canonical(JsonElement value)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            value.WriteTo(json);
        return Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length);
    }

    // The host is a part of TensorBoard's file names.
    private static string SafeHost() => string.Concat(Environment.MachineName.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' ? c : '-')) is { Length: > 0 } host ? host : "host";
}
