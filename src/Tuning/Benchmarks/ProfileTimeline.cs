// One step's timeline as files: Chrome's trace format (chrome://tracing, Perfetto, speedscope) and a page of its own. Deliberately no numbers of its own.
using System.Reflection;
using System.Text;
using System.Text.Json;

namespace IptNative.Tuning.Benchmarks;

/// <summary>Writes timelines.</summary>
public static class ProfileTimeline
{
    /// <summary>Name of the trace in the folder.</summary>
    public const string TraceFile = "trace.json";

    /// <summary>Name of the page in the folder.</summary>
    public const string PageFile = "profile.html";

    private const string Page = "IptNative.Tuning.Benchmarks.profile.html";
    private const string Mark = "/*PROFILE*/null";

    /// <summary>Writes both files; the folder is made where it is missing.</summary>
    /// <param name="result">The profile.</param>
    /// <param name="folder">Where to.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static void Write(ProfileResult result, string folder)
    {
        ArgumentNullException.ThrowIfNull(result);
        ArgumentNullException.ThrowIfNull(folder);
        Directory.CreateDirectory(folder);
        using (FileStream trace = File.Create(Path.Combine(folder, TraceFile)))
            WriteTrace(result, trace);
        File.WriteAllText(Path.Combine(folder, PageFile), Html(result));
    }

    /// <summary>The trace: complete events ("ph": "X") in microseconds on one thread.</summary>
    /// <param name="result">The profile.</param>
    /// <param name="target">Gets UTF-8 JSON.</param>
    public static void WriteTrace(ProfileResult result, Stream target)
    {
        ArgumentNullException.ThrowIfNull(result);
        using var json = new Utf8JsonWriter(target);
        json.WriteStartObject();
        json.WriteString("displayTimeUnit", "ms");
        json.WriteStartArray("traceEvents");
        json.WriteStartObject();
        json.WriteString("name", "process_name");
        json.WriteString("ph", "M");
        json.WriteNumber("pid", 1);
        json.WriteStartObject("args");
        json.WriteString("name", $"iptnative, {result.Model}, {result.Device}");
        json.WriteEndObject();
        json.WriteEndObject();
        foreach (ProfileBar bar in result.Timeline)
        {
            json.WriteStartObject();
            json.WriteString("name", bar.Name);
            json.WriteString("cat", bar.IsOp ? "op" : "region");
            json.WriteString("ph", "X");
            json.WriteNumber("ts", Math.Round(bar.Begin * 1e6, 3));
            json.WriteNumber("dur", Math.Round(bar.Seconds * 1e6, 3));
            json.WriteNumber("pid", 1);
            json.WriteNumber("tid", 1);
            if (bar.IsOp)
            {
                json.WriteStartObject("args");
                json.WriteString("shape", bar.Shape);
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>The page: a flame view to zoom into, and the table. Nothing is loaded from elsewhere.</summary>
    /// <param name="result">The profile.</param>
    /// <returns>HTML.</returns>
    public static string Html(ProfileResult result)
    {
        ArgumentNullException.ThrowIfNull(result);
        using Stream stream = Assembly.GetExecutingAssembly().GetManifestResourceStream(Page)!; // Embedded by the project file.
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return reader.ReadToEnd().Replace(Mark, Data(result), StringComparison.Ordinal);
    }

    // The default encoder escapes '<', so no name can end the script.
    private static string Data(ProfileResult result)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteString("title", $"{result.Model} on {result.Device}, {result.Threads} threads");
            json.WriteNumber("step", result.StepSeconds);
            json.WriteNumber("between", result.BetweenOps);
            json.WriteNumber("copy", result.Ceilings.CopyBytesPerSecond);
            json.WriteNumber("fma", result.Ceilings.FmaFlopsPerSecond);
            json.WriteNumber("launch", result.Ceilings.LaunchSeconds);
            json.WriteStartArray("bars");
            foreach (ProfileBar bar in result.Timeline)
            {
                json.WriteStartArray();
                json.WriteStringValue(bar.Name);
                json.WriteStringValue(bar.Shape);
                json.WriteNumberValue(Math.Round(bar.Begin * 1e6, 1));
                json.WriteNumberValue(Math.Round(bar.Seconds * 1e6, 1));
                json.WriteNumberValue(bar.Depth);
                json.WriteNumberValue(bar.IsOp ? 1 : 0);
                json.WriteEndArray();
            }
            json.WriteEndArray();
            json.WriteStartArray("rows");
            foreach (ProfileRow row in result.Rows)
            {
                json.WriteStartArray();
                json.WriteStringValue(row.Op);
                json.WriteStringValue(row.Shape);
                json.WriteNumberValue(row.CallsPerStep);
                json.WriteNumberValue(row.P50);
                json.WriteNumberValue(row.GBPerSecond);
                json.WriteNumberValue(row.GflopPerSecond);
                json.WriteStringValue(row.Bound);
                json.WriteNumberValue(row.Reached);
                json.WriteNumberValue(row.Share);
                json.WriteEndArray();
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        return Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length);
    }
}
