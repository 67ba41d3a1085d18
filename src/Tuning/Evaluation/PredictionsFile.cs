// The answers of an evaluation as lines of predictions.tsv. Deliberately not the file's layout: a run folder's and this are one.
using IptNative.Tuning.Runs;

namespace IptNative.Tuning.Evaluation;

/// <summary>Turns results into predictions.tsv: a line per example with the run (or prompt), split, number, prediction, gold answers and input.</summary>
public static class PredictionsFile
{
    /// <summary>The lines of a result.</summary>
    /// <param name="run">What the run or the prompt is called.</param>
    /// <param name="split">train, dev or test.</param>
    /// <param name="result">The result.</param>
    /// <returns>One line per example; the input is the example's own, without task prefix.</returns>
    public static IEnumerable<PredictionLine> Lines(string run, string split, EvaluationResult result)
    {
        ArgumentNullException.ThrowIfNull(result);
        return result.Examples.Select((example, i) => new PredictionLine(run, split, i, result.Predictions[i], example.Answers, example.Input));
    }

    /// <summary>Writes a file by itself, whole or not at all.</summary>
    /// <param name="path">The file; its folder exists.</param>
    /// <param name="lines">Lines; read once.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(string path, IEnumerable<PredictionLine> lines)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(lines);
        RunResult.WritePredictions(path, lines);
    }
}
