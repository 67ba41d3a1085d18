// Fields of a JSON record by path, with messages that name what is there. Deliberately not a deserialiser: records are the users' own.
using System.Text.Json;

namespace IptNative.Tasks.Data;

internal static class JsonFields
{
    public static JsonElement Get(JsonElement record, string path, string where)
    {
        JsonElement value = record;
        foreach (string name in path.Split('.'))
        {
            if (value.ValueKind != JsonValueKind.Object || !value.TryGetProperty(name, out JsonElement next))
                throw new InvalidDataException($"{where}: no field \"{path}\"; the record has {string.Join(", ", record.EnumerateObject().Select(p => $"\"{p.Name}\""))}. Correct the template or the file.");
            value = next;
        }
        return value;
    }

    public static bool Has(JsonElement record, string name) => record.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null;

    /// <summary>The one text of a field; arrays are refused.</summary>
    public static string Text(JsonElement record, string path, string where) => Scalar(Get(record, path, where), path, where);

    /// <summary>A field as texts: the items of an array, or the one value.</summary>
    public static IReadOnlyList<string> Texts(JsonElement record, string path, string where)
    {
        JsonElement value = Get(record, path, where);
        return value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray().Select(item => Scalar(item, path, where))] : [Scalar(value, path, where)];
    }

    private static string Scalar(JsonElement value, string path, string where) => value.ValueKind switch
    {
        JsonValueKind.String => value.GetString()!, // a string by its kind
        JsonValueKind.Number or JsonValueKind.True or JsonValueKind.False => value.GetRawText(),
        _ => throw new InvalidDataException($"{where}: field \"{path}\" is {value.ValueKind.ToString().ToLowerInvariant()}; expected a text, a number or true/false."),
    };
}
