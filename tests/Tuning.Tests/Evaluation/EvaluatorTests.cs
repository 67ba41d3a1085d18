using System.Text.Json;
using IptNative.Tasks.Data;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Tuning.Tests.Evaluation;

public sealed class EvaluatorTests(TinyModel model) : IClassFixture<TinyModel>
{
    private readonly Evaluator _evaluator = new(model.Frozen, model.Tokenizer);

    private EncodedExamples Task(string name, int? limit = null, bool prefix = true, params string[] metrics) =>
        EncodedExamples.Encode(model.Tokenizer, TaskData.Load(new TaskSource { Task = name, Data = TinyModel.Gym, Metrics = metrics }), "test", new EncodingOptions { TaskPrefix = prefix }, limit);

    private EvaluationResult Evaluate(EncodedExamples examples, EvaluationOptions? options = null) => _evaluator.Evaluate([new(examples)], options: options)[0];

    private Prompt Vocabulary(int length, int seed) =>
        new PromptInitialiser(model.Checkpoint, model.Tokenizer).Create(new PromptInitialisation { Length = length }, seed).Prompt;

    [Fact]
    public void AnswersArePyTorchsInWhateverBatches()
    {
        var inputs = new List<TaskExample>();
        var expected = new List<string>();
        foreach (string line in File.ReadLines(Path.Combine(TinyModel.Root, "tests", "Goldens", "t5-gym-tiny", "greedy.golden.jsonl")))
        {
            using JsonDocument golden = JsonDocument.Parse(line);
            inputs.Add(new TaskExample(golden.RootElement.GetProperty("input").GetString()!, ["none"])); // the fixture's fields are texts
            int[] ids = [.. golden.RootElement.GetProperty("ids").EnumerateArray().Select(i => i.GetInt32())];
            expected.Add(model.Tokenizer.Decode(ids, skipSentinels: true));
        }
        Assert.Equal(120, inputs.Count);
        EncodedExamples examples = EncodedExamples.Encode(model.Tokenizer, "golden", inputs, new EncodingOptions { MaxSourceLength = 128 });
        foreach (EvaluationOptions options in (EvaluationOptions[])[new(), new() { BatchSize = 7 }, new() { MaxBatchPositions = 300 }])
        {
            EvaluationResult result = Evaluate(examples, options with { MaxTargetLength = 24 });
            Assert.Equal(expected, result.Predictions);
            Assert.Empty(result.Scores);
            Assert.True(double.IsNaN(result.Score));
        }
        EncodedExamples few = EncodedExamples.Encode(model.Tokenizer, "golden", inputs[..11], new EncodingOptions { MaxSourceLength = 128 });
        Assert.Equal(expected[..11], Evaluate(few, new EvaluationOptions { BatchSize = 1, MaxTargetLength = 24 }).Predictions);
    }

    [Theory]
    [InlineData("banking77-intent_generation", 0.743)]
    [InlineData("dbpedia_14", 0.863)]
    [InlineData("words-first", 0.687)]
    [InlineData("clinc150-domain", 0.800)]
    [InlineData("blimp-anaphor_gender_agreement", 0.525)]
    public void ExactMatchIsWhatTheModelsReadmeSays(string task, double expected) =>
        Assert.Equal(expected, Evaluate(Task(task, metrics: "em")).Score, 0.0005);

    [Fact]
    public void PromptsOfDifferentLengthsSideBySideAnswerAsAlone()
    {
        EncodedExamples first = Task("clinc150-domain", 40, prefix: false);
        EncodedExamples second = Task("words-second", 30, prefix: true);
        Prompt[] prompts = [Vocabulary(3, 1), Vocabulary(20, 2), Vocabulary(9, 3)];
        using var memory = new PromptMemory(model.Frozen.Device, prompts);
        EvaluationJob[] jobs = [new(first, 0), new(second, 1), new(first, 2), new(first), new(second)];
        IReadOnlyList<EvaluationResult> together = _evaluator.Evaluate(jobs, memory.Table);
        for (int j = 0; j < jobs.Length; j++)
        {
            EvaluationResult alone = _evaluator.Evaluate([jobs[j]], memory.Table, new EvaluationOptions { BatchSize = 13 })[0];
            Assert.Equal(alone.Predictions, together[j].Predictions);
            Assert.Equal((alone.Score, alone.Unfinished, alone.Task), (together[j].Score, together[j].Unfinished, together[j].Task));
        }
        Assert.NotEqual(together[0].Predictions, together[2].Predictions);
    }

    [Fact]
    public void EveryJobKeepsItsOwnLimit()
    {
        TaskExample[] inputs = [new("the old man said that he", ["a"])];
        EncodedExamples brief = EncodedExamples.Encode(model.Tokenizer, "a", inputs, new EncodingOptions());
        EncodedExamples lengthy = EncodedExamples.Encode(model.Tokenizer, "b", [inputs[0] with { Answers = [string.Join(' ', Enumerable.Repeat("the", 20))] }], new EncodingOptions());
        EvaluationResult alone = Evaluate(brief);
        IReadOnlyList<EvaluationResult> both = _evaluator.Evaluate([new(brief), new(lengthy)]);
        Assert.Equal(alone.Predictions, both[0].Predictions);
        Assert.Equal(alone.Unfinished, both[0].Unfinished);
        Assert.Equal(1, both[0].Unfinished);
        Assert.StartsWith(both[0].Predictions[0], both[1].Predictions[0], StringComparison.Ordinal);
        Assert.True(both[1].Predictions[0].Length > both[0].Predictions[0].Length);
    }

    [Fact]
    public void BeamsSearchWithinTheirOwnLimits()
    {
        TaskExample[] inputs = [new("the old man said that he", ["a"]), new("[words-first] old man", ["a"])];
        EncodedExamples brief = EncodedExamples.Encode(model.Tokenizer, "a", inputs, new EncodingOptions());
        EncodedExamples lengthy = EncodedExamples.Encode(model.Tokenizer, "b", [.. inputs.Select(i => i with { Answers = ["the man and the woman and the child and the dog"] })], new EncodingOptions());
        var options = new EvaluationOptions { NumBeams = 4 };
        IReadOnlyList<EvaluationResult> both = _evaluator.Evaluate([new(brief), new(lengthy)], options: options);
        Assert.Equal(Evaluate(brief, options).Predictions, both[0].Predictions);
        Assert.Equal(Evaluate(lengthy, options with { BatchSize = 1 }).Predictions, both[1].Predictions);
        Assert.NotEqual(Evaluate(lengthy).Predictions[0], both[1].Predictions[0]);
        Assert.Contains("num_beams is 0", Assert.Throws<ArgumentException>(() => Evaluate(brief, options with { NumBeams = 0 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void LabelsAreCountedAndProgressIsTold()
    {
        EncodedExamples examples = Task("clinc150-domain", 50);
        var told = new List<(int, int)>();
        EvaluationResult result = _evaluator.Evaluate([new(examples)], options: new EvaluationOptions { BatchSize = 20 }, progress: (done, total) => told.Add((done, total)))[0];
        Assert.Equal([(20, 50), (40, 50), (50, 50)], told);
        Assert.NotNull(result.Labels);
        Assert.Equal(50, result.Labels.PerLabel.Values.Sum() + result.Labels.Illegal);
        Assert.Equal("classification_f1", Assert.Single(result.Scores).Key);
        Assert.Same(examples.Examples, result.Examples);
    }

    [Fact]
    public void SentinelsAreTakenOffTheAnswer()
    {
        // Pre-training's span corruption: the answer starts with the first sentinel and ends before the next.
        TaskExample[] inputs = [new("Thank you <extra_id_0> me to your party <extra_id_1> week.", ["for inviting"])];
        EvaluationResult result = Evaluate(EncodedExamples.Encode(model.Tokenizer, "a", inputs, new EncodingOptions { Sentinel = true }), new EvaluationOptions { MaxTargetLength = 20 });
        Assert.DoesNotContain("<extra_id_", result.Predictions[0], StringComparison.Ordinal);
        Assert.NotEmpty(result.Predictions[0]);
    }

    [Fact]
    public void WhatCannotBeIsRefused()
    {
        EncodedExamples examples = Task("words-first", 2);
        Assert.Contains("found 0 jobs", Assert.Throws<ArgumentException>(() => _evaluator.Evaluate([])).Message, StringComparison.Ordinal);
        Assert.Contains("job 0 (task words-first) wants prompt 0, the table has 0", Assert.Throws<ArgumentException>(() => _evaluator.Evaluate([new(examples, 0)])).Message, StringComparison.Ordinal);
        Assert.Contains("batch_size is 0", Assert.Throws<ArgumentException>(() => Evaluate(examples, new EvaluationOptions { BatchSize = 0 })).Message, StringComparison.Ordinal);
        Assert.Contains("max_target_length is 0", Assert.Throws<ArgumentException>(() => Evaluate(examples, new EvaluationOptions { MaxTargetLength = 0 })).Message, StringComparison.Ordinal);
        using var cancel = new CancellationTokenSource();
        cancel.Cancel();
        Assert.Throws<OperationCanceledException>(() => _evaluator.Evaluate([new(examples)], cancel: cancel.Token));
    }

    [Fact]
    public void BaselinesAreTheCommonestAnswerAndTheUntunedModel()
    {
        TaskData data = TaskData.Load(new TaskSource { Task = "clinc150-domain", Data = TinyModel.Gym, Metrics = ["em"] });
        Baselines baselines = Baselines.Measure(_evaluator, model.Tokenizer, data, "test", new EncodingOptions());
        Assert.Equal(data.Test.GroupBy(e => e.Target).Max(g => g.Count()) / 300.0, baselines.Majority, 1e-12);
        Assert.Equal(baselines.Majority, data.Test.Count(e => e.Target == baselines.MajorityAnswer) / 300.0, 1e-12);
        Assert.Equal(Evaluate(Task("clinc150-domain", null, false, "em")).Score, baselines.Untuned.Score);
        Assert.Equal(0.8, baselines.UntunedWithPrefix.Score, 0.0005);
        Assert.Equal(baselines.Majority, baselines.Best);
    }
}
