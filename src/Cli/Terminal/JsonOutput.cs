// How the program writes JSON: readable text (no \u escapes for letters), one object a line or indented.
using System.Text.Encodings.Web;
using System.Text.Json;

namespace IptNative.Cli.Terminal;

/// <summary>Writers for <c>--json</c>.</summary>
internal static class JsonOutput
{
    private static readonly JsonWriterOptions OneLine = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private static readonly JsonWriterOptions Indented = OneLine with { Indented = true };

    /// <summary>Writes one object to <paramref name="output"/> and ends the line.</summary>
    /// <param name="output">Usually standard output.</param>
    /// <param name="write">Writes the object's fields.</param>
    /// <param name="indented">True for a document, false for a line of many.</param>
    public static void WriteObject(TextWriter output, Action<Utf8JsonWriter> write, bool indented = false)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, indented ? Indented : OneLine))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }
        output.Write(System.Text.Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length));
        output.Write('\n');
    }

    /// <summary>Writes an array of ids.</summary>
    /// <param name="json">The writer.</param>
    /// <param name="name">Field name.</param>
    /// <param name="values">The ids.</param>
    public static void WriteIds(this Utf8JsonWriter json, string name, IEnumerable<int> values)
    {
        json.WriteStartArray(name);
        foreach (int value in values)
            json.WriteNumberValue(value);
        json.WriteEndArray();
    }
}
