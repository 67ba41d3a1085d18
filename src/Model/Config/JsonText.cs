// JSON whose texts are text. Not: a parser; .NET's own reads what passes here.
using System.Text.Json;
using System.Text.Unicode;

namespace IptNative.Model.Config;

/// <summary>Checks what .NET's JSON readers check only when a text is looked at, long after the file was opened.</summary>
public static class JsonText
{
    /// <summary>Reads a file and checks it.</summary>
    /// <param name="path">A JSON file.</param>
    /// <returns>Its bytes, to be parsed.</returns>
    /// <exception cref="JsonException">The JSON is broken, has bytes that are no UTF-8, or a text with half a surrogate pair.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static byte[] ReadFile(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        Require(bytes);
        return bytes;
    }

    /// <summary>Checks the texts and the names of a JSON document.</summary>
    /// <param name="utf8">The document; comments and trailing commas are left to the parser.</param>
    /// <exception cref="JsonException">The JSON is broken, has bytes that are no UTF-8, or a text with half a surrogate pair.</exception>
    public static void Require(ReadOnlySpan<byte> utf8)
    {
        if (!Utf8.IsValid(utf8))
            throw new JsonException("a text has bytes that are no UTF-8");
        var reader = new Utf8JsonReader(utf8, new JsonReaderOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
        while (reader.Read())
        {
            if (!reader.ValueIsEscaped)
                continue;
            try
            {
                // "\ud800" is JSON by its grammar and no text.
                _ = reader.GetString();
            }
            catch (InvalidOperationException e)
            {
                throw new JsonException("a text has half a surrogate pair (\\ud800 to \\udfff alone), expected characters", e);
            }
        }
    }
}
