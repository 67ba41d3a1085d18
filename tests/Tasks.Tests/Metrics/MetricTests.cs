using IptNative.Tasks.Data;
using IptNative.Tasks.Metrics;
using Xunit;

namespace IptNative.Tasks.Tests.Metrics;

public sealed class MetricTests
{
    // Hand-computed values; sums of a few doubles.
    private const double Tolerance = 1e-12;

    private static double Score(string metric, string[] predictions, string[][] answers, params string[] labels) =>
        Metric.Get(metric).Score(predictions, [.. answers.Select(a => new TaskExample("x", a))], labels);

    [Fact]
    public void AccIgnoresCaseAndTakesAnyAnswer() =>
        Assert.Equal(2 / 3.0, Score("ACC", [" YES ", "b", "the c"], [["yes"], ["a", "B"], ["c"]]), Tolerance);

    [Theory]
    [InlineData("The Cat!", "cat", 1)]
    [InlineData("a-an", "aan", 1)]
    [InlineData("an apple a day", "apple  day", 1)]
    [InlineData("theory", "ory", 0)]
    [InlineData("naïve a\u0301b", "naïve \u0301b", 1)]
    [InlineData("the", "", 1)]
    public void EmNormalisesAsSquad(string prediction, string gold, double expected) => Assert.Equal(expected, Score("em", [prediction], [[gold]]));

    [Theory]
    [InlineData("cat sat on mat", "the cat sat", 2 * 0.5 * 1 / 1.5)]
    [InlineData("cat cat", "cat", 2 * 0.5 * 1 / 1.5)]
    [InlineData("", "cat", 0)]
    [InlineData("dog", "cat", 0)]
    public void QaF1CountsTokens(string prediction, string gold, double expected) => Assert.Equal(expected, Score("qa_f1", [prediction], [[gold]]), Tolerance);

    [Fact]
    public void QaF1TakesTheBestAnswer() => Assert.Equal(1, Score("QA-F1", ["red car"], [["blue", "red car"]]), Tolerance);

    [Fact]
    public void ClassificationF1MakesEveryIllegalTextAClass()
    {
        // Gold: a a b b. Predicted: a b b "a b". F1 a = 2*1/(2+1) = 2/3, b = 2*1/(2+2) = 1/2, "a b" = 0.
        string[] predicted = ["a", "b", "b", "a b"];
        string[][] gold = [["a"], ["a"], ["b"], ["b"]];
        Assert.Equal((2 / 3.0 + 0.5 + 0) / 3, Score("Classification-F1", predicted, gold), Tolerance);
        Assert.Equal((2 / 3.0 + 0.5) / 2, Score("classification_f1_known", predicted, gold, "a", "b"), Tolerance);
        // A label that nobody has or predicts counts 0, as sklearn's labels= does.
        Assert.Equal((2 / 3.0 + 0.5) / 3, Score("classification_f1_known", predicted, gold, "a", "b", "c"), Tolerance);
        Assert.Contains("0 labels are known; expected at least 1", Assert.Throws<ArgumentException>(() => Score("classification_f1_known", predicted, gold)).Message, StringComparison.Ordinal);
    }

    // m and n are distinct words: f = 2pr / (p + r + 1e-8).
    [Theory]
    [InlineData("the cat sat", "the cat", 2 / 3.0, 1.0)]
    [InlineData("a a a", "a", 1.0, 1.0)]
    [InlineData("b a", "a b", 0.5, 0.5)]
    [InlineData("w1 w2 w6 w7 w8. w1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 4 / 8.0, 4 / 5.0)]
    [InlineData("a b. c", "a b", 2 / 3.0, 1.0)]
    public void RougeLIsThePackages(string prediction, string gold, double precision, double recall) =>
        Assert.Equal(2 * precision * recall / (precision + recall + 1e-8), Score("rouge_l", [prediction], [[gold]]), Tolerance);

    [Fact]
    public void RougeLQuirks()
    {
        Assert.Equal(0, Score("Rouge-L", ["?!."], [["a"]]));
        Assert.Equal(0, Score("Rouge-L", [""], [["a"]]));
        Assert.Equal(0, Score("Rouge-L", ["x"], [["a"]]));
        // A blank between full stops is a sentence of one empty word, in both texts alike: a and "" are shared, b is not.
        double f = 2 * (2 / 3.0) * 1 / (2 / 3.0 + 1 + 1e-8);
        Assert.Equal(f, Score("rouge_l", ["a b. ."], [["a. "]]), Tolerance);
        Assert.Contains("\"...\" has no sentence", Assert.Throws<InvalidDataException>(() => Score("rouge_l", ["a"], [["..."]])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Correlations()
    {
        string[][] gold = [["1"], ["2.0"], ["3"]];
        Assert.Equal(5 / Math.Sqrt(2 * 114 / 9.0), Score("Pearson-Correlation", ["2", " 4.0", "7e0"], gold), Tolerance);
        Assert.True(double.IsNaN(Score("pearson", ["2", "four", "7"], gold)));
        // -1 for what is no number: y = 2, -1, 7 has mean 8/3, xy = 5, yy = (4 + 121 + 169) / 9.
        Assert.Equal(5 / Math.Sqrt(2 * 294 / 9.0), Score("pearson_invalid_minus1", ["2", "four", "7"], gold), Tolerance);
        Assert.True(double.IsNaN(Score("pearson", ["2", "2", "2"], gold)));
        // Ranks 1.5, 1.5, 3, 4 against 1 to 4.
        Assert.Equal(4.5 / Math.Sqrt(5 * 4.5), Score("spearman", ["1", "1", "5", "9"], [["1"], ["2"], ["3"], ["4"]]), Tolerance);
        Assert.Contains("\"high\" is no number", Assert.Throws<InvalidDataException>(() => Score("pearson", ["1"], [["high"]])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void MatthewsCountsAcceptableOnly()
    {
        string[][] gold = [["acceptable"], ["acceptable"], ["unacceptable"], ["unacceptable"], ["acceptable"]];
        // TP 2, FN 1, TN 1, FP 1 (an illegal text counts as unacceptable).
        Assert.Equal((2 * 1 - 1 * 1) / Math.Sqrt(3 * 3 * 2 * 2), Score("matthews", ["acceptable", "junk", "acceptable", "unacceptable", "acceptable"], gold), Tolerance);
        Assert.Equal(0, Score("matthews", ["junk", "junk", "junk", "junk", "junk"], gold));
    }

    [Fact]
    public void F1CountsInvalidAsWrong()
    {
        // Gold 1 1 0 0, predicted 1 invalid(=0) invalid(=1) 0: TP 1, FN 1, FP 1.
        Assert.Equal(0.5, Score("f1_invalid_wrong", ["yes", "maybe", "maybe", "no"], [["yes"], ["yes"], ["no"], ["no"]], "no", "yes"), Tolerance);
    }

    [Fact]
    public void MultiRcByQuestion()
    {
        TaskExample[] examples = [Of("True", "1"), Of("False", "1"), Of("True", "2"), Of("True", "2")];
        string[] predictions = ["True", "False", "True", "what"];
        Assert.Equal(0.5, Metric.Get("multirc_em").Score(predictions, examples, []), Tolerance);
        // TP 2, FN 1.
        Assert.Equal(4 / 5.0, Metric.Get("multirc_f1").Score(predictions, examples, ["False", "True"]), Tolerance);
        static TaskExample Of(string answer, string group) => new("x", [answer]) { Group = group };
        Assert.Contains("has no group", Assert.Throws<InvalidDataException>(() => Score("multirc_em", ["True"], [["True"]])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void RecordCountsTheFirstOfEachGroup()
    {
        TaskExample[] examples = [new("x", ["A", "B C"]) { Group = "1" }, new("x", ["A", "B C"]) { Group = "1" }, new("y", ["D"]) { Group = "2" }];
        Assert.Equal(0.5, Metric.Get("record_em").Score(["the a", "zzz", "b"], examples, []), Tolerance);
        Assert.Equal((2 * 0.5 / 1.5 + 0) / 2, Metric.Get("record_f1").Score(["C", "B C", "b"], examples, []), Tolerance);
    }

    [Theory]
    [InlineData("the Fuzzy bunny", "bunny", true, 1)]
    [InlineData("Bob", "Bob's hat", true, 0)]
    [InlineData("Bob", "Bob's hat", false, 1)]
    [InlineData("", "bunny", true, 0)]
    [InlineData("the", "bunny", false, 0)]
    [InlineData("cat", "bunny", false, 1)]
    public void WscComparesReferents(string prediction, string referent, bool positive, double expected) =>
        Assert.Equal(expected, Metric.Get("wsc_accuracy").Score([prediction], [new TaskExample("x", [referent]) { IsPositive = positive }], []));

    [Fact]
    public void LabelAccuracyWantsTheVeryLabel() => Assert.Equal(0.5, Score("label_accuracy", ["True ", "true"], [["True"], ["True"]]));

    [Fact]
    public void SeveralMetricsAreAveraged()
    {
        TaskExample[] examples = [new("x", ["red car"])];
        (IReadOnlyList<KeyValuePair<string, double>> scores, double mean) = Metric.ScoreAll(["EM", "qa_f1"], ["car"], examples, []);
        Assert.Equal(["em", "qa_f1"], scores.Select(s => s.Key));
        Assert.Equal((0 + 2 / 3.0) / 2, mean, Tolerance);
        Assert.Throws<ArgumentException>(() => Metric.ScoreAll([], ["car"], examples, []));
    }

    [Fact]
    public void WhatIsWrongIsNamed()
    {
        Assert.Contains("Metric \"bleu\" is unknown; expected one of acc, em", Assert.Throws<ArgumentException>(() => Metric.Get("bleu")).Message, StringComparison.Ordinal);
        Assert.Contains("1 predictions for 2 examples", Assert.Throws<ArgumentException>(() => Score("acc", ["a"], [["a"], ["b"]])).Message, StringComparison.Ordinal);
    }
}
