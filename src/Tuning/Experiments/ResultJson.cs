// result.json: a job's result as text. Deliberately without times, so that two runs of one job write the same bytes.
using System.Text.Json;

namespace IptNative.Tuning.Experiments;

internal static class ResultJson
{
    private const int Version = 1;

    public static void Write(Utf8JsonWriter json, Job job, JobResult result)
    {
        json.WriteNumber("version", Version);
        json.WriteString("hash", job.Hash);
        // For whoever opens the file; the hash alone is what counts.
        json.WriteString("job", job.Key);
        json.WriteString("kind", job.Kind.Name());
        if (result.Failure is not null) json.WriteString("failure", result.Failure);
        json.WriteStartObject("scores");
        foreach ((string name, double score) in result.Scores.OrderBy(s => s.Key, StringComparer.Ordinal)) WriteNumber(json, name, score);
        json.WriteEndObject();
        json.WriteStartObject("notes");
        foreach ((string name, string text) in result.Notes.OrderBy(s => s.Key, StringComparer.Ordinal)) json.WriteString(name, text);
        json.WriteEndObject();
        json.WriteStartArray("curve");
        foreach (CurvePoint point in result.Curve)
        {
            json.WriteStartObject();
            json.WriteNumber("step", point.Step);
            WriteNumber(json, "loss", point.Loss);
            WriteNumber(json, "dev", point.Dev);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    public static (string Hash, JobResult Result) Read(JsonElement json)
    {
        int version = json.GetProperty("version").GetInt32();
        if (version != Version) throw new FormatException($"version is {version}, expected {Version}");
        string hash = json.GetProperty("hash").GetString() ?? "";
        if (hash.Length != 64) throw new FormatException($"the hash has {hash.Length} digits, expected 64");
        return (hash, new JobResult
        {
            Failure = json.TryGetProperty("failure", out JsonElement failure) ? failure.GetString() : null,
            Scores = json.GetProperty("scores").EnumerateObject().ToDictionary(p => p.Name, p => ReadNumber(p.Value), StringComparer.Ordinal),
            Notes = json.GetProperty("notes").EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetString() ?? "", StringComparer.Ordinal),
            Curve = [.. json.GetProperty("curve").EnumerateArray()
                .Select(p => new CurvePoint(p.GetProperty("step").GetInt32(), ReadNumber(p.GetProperty("loss")), ReadNumber(p.GetProperty("dev"))))],
        });
    }

    /// <summary>JSON has no NaN: a number that is not finite is null.</summary>
    internal static void WriteNumber(Utf8JsonWriter json, string name, double value)
    {
        if (double.IsFinite(value)) json.WriteNumber(name, value);
        else json.WriteNull(name);
    }

    private static double ReadNumber(JsonElement value) => value.ValueKind == JsonValueKind.Null ? double.NaN : value.GetDouble();
}
