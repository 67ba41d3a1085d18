using IptNative.Tasks.Data;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Tuning.Tests.Evaluation;

public sealed class TaskTransferTests(TinyModel tiny) : IClassFixture<TinyModel>
{
    [Fact]
    public void EveryCellIsItsOwnEvaluation()
    {
        EncodedExamples[] targets = [.. ((string[])["words-first", "clinc150-domain"]).Select(t =>
            EncodedExamples.Encode(tiny.Tokenizer, TaskData.Load(new TaskSource { Task = t, Data = TinyModel.Gym }), "test", new EncodingOptions { TaskPrefix = true }, limit: 9))];
        int width = tiny.Checkpoint.Config.DModel;
        // Weak prompts: the model still answers, and differently behind each.
        Prompt[] prompts = [.. Enumerable.Range(1, 3).Select(seed => { var r = new Random(seed); return new Prompt([.. Enumerable.Range(0, 2 * width).Select(_ => (float)(r.NextDouble() - 0.5) * 0.3f)], 2, width); })];
        using var memory = new PromptMemory(tiny.Frozen.Device, prompts);
        var evaluator = new Evaluator(tiny.Frozen, tiny.Tokenizer);
        TransferMatrix matrix = TaskTransfer.Measure(evaluator, memory.Table, [new TransferSource("words-first", [0, 2]), new TransferSource("other", [1]), new TransferSource("none", [])],
            [.. targets.Select(t => new TransferTarget(t, new Dictionary<string, string>()))]);
        Assert.Equal(["words-first", "clinc150-domain"], matrix.Targets);
        for (int t = 0; t < targets.Length; t++)
        {
            double[] own = [.. ((int[])[0, 1, 2, -1]).Select(p => evaluator.Evaluate([new EvaluationJob(targets[t], p)], memory.Table)[0].Score)];
            Assert.Equal((own[0] + own[2]) / 2, matrix.Scores[0][t].Mean, 1e-12);
            Assert.Equal(2, matrix.Scores[0][t].Count);
            Assert.Equal(own[1], matrix.Scores[1][t].Mean, 1e-12);
            Assert.Equal(own[3], matrix.Scores[2][t].Mean, 1e-12);
        }
        Assert.True(matrix.Scores[2][0].Mean > 0, "the untuned model knows the task by its name");
        Assert.Equal(matrix.Scores[0][0].Mean > 0 ? matrix.Scores[2][0].Mean / matrix.Scores[0][0].Mean : double.NaN, matrix.Relative(2, 0));
        Assert.True(double.IsNaN(matrix.Relative(0, 1)), "no source is the second target");
    }

    [Fact]
    public void WordsOfAnotherLabelSetAreTranslated()
    {
        TaskData task = TaskData.Load(new TaskSource { Task = "clinc150-domain", Data = TinyModel.Gym });
        EncodedExamples real = EncodedExamples.Encode(tiny.Tokenizer, task, "test", new EncodingOptions { TaskPrefix = true }, limit: 12);
        // The same task with other words for its labels: the model's answers are wrong until they are translated.
        EncodedExamples renamed = EncodedExamples.Encode(tiny.Tokenizer, task.Name, [.. real.Examples.Select(e => new TaskExample(e.Input, [.. e.Answers.Select(a => "class " + a)]))],
            new EncodingOptions { TaskPrefix = true }, ["em"], [.. task.Labels.Select(l => "class " + l)]);
        var evaluator = new Evaluator(tiny.Frozen, tiny.Tokenizer);
        double Score(Dictionary<string, string> words) => TaskTransfer.Measure(evaluator, null, [new TransferSource("none", [])], [new TransferTarget(renamed, words)]).Scores[0][0].Mean;
        EvaluationResult plain = evaluator.Evaluate([new EvaluationJob(real)])[0];
        double expected = plain.Predictions.Zip(real.Examples).Count(p => p.First.Trim() == p.Second.Target) / (double)real.Count;
        Assert.True(expected > 0.3, $"the untuned model answers {expected:P0}");
        Assert.Equal(0, Score([]));
        Assert.Equal(expected, Score(task.Labels.ToDictionary(l => l, l => "class " + l)), 1e-12);
    }
}
