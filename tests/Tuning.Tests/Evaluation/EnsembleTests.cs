using IptNative.Tasks.Data;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Tuning.Tests.Evaluation;

public sealed class EnsembleTests(TinyModel tiny) : IClassFixture<TinyModel>
{
    private EncodedExamples Examples(params string[] answers) => EncodedExamples.Encode(tiny.Tokenizer, "colours",
        [.. answers.Select((a, i) => new TaskExample($"text {i}", [a]))], new EncodingOptions(), ["em"], ["red", "green", "blue"]);

    private static EvaluationResult Member(EncodedExamples examples, double logProb, params string[] predictions) =>
        Evaluator.Score(examples, predictions) with { LogProbs = [.. predictions.Select(_ => logProb)] };

    [Fact]
    public void TheMajorityWinsAndTiesGoToTheLikelierAnswer()
    {
        EncodedExamples examples = Examples("red", "green", "blue", "red", "blue");
        EnsembleResult vote = Ensemble.Vote(examples,
        [
            Member(examples, -3, "red", "green", "red", "red", "red"),
            Member(examples, -2, "red", "blue", "green", "red", "red"),
            Member(examples, -1, "blue", "green", "blue", "red", "blue"),
            // Mean of "blue" in the last example: -1.5; of "red": -2.5.
            Member(examples, -2, "red", "green", "none", "red", "blue"),
        ]);
        Assert.Equal(["red", "green", "blue", "red", "blue"], vote.Result.Predictions);
        Assert.Equal(1, vote.Result.Score);
        Assert.Equal(1, vote.Unanimous);
        Assert.Equal(2, vote.Ties);
        Assert.Equal(2, vote.Best);
        Assert.Equal(0.65, vote.Members.Mean, 1e-12);
    }

    [Fact]
    public void AFullTieGoesToTheFirst()
    {
        EncodedExamples examples = Examples("red");
        Assert.Equal(["green"], Ensemble.Vote(examples, [Member(examples, -1, "green"), Member(examples, -1, "red")]).Result.Predictions);
    }

    [Fact]
    public void FewerThanTwoOrOtherExamplesAreRefused()
    {
        EncodedExamples examples = Examples("red"), others = Examples("red", "red");
        Assert.Contains("found 1 prompts, expected two or more", Assert.Throws<ArgumentException>(() => Ensemble.Vote(examples, [Member(examples, 0, "red")])).Message, StringComparison.Ordinal);
        Assert.Contains("has 2 answers and 2 log probabilities, expected 1", Assert.Throws<ArgumentException>(() => Ensemble.Vote(examples, [Member(examples, 0, "red"), Member(others, 0, "red", "red")])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OneBatchGivesWhatSeparatePassesGive()
    {
        TaskData task = TaskData.Load(new TaskSource { Task = "clinc150-domain", Data = TinyModel.Gym });
        EncodedExamples examples = EncodedExamples.Encode(tiny.Tokenizer, task, "test", new EncodingOptions { TaskPrefix = true }, limit: 12);
        var random = new Random(4);
        int width = tiny.Checkpoint.Config.DModel;
        Prompt[] prompts = [.. Enumerable.Range(1, 3).Select(length => new Prompt([.. Enumerable.Range(0, length * width).Select(_ => (float)(random.NextDouble() - 0.5))], length, width))];
        var evaluator = new Evaluator(tiny.Frozen, tiny.Tokenizer);
        using var memory = new PromptMemory(tiny.Frozen.Device, prompts);
        IReadOnlyList<EvaluationResult> together = evaluator.Evaluate([.. prompts.Select((_, p) => new EvaluationJob(examples, p))], memory.Table);
        for (int p = 0; p < prompts.Length; p++)
        {
            EvaluationResult alone = evaluator.Evaluate([new EvaluationJob(examples, p)], memory.Table)[0];
            Assert.Equal(alone.Predictions, together[p].Predictions);
            // Sums of a few dozen float32 log probabilities, rounded in batches of another shape.
            Assert.All(alone.LogProbs.Zip(together[p].LogProbs), pair => Assert.Equal(pair.First, pair.Second, 1e-4));
            Assert.All(alone.LogProbs, l => Assert.InRange(l, -200, 0));
        }
    }
}
