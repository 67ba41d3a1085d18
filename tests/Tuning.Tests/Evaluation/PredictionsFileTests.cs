using IptNative.Tasks.Data;
using IptNative.Tuning.Evaluation;
using Xunit;

namespace IptNative.Tuning.Tests.Evaluation;

public sealed class PredictionsFileTests
{
    [Fact]
    public void EveryAnswerIsOneLine()
    {
        string folder = Directory.CreateTempSubdirectory("iptnative-").FullName;
        try
        {
            string path = Path.Combine(folder, "predictions.tsv");
            var result = new EvaluationResult
            {
                Task = "t",
                Examples = [new TaskExample("a\tb\\n", ["x", "y"]), new TaskExample("c", ["z"])],
                Predictions = ["one\ntwo\r", ""],
                Scores = [],
                Score = double.NaN,
                Unfinished = 0,
            };
            PredictionsFile.Write(path, [("none", result), ("p", result with { Predictions = ["é", "q"] })]);
            Assert.Equal("task\tprompt\tinput\tprediction\tanswers\n"
                + "t\tnone\ta\\tb\\\\n\tone\\ntwo\\r\tx\ty\n"
                + "t\tnone\tc\t\tz\n"
                + "t\tp\ta\\tb\\\\n\té\tx\ty\n"
                + "t\tp\tc\tq\tz\n", File.ReadAllText(path));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void SpreadIsTheSamplesStandardDeviation()
    {
        Assert.Equal(new ScoreSpread(2, 1, 3), ScoreSpread.Of([1, 2, 3]));
        Assert.Equal(new ScoreSpread(0.5, 0, 1), ScoreSpread.Of([0.5]));
        Assert.True(double.IsNaN(ScoreSpread.Of([1, double.NaN]).Mean));
        Assert.Contains("0 scores", Assert.Throws<ArgumentException>(() => ScoreSpread.Of([])).Message, StringComparison.Ordinal);
    }
}
