// Task data as one JSON object per line. Deliberately not a JSON array: a line can be named in a message, and a file can be cut and joined.
using System.Text.Json;
using IptNative.Tasks.Casting;

namespace IptNative.Tasks.Data;

/// <summary>Reads .jsonl files through a pair of templates, or through the casting of a known task.</summary>
public static class JsonLinesReader
{
    /// <summary>Reads a file through templates.</summary>
    /// <param name="path">The file.</param>
    /// <param name="input">Template of the input.</param>
    /// <param name="answer">Template of the answer; "{field}" alone with an array gives several gold answers.</param>
    /// <returns>At least one example.</returns>
    /// <exception cref="InvalidDataException">A line is no JSON object, a field is missing, or a text is empty.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static List<TaskExample> Read(string path, TextTemplate input, TextTemplate answer)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(answer);
        return ReadRecords(path, (record, where) => [new TaskExample(input.Fill(record, where), answer.FillAll(record, where))]);
    }

    /// <summary>Reads a file of a known task's own records.</summary>
    /// <param name="path">The file, with the fields that the data set has on the Hugging Face hub.</param>
    /// <param name="casting">The task.</param>
    /// <param name="forTraining">Leaves out what is only evaluated on (WSC: wrong referents).</param>
    /// <returns>At least one example.</returns>
    /// <exception cref="InvalidDataException">A line is no JSON object, a field is missing, or a text is empty.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static List<TaskExample> Read(string path, TaskCasting casting, bool forTraining)
    {
        ArgumentNullException.ThrowIfNull(casting);
        return ReadRecords(path, (record, where) => casting.Cast(record, forTraining, where));
    }

    private static List<TaskExample> ReadRecords(string path, Func<JsonElement, string, IEnumerable<TaskExample>> cast)
    {
        var examples = new List<TaskExample>();
        List<string> lines = TextFile.ReadLines(path);
        for (int i = 0; i < lines.Count; i++)
        {
            string where = $"{path}, line {i + 1}";
            using JsonDocument document = Parse(lines[i], where);
            if (document.RootElement.ValueKind != JsonValueKind.Object)
                throw new InvalidDataException($"{where}: holds a JSON {document.RootElement.ValueKind.ToString().ToLowerInvariant()}; expected an object {{...}} per line.");
            foreach (TaskExample example in Cast(cast, document.RootElement, where))
            {
                if (string.IsNullOrWhiteSpace(example.Input)) throw new InvalidDataException($"{where}: the input is empty; expected text. Fill the fields of the template.");
                if (example.Answers.Any(string.IsNullOrWhiteSpace)) throw new InvalidDataException($"{where}: an answer is empty; expected text. Fill the fields of the template.");
                examples.Add(example);
            }
        }
        return examples.Count > 0 ? examples : throw new InvalidDataException($"{path}: {lines.Count} records gave 0 examples for training; expected at least 1.");
    }

    private static List<TaskExample> Cast(Func<JsonElement, string, IEnumerable<TaskExample>> cast, JsonElement record, string where)
    {
        try
        {
            return [.. cast(record, where)];
        }
        catch (InvalidOperationException e)
        {
            // "\ud800" is JSON by its grammar and no text: .NET says so only when the text is looked at.
            throw new InvalidDataException($"{where}: a text has half a surrogate pair (\\ud800 to \\udfff alone); expected characters. Correct the line.", e);
        }
    }

    private static JsonDocument Parse(string line, string where)
    {
        try
        {
            return JsonDocument.Parse(line);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{where}: no JSON ({e.Message}); expected one object per line.", e);
        }
    }
}
