// The answers of an evaluation as a table that a person and a program can read: the layout of a run folder's predictions.tsv. Deliberately not the scores.
using System.Text;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Evaluation;

/// <summary>Writes predictions.tsv: a header, then a line per example with the run (or prompt), split, number, prediction, gold answers and input.</summary>
/// <remarks>Tabs and line ends inside a text become spaces; several gold answers are joined by " | ".</remarks>
public static class PredictionsFile
{
    /// <summary>Writes the file, whole or not at all.</summary>
    /// <param name="path">The file; its folder exists.</param>
    /// <param name="split">train, dev or test.</param>
    /// <param name="results">Results beside what their runs or prompts are called.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(string path, string split, IEnumerable<(string Run, EvaluationResult Result)> results)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(results);
        AtomicFile.Write(path, stream =>
        {
            using var writer = new StreamWriter(stream, new UTF8Encoding(false), leaveOpen: true) { NewLine = "\n" };
            writer.WriteLine("run\tsplit\texample\tprediction\tanswers\tinput");
            foreach ((string run, EvaluationResult result) in results)
            {
                for (int i = 0; i < result.Predictions.Count; i++)
                    writer.WriteLine($"{OneLine(run)}\t{split}\t{i}\t{OneLine(result.Predictions[i])}\t{string.Join(" | ", result.Examples[i].Answers.Select(OneLine))}\t{OneLine(result.Examples[i].Input)}");
            }
        });
    }

    private static string OneLine(string text) => text.Replace('\t', ' ').ReplaceLineEndings(" ");
}
