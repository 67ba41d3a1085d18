// The answers of an evaluation as a table that a person and a program can read. Deliberately not the scores.
using System.Text;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Evaluation;

/// <summary>Writes predictions.tsv: a header, then per example its task, prompt, input, prediction and gold answers.</summary>
/// <remarks>A tab, a line end or a backslash within a text is written as \t, \n, \r or \\, so that every line has the same fields save for several gold answers at its end.</remarks>
public static class PredictionsFile
{
    /// <summary>Writes the file, whole or not at all.</summary>
    /// <param name="path">The file; its folder exists.</param>
    /// <param name="results">Results beside what their prompts are called.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(string path, IEnumerable<(string Prompt, EvaluationResult Result)> results)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(results);
        AtomicFile.Write(path, stream =>
        {
            using var writer = new StreamWriter(stream, new UTF8Encoding(false), leaveOpen: true) { NewLine = "\n" };
            writer.WriteLine("task\tprompt\tinput\tprediction\tanswers");
            foreach ((string prompt, EvaluationResult result) in results)
            {
                for (int i = 0; i < result.Predictions.Count; i++)
                    writer.WriteLine(string.Join('\t', (string[])[Field(result.Task), Field(prompt), Field(result.Examples[i].Input), Field(result.Predictions[i]), .. result.Examples[i].Answers.Select(Field)]));
            }
        });
    }

    private static string Field(string text) => text.Replace("\\", "\\\\").Replace("\t", "\\t").Replace("\n", "\\n").Replace("\r", "\\r");
}
