// "question: {question} context: {context}" applied to a JSON record. Deliberately no logic: whoever needs conditions writes the text beforehand.
using System.Text;
using System.Text.Json;

namespace IptNative.Tasks.Data;

/// <summary>A text with {field} places; {a.b} reaches into objects, {{ and }} stand for braces.</summary>
public sealed class TextTemplate
{
    // Odd entries are fields, even ones literal text.
    private readonly List<string> _parts = [];

    /// <summary>Parses a template.</summary>
    /// <param name="template">Text with {field} places.</param>
    /// <exception cref="ArgumentException">A brace is not closed, or a place is empty.</exception>
    public TextTemplate(string template)
    {
        ArgumentNullException.ThrowIfNull(template);
        var text = new StringBuilder();
        for (int i = 0; i < template.Length; i++)
        {
            char c = template[i];
            if (c is '{' or '}' && i + 1 < template.Length && template[i + 1] == c)
            {
                text.Append(c);
                i++;
            }
            else if (c == '{')
            {
                int end = template.IndexOf('}', i);
                string field = end < 0 ? "" : template[(i + 1)..end].Trim();
                if (field.Length == 0) throw new ArgumentException($"Template \"{template}\": the brace at column {i + 1} names no field; expected {{field}}, or {{{{ for a brace.");
                _parts.Add(text.ToString());
                _parts.Add(field);
                text.Clear();
                i = end;
            }
            else if (c == '}') throw new ArgumentException($"Template \"{template}\": the brace at column {i + 1} closes nothing; write }}}} for a brace.");
            else text.Append(c);
        }
        _parts.Add(text.ToString());
    }

    /// <summary>Names of the fields, in order.</summary>
    public IEnumerable<string> Fields => _parts.Where((_, i) => i % 2 == 1);

    /// <summary>Fills the template; an array becomes its items joined by ", ", numbers and booleans are written as in the JSON.</summary>
    /// <param name="record">A JSON object.</param>
    /// <param name="where">Names the record in messages.</param>
    /// <returns>The text.</returns>
    /// <exception cref="InvalidDataException">A field is missing, null or an object.</exception>
    public string Fill(JsonElement record, string where)
    {
        var text = new StringBuilder();
        for (int i = 0; i < _parts.Count; i++)
            text.Append(i % 2 == 0 ? _parts[i] : string.Join(", ", JsonFields.Texts(record, _parts[i], where)));
        return text.ToString();
    }

    /// <summary>Fills the template into several texts where it is one place alone and its field is an array; one text otherwise.</summary>
    /// <param name="record">A JSON object.</param>
    /// <param name="where">Names the record in messages.</param>
    /// <returns>At least one text.</returns>
    /// <exception cref="InvalidDataException">A field is missing, null or an object, or the array is empty.</exception>
    public IReadOnlyList<string> FillAll(JsonElement record, string where)
    {
        if (_parts is not ["", string field, ""]) return [Fill(record, where)];
        IReadOnlyList<string> texts = JsonFields.Texts(record, field, where);
        return texts.Count > 0 ? texts : throw new InvalidDataException($"{where}: field \"{field}\" is an empty array; expected at least one answer.");
    }
}
