// SuperGLUE, GLUE and SQuAD records as text, the way T5 was trained on them. Deliberately not downloads: records come from the user's .jsonl.
using System.Text.Json;
using IptNative.Tasks.Data;

namespace IptNative.Tasks.Casting;

/// <summary>A known task: how its record becomes text, its labels and its metrics.</summary>
/// <remarks>
/// Inputs are "name: value" pairs joined by spaces, in the order that T5 gives them, without the leading task name (Lester et al. leave it out).
/// Source: text-to-text-transfer-transformer, t5/data/preprocessors.py (glue, stsb, multirc, record, wsc_simple, squad) and glue_utils.py.
/// </remarks>
public sealed class TaskCasting
{
    private static readonly string[] FalseTrue = ["False", "True"];
    private static readonly string[] Entailment = ["entailment", "not_entailment"];

    private static readonly Dictionary<string, TaskCasting> Registry = new TaskCasting[]
    {
        new("boolq", ["passage", "question"], FalseTrue, ["label_accuracy"]),
        new("cb", ["hypothesis", "premise"], ["entailment", "contradiction", "neutral"], ["classification_f1_known", "label_accuracy"]),
        new("copa", ["choice1", "choice2", "premise", "question"], ["choice1", "choice2"], ["label_accuracy"]),
        new("multirc", ["question", "answer", "paragraph"], FalseTrue, ["multirc_f1", "multirc_em"]) { _special = Special.MultiRc },
        new("record", ["query", "entities", "passage"], [], ["record_em", "record_f1"]) { _special = Special.Record },
        new("rte", ["hypothesis", "premise"], Entailment, ["label_accuracy"]),
        new("wic", ["sentence1", "sentence2", "word"], FalseTrue, ["label_accuracy"]),
        new("wsc", ["text"], [], ["wsc_accuracy"]) { _special = Special.Wsc },
        new("cola", ["sentence"], ["unacceptable", "acceptable"], ["matthews"]),
        new("sst2", ["sentence"], ["negative", "positive"], ["label_accuracy"]),
        new("mrpc", ["sentence1", "sentence2"], ["not_equivalent", "equivalent"], ["f1_invalid_wrong", "label_accuracy"]),
        new("qqp", ["question1", "question2"], ["not_duplicate", "duplicate"], ["f1_invalid_wrong", "label_accuracy"]),
        new("stsb", ["sentence1", "sentence2"], [], ["pearson_invalid_minus1", "spearman"]) { _special = Special.StsB },
        new("mnli", ["hypothesis", "premise"], ["entailment", "neutral", "contradiction"], ["label_accuracy"]),
        new("qnli", ["question", "sentence"], Entailment, ["label_accuracy"]),
        new("wnli", ["sentence1", "sentence2"], ["not_entailment", "entailment"], ["label_accuracy"]),
        new("squad", ["question", "context"], [], ["em", "qa_f1"]) { _special = Special.Squad },
        new("mrqa", ["question", "context"], [], ["em", "qa_f1"]) { _special = Special.Mrqa },
    }.ToDictionary(t => t.Name, StringComparer.Ordinal);

    private enum Special { None, MultiRc, Record, Wsc, StsB, Squad, Mrqa }

    private readonly string[] _fields;
    private Special _special;

    private TaskCasting(string name, string[] fields, string[] labels, string[] metrics)
    {
        Name = name;
        _fields = fields;
        Labels = labels;
        Metrics = metrics;
    }

    /// <summary>Names of all known tasks.</summary>
    public static IReadOnlyCollection<string> Names => Registry.Keys;

    /// <summary>Name.</summary>
    public string Name { get; }

    /// <summary>Label texts by class number; empty where answers are free.</summary>
    public IReadOnlyList<string> Labels { get; }

    /// <summary>Metric names; with several, their mean selects the checkpoint.</summary>
    public IReadOnlyList<string> Metrics { get; }

    /// <summary>Finds a task.</summary>
    /// <param name="name">Name, as in <see cref="Names"/>.</param>
    /// <returns>The task.</returns>
    /// <exception cref="ArgumentException">There is none of that name.</exception>
    public static TaskCasting Get(string name) => Registry.TryGetValue(name, out TaskCasting? task)
        ? task
        : throw new ArgumentException($"Task \"{name}\" is unknown; expected one of {string.Join(", ", Names)}. For other data use jsonl with a template, or CrossFit files.", nameof(name));

    /// <summary>Casts one record.</summary>
    /// <param name="record">A JSON object with the fields of the data set on the Hugging Face hub.</param>
    /// <param name="forTraining">True gives one example per answer (ReCoRD) and leaves out wrong referents (WSC); false one example with all answers.</param>
    /// <param name="where">Names the record in messages.</param>
    /// <returns>Examples: one, save for ReCoRD, WSC and MRQA.</returns>
    /// <exception cref="InvalidDataException">A field is missing or of the wrong kind.</exception>
    public IReadOnlyList<TaskExample> Cast(JsonElement record, bool forTraining, string where)
    {
        switch (_special)
        {
            case Special.Record: return CastRecord(record, forTraining, where);
            case Special.Wsc: return CastWsc(record, forTraining, where);
            case Special.Squad:
                IReadOnlyList<string> answers = JsonFields.Texts(record, "answers.text", where);
                if (answers.Count == 0) throw new InvalidDataException($"{where}: field \"answers.text\" is empty; expected at least one answer.");
                return [Answered(JsonFields.Text(record, "question", where), JsonFields.Text(record, "context", where), answers)];
            case Special.Mrqa: return CastMrqa(record, where);
            case Special.StsB:
                double similarity = Number(record, "label", where);
                // Banker's rounding, as tf.round.
                return [new TaskExample(Join(record, where), [(Math.Round(similarity * 5, MidpointRounding.ToEven) / 5).ToString("0.0", System.Globalization.CultureInfo.InvariantCulture)])];
            case Special.MultiRc:
                string group = $"{JsonFields.Text(record, "idx.paragraph", where)}/{JsonFields.Text(record, "idx.question", where)}";
                return [new TaskExample(CastingText.RemoveMarkup(Join(record, where)).Trim(), [Label(record, where)]) { Group = group }];
            default: return [new TaskExample(Join(record, where), [Label(record, where)])];
        }
    }

    private string Join(JsonElement record, string where) => string.Join(' ', _fields.Select(f => $"{f}: {JsonFields.Text(record, f, where)}")).Trim();

    private string Label(JsonElement record, string where)
    {
        JsonElement value = JsonFields.Get(record, "label", where);
        switch (value.ValueKind)
        {
            case JsonValueKind.Number when value.TryGetInt32(out int id) && id >= 0 && id < Labels.Count: return Labels[id];
            case JsonValueKind.True or JsonValueKind.False when Labels.Count == 2 && ReferenceEquals(Labels, FalseTrue): return Labels[value.GetBoolean() ? 1 : 0];
            case JsonValueKind.String when Labels.Contains(value.GetString()): return value.GetString()!; // a string by its kind
            default:
                throw new InvalidDataException($"{where}: label is {value.GetRawText()}; expected 0 to {Labels.Count - 1}, or one of {string.Join(", ", Labels)}. Test sets without labels cannot be scored.");
        }
    }

    private static TaskExample Answered(string question, string context, IReadOnlyList<string> answers)
    {
        string joined = CastingText.CollapseSpaces($"question: {CastingText.PadPunctuation(question)} context: {CastingText.PadPunctuation(context)}");
        // Trimmed, as T5's tokenizing pipeline does at the end.
        return new TaskExample(joined.Trim(), [.. answers.Select(a => CastingText.PadPunctuation(a).Trim())]);
    }

    // The shared task's own files have a context with its questions ("qas") a line, behind a line that is a header; the hub's have a question a line.
    // Cast as SQuAD, so that a prompt of SQuAD meets what it was trained on (Lester et al. 2021, section 5).
    private static TaskExample[] CastMrqa(JsonElement record, string where)
    {
        if (record.TryGetProperty("header", out _))
            return [];
        string context = JsonFields.Text(record, "context", where);
        if (!record.TryGetProperty("qas", out JsonElement asked))
            return [One(record, where)];
        if (asked.ValueKind != JsonValueKind.Array)
            throw new InvalidDataException($"{where}: field \"qas\" is a JSON {asked.ValueKind.ToString().ToLowerInvariant()}; expected a list of questions with answers.");
        return [.. asked.EnumerateArray().Select((qa, i) => One(qa, $"{where}, question {i + 1}"))];

        TaskExample One(JsonElement qa, string at)
        {
            IReadOnlyList<string> answers = JsonFields.Texts(qa, "answers", at);
            return answers.Count > 0 ? Answered(JsonFields.Text(qa, "question", at), context, answers)
                : throw new InvalidDataException($"{at}: field \"answers\" is empty; expected at least one answer.");
        }
    }

    private static double Number(JsonElement record, string field, string where)
    {
        JsonElement value = JsonFields.Get(record, field, where);
        return value.ValueKind == JsonValueKind.Number ? value.GetDouble() : throw new InvalidDataException($"{where}: {field} is {value.GetRawText()}; expected a number.");
    }

    private static TaskExample[] CastRecord(JsonElement record, bool forTraining, string where)
    {
        string input = $"query: {JsonFields.Text(record, "query", where)} entities: {string.Join(", ", JsonFields.Texts(record, "entities", where))} "
            + $"passage: {CastingText.RewriteHighlights(JsonFields.Text(record, "passage", where))}";
        string group = $"{JsonFields.Text(record, "idx.passage", where)}/{JsonFields.Text(record, "idx.query", where)}";
        IReadOnlyList<string> answers = JsonFields.Texts(record, "answers", where);
        if (answers.Count == 0) throw new InvalidDataException($"{where}: field \"answers\" is empty; expected at least one. Test sets without answers cannot be scored.");
        return forTraining
            ? [.. answers.Select(a => new TaskExample(input.Trim(), [a]) { Group = group })]
            : [new TaskExample(input.Trim(), answers) { Group = group }];
    }

    private static TaskExample[] CastWsc(JsonElement record, bool forTraining, string where)
    {
        JsonElement label = JsonFields.Get(record, "label", where);
        bool positive = label.ValueKind == JsonValueKind.True || (label.ValueKind == JsonValueKind.Number && Number(record, "label", where) == 1);
        if (!positive && label.ValueKind != JsonValueKind.False && label.GetRawText() != "0") throw new InvalidDataException($"{where}: label is {label.GetRawText()}; expected 0 or 1.");
        if (forTraining && !positive) return [];
        string input = CastingText.MarkPronoun(
            JsonFields.Text(record, "text", where), (int)Number(record, "span2_index", where), JsonFields.Text(record, "span2_text", where), where);
        return [new TaskExample(input.Trim(), [JsonFields.Text(record, "span1_text", where)]) { IsPositive = positive }];
    }
}
