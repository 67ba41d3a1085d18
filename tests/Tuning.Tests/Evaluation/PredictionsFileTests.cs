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
            PredictionsFile.Write(path, [.. PredictionsFile.Lines("none", "dev", result), .. PredictionsFile.Lines("p", "dev", result with { Predictions = ["é", "q"] })]);
            Assert.Equal("run\tsplit\texample\tprediction\tanswers\tinput\n"
                + "none\tdev\t0\tone two \tx | y\ta b\\n\n"
                + "none\tdev\t1\t\tz\tc\n"
                + "p\tdev\t0\té\tx | y\ta b\\n\n"
                + "p\tdev\t1\tq\tz\tc\n", File.ReadAllText(path));
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
