// Fine-tuning scores that were measured elsewhere: "task,score" lines. Deliberately not how they came about.
using System.Globalization;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Experiments;

/// <summary>Reads a CSV file with the columns task and score.</summary>
internal static class FineTuningScores
{
    /// <summary>Scores by task.</summary>
    /// <exception cref="InvalidDataException">A line is no "task,score" of a known task with a fraction from 0 to 1; the message names it.</exception>
    public static IReadOnlyDictionary<string, double> Read(string path, IReadOnlyCollection<string> known)
    {
        if (!File.Exists(path)) throw new FileNotFoundException($"{path}: reading fine-tuning scores; there is no such file. Correct \"fine_tuning_scores\", or leave it out.", path);
        Dictionary<string, double> scores = new(StringComparer.Ordinal);
        string[] lines = File.ReadAllLines(path);
        for (int i = 0; i < lines.Length; i++)
        {
            string[] fields = lines[i].Split(',');
            if (lines[i].Length == 0 || (i == 0 && fields is ["task", "score"])) continue;
            if (fields.Length != 2 || !double.TryParse(fields[1], NumberStyles.Float, CultureInfo.InvariantCulture, out double score) || !(score is >= 0 and <= 1))
                throw new InvalidDataException($"{path}, line {i + 1}: found \"{lines[i]}\", expected a task, a comma and a score from 0 to 1.");
            if (!known.Contains(fields[0])) throw new InvalidDataException($"{path}, line {i + 1}: task \"{fields[0]}\" is not in gym.json; the nearest is '{NearestName.Of(known, fields[0])}'. Correct the name.");
            if (!scores.TryAdd(fields[0], score)) throw new InvalidDataException($"{path}, line {i + 1}: task \"{fields[0]}\" has a score already, expected each task once.");
        }
        return scores;
    }
}
