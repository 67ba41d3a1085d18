using IptNative.Tasks.Data;
using IptNative.Tasks.Metrics;
using Xunit;

namespace IptNative.Tasks.Tests.Metrics;

public sealed class LabelStatisticsTests
{
    private static TaskExample[] Examples(params string[] answers) => [.. answers.Select(a => new TaskExample("the input text", [a]))];

    [Fact]
    public void IllegalOutputsAreCountedByKind()
    {
        LabelStatistics counts = LabelStatistics.Count([" yes", "no", "yes", "", "input text", "maybe"], Examples("yes", "no", "no", "yes", "no", "no"), ["yes", "no"]);
        Assert.Equal((2, 1), (counts.PerLabel["yes"], counts.PerLabel["no"]));
        Assert.Equal((3, 1, 1), (counts.Illegal, counts.Empty, counts.CopiedFromInput));
    }

    [Fact]
    public void TheMajorityIsTheFirstOfTheCommonest()
    {
        Assert.Equal("b", LabelStatistics.Majority(Examples("a", "b", "c", "b")));
        Assert.Equal("b", LabelStatistics.Majority(Examples("b", "a", "a", "b")));
        Assert.Throws<ArgumentException>(() => LabelStatistics.Majority([]));
        // Always "b": one of two right; F1 of b is 2/3, of a 0.
        Assert.Equal(1 / 3.0, LabelStatistics.MajorityScore(Examples("b"), Examples("a", "b"), ["classification_f1"], []), 1e-12);
    }

    [Fact]
    public void LabelsNeverTrainedOnAreFound() => Assert.Equal(["c", "d"], LabelStatistics.Unseen(Examples("a", "b"), Examples("a", "c", "d", "c")));
}
