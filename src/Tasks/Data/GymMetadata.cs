// What gym.json says of each task. Deliberately not the examples.
using System.Text.Json;

namespace IptNative.Tasks.Data;

/// <summary>One task of a gym.</summary>
/// <param name="Name">Task name, also of its folder.</param>
/// <param name="IsClassification">True for "cls": K counts per label, and the labels are known.</param>
/// <param name="K">Shots.</param>
/// <param name="Labels">Label texts; empty for other tasks.</param>
/// <param name="Metric">Metric name as <see cref="Metrics.Metric.Get"/> takes it.</param>
/// <param name="Licence">Licence of the data; null where the file does not say.</param>
/// <param name="Source">Where the data comes from; null where the file does not say.</param>
public sealed record GymTask(string Name, bool IsClassification, int K, IReadOnlyList<string> Labels, string Metric, string? Licence, string? Source);

/// <summary>Reads gym.json: an object of tasks with type (cls, noncls), k, labels, metric and, where known, licence and source.</summary>
public static class GymMetadata
{
    /// <summary>Reads the file.</summary>
    /// <param name="path">gym.json.</param>
    /// <returns>Tasks by name, in the file's order.</returns>
    /// <exception cref="InvalidDataException">The file is no such JSON; the message names the task and the field.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static IReadOnlyList<GymTask> Load(string path)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            if (document.RootElement.ValueKind != JsonValueKind.Object) throw new InvalidDataException($"{path}: expected an object with one entry per task.");
            var tasks = new List<GymTask>();
            foreach (JsonProperty entry in document.RootElement.EnumerateObject()) tasks.Add(ReadTask(entry, $"{path}, task \"{entry.Name}\""));
            return tasks;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException) // the latter: a text that is no UTF-8, or half a surrogate pair
        {
            throw new InvalidDataException($"{path}: no JSON ({e.Message}); expected an object with one entry per task.", e);
        }
    }

    private static GymTask ReadTask(JsonProperty entry, string where)
    {
        JsonElement task = entry.Value;
        if (task.ValueKind != JsonValueKind.Object) throw new InvalidDataException($"{where}: expected an object with type, k, labels and metric.");
        string type = JsonFields.Text(task, "type", where);
        if (type is not ("cls" or "noncls")) throw new InvalidDataException($"{where}: type is \"{type}\"; expected \"cls\" or \"noncls\".");
        if (!JsonFields.Get(task, "k", where).TryGetInt32Checked(out int k) || k < 1) throw new InvalidDataException($"{where}: k is {JsonFields.Get(task, "k", where).GetRawText()}; expected a whole number from 1.");
        IReadOnlyList<string> labels = JsonFields.Has(task, "labels") ? JsonFields.Texts(task, "labels", where) : [];
        if (type == "cls" && labels.Count < 2) throw new InvalidDataException($"{where}: a classification task with {labels.Count} labels; expected at least 2.");
        if (labels.Distinct(StringComparer.Ordinal).Count() != labels.Count) throw new InvalidDataException($"{where}: a label occurs twice in {string.Join(", ", labels)}.");
        string metric = JsonFields.Text(task, "metric", where);
        if (!Metrics.Metric.IsKnown(metric)) throw new InvalidDataException($"{where}: metric \"{metric}\" is unknown; expected one of {string.Join(", ", Metrics.Metric.Names)}.");
        return new GymTask(entry.Name, type == "cls", k, labels, metric, Optional(task, "licence", where), Optional(task, "source", where));
    }

    private static string? Optional(JsonElement task, string name, string where) => JsonFields.Has(task, name) ? JsonFields.Text(task, name, where) : null;

    private static bool TryGetInt32Checked(this JsonElement value, out int number)
    {
        number = 0;
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out number);
    }
}
