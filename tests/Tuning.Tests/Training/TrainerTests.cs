using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Optimizers;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Training;
using Xunit;

namespace IptNative.Tuning.Tests.Training;

public sealed class TrainerTests(TrainingModel model) : IClassFixture<TrainingModel>
{
    private static TrainerOptions Options(TrainingConfig training, double rate = 0.01) =>
        new() { Training = training, Optimizer = new OptimizerConfig { LearningRate = rate }, Limit = TrainingModel.Whole };

    [Theory]
    [InlineData(4, 2, int.MaxValue, 8192)]
    [InlineData(2, 4, int.MaxValue, 8192)]
    [InlineData(8, 1, 3, 8192)]
    [InlineData(8, 1, 1, 8192)]
    [InlineData(4, 2, 5, 100)]
    public void HoweverAStepIsCutItIsTheWholeBatch(int batch, int accumulation, int examples, long positions)
    {
        EncodedExamples train = model.Examples("clinc150-domain", "train", 16);
        TrainingRow[] rows = [TrainingModel.Row(0, train, 42), TrainingModel.Row(1, model.Examples("words-second", "train", 16), 43)];
        Prompt[] start = [model.Start(5, 42), model.Start(3, 43)];
        // Plain shuffling: two batches of four are then one of eight.
        var whole = new TrainingConfig { Steps = 6, BatchSize = 8, LengthBuckets = false, EvalEvery = 100 };
        var expected = new Told();
        (_, Prompt[] reference) = model.Train(rows, start, Options(whole), expected);
        var told = new Told();
        TrainerOptions cut = Options(whole with { BatchSize = batch, GradientAccumulation = accumulation }) with { Limit = new MicroBatchLimit(examples, positions) };
        (_, Prompt[] prompts) = model.Train(rows, start, cut, told);
        Assert.Equal(expected.Steps.Count, told.Steps.Count);
        for (int i = 0; i < told.Steps.Count; i++)
        {
            // A mean over all tokens of the step, whatever a micro-batch holds; only sums are taken in another order.
            Assert.Equal(expected.Steps[i].Row.Loss, told.Steps[i].Row.Loss, 1e-4 * expected.Steps[i].Row.Loss);
            Assert.Equal(expected.Steps[i].Row.GradientNorm, told.Steps[i].Row.GradientNorm, 1e-3 * expected.Steps[i].Row.GradientNorm);
        }
        for (int i = 0; i < prompts.Length; i++)
            Assert.InRange(TrainingModel.Distance(prompts[i].Values, reference[i].Values), 0, 1e-4);
    }

    [Fact]
    public void PatienceEndsARunAndItsBestPromptIsKept()
    {
        EncodedExamples train = model.Examples("words-second", "train", 8), dev = model.Examples("words-second", "dev", 6);
        Prompt[] start = [model.Start(2, 1)];
        var told = new Told();
        // A rate of 0 never gets better: the first score is the best one. Weight decay would not care for the rate.
        TrainerOptions options = Options(new TrainingConfig { Steps = 50, BatchSize = 4, EvalEvery = 2, Patience = 3 }, rate: 0);
        options = options with { Optimizer = options.Optimizer with { Adafactor = new AdafactorOptions { WeightDecay = 0 } } };
        (IReadOnlyList<TrainingOutcome> outcomes, Prompt[] prompts) =
            model.Train([TrainingModel.Row(0, train, 1, dev)], start, options, told);
        Assert.Equal((StopReason.Patience, 8L, 2L), (outcomes[0].Stopped, outcomes[0].Steps, outcomes[0].BestStep));
        Assert.Equal([true, false, false, false], told.Evaluations.Select(e => e.IsBest));
        Assert.Equal((StopReason.Patience, 8L, 2L), (told.Ended[0].Reason, told.Ended[0].Step, told.Ended[0].BestStep));
        Assert.Equal(8, told.Steps.Count);
        Assert.Equal(start[0].Values, prompts[0].Values);
    }

    [Fact]
    public void TheScoreIsNamedOnlyWhereAllRunsHaveTheSame()
    {
        EncodedExamples words = model.Examples("words-second", "train", 4), domains = model.Examples("clinc150-domain", "train", 4);
        var told = new Told();
        TrainerOptions options = Options(new TrainingConfig { Steps = 1, BatchSize = 2 });
        model.Train([TrainingModel.Row(0, words, 1, words), TrainingModel.Row(1, words, 2, words)], [model.Start(1, 1), model.Start(1, 2)], options, told);
        Assert.Equal("em", told.Start?.Metric);
        model.Train([TrainingModel.Row(0, words, 1, words), TrainingModel.Row(1, domains, 2, domains)], [model.Start(1, 1), model.Start(1, 2)], options, told);
        Assert.Equal("score", told.Start?.Metric);
        model.Train([TrainingModel.Row(0, words, 1)], [model.Start(1, 1)], options, told);
        Assert.Equal("none", told.Start?.Metric);
    }

    [Theory]
    [InlineData(Model.Backward.ForwardEngine.Native)]
    [InlineData(Model.Backward.ForwardEngine.Ort)]
    public void ARunThatIsNotFiniteStopsAndTheOthersGoOn(Model.Backward.ForwardEngine engine)
    {
        EncodedExamples train = model.Examples("words-second", "train", 9), dev = model.Examples("words-second", "dev", 5);
        TrainingRow[] rows = [.. Enumerable.Range(0, 3).Select(i => TrainingModel.Row(i, train, 42 + i, dev))];
        Prompt[] start = [model.Start(4, 42), model.Start(3, 43), model.Start(6, 44)];
        start[1].Values[200] = float.NaN;
        TrainerOptions options = Options(new TrainingConfig { Steps = 7, BatchSize = 3, EvalEvery = 3 });
        var told = new Told();
        (IReadOnlyList<TrainingOutcome> outcomes, Prompt[] prompts) = model.Train(rows, start, options, told, engine);
        Assert.Equal([StopReason.Steps, StopReason.NonFinite, StopReason.Steps], outcomes.Select(o => o.Stopped));
        RowFinished ended = Assert.Single(told.Ended, e => e.Reason == StopReason.NonFinite);
        Assert.Equal((1, 0L, 0L), (ended.Row, ended.Step, ended.BestStep));
        // Step, layer and example, in the words of the files.
        Assert.Matches(@"^step 1, batch of words-second: the loss is NaN; first not finite: .+, example [1-9] of words-second\. Lower optimizer\.learning_rate, or look at this example\.$", ended.Detail);
        Assert.Equal(14, told.Steps.Count);
        foreach (int i in (ReadOnlySpan<int>)[0, 2])
        {
            (_, Prompt[] solo) = model.Train([rows[i] with { Row = rows[i].Row with { Index = 0 } }], [start[i]], options, new Told(), engine);
            Assert.InRange(TrainingModel.Distance(prompts[i].Values, solo[0].Values), 0, 1e-4);
        }
    }

    [Fact]
    public void AnUpdateThatIsNotFiniteEndsTheRunBeforeItIsScored()
    {
        EncodedExamples train = model.Examples("words-second", "train", 4);
        var told = new Told();
        (IReadOnlyList<TrainingOutcome> outcomes, Prompt[] prompts) =
            model.Train([TrainingModel.Row(0, train, 1, train)], [model.Start(2, 1)], Options(new TrainingConfig { Steps = 5, BatchSize = 2, EvalEvery = 1 }, rate: 1e39), told);
        Assert.Equal(StopReason.NonFinite, outcomes[0].Stopped);
        Assert.Contains("step 1, update of words-second-seed1", outcomes[0].Detail, StringComparison.Ordinal);
        Assert.Empty(told.Evaluations);
        Assert.All(prompts[0].Values, v => Assert.True(float.IsFinite(v)));
    }

    [Fact]
    public void AnEvaluationThatIsNotFiniteEndsOnlyItsRun()
    {
        EncodedExamples train = model.Examples("words-second", "train", 4), dev = model.Examples("words-second", "dev", 5);
        // Its prompt goes bad between the step and the score.
        TrainingRow[] rows = [TrainingModel.Row(0, train, 1, dev), TrainingModel.Row(1, train, 2, dev)];
        Prompt[] start = [model.Start(2, 1), model.Start(2, 2)];
        using var tuned = new DirectPrompts(model.Device, start);
        var loss = new PromptLoss(model.Pass(Model.Backward.ForwardEngine.Native), 2, LossReduction.Mean, TrainingModel.Whole);
        Action<long> poison = _ => tuned.Parameters(1)[0].Value.CopyFrom<float>([.. Enumerable.Repeat(float.NaN, start[1].Values.Length)]);
        var told = new Told { OnStep = poison };
        using var trainer = new Trainer(model.Device, tuned, rows, loss, new Evaluator(model.Frozen, model.Tokenizer), Options(new TrainingConfig { Steps = 2, BatchSize = 2, EvalEvery = 1 }), told, null);
        IReadOnlyList<TrainingOutcome> outcomes = trainer.Run(TestContext.Current.CancellationToken);
        Assert.Equal([StopReason.Steps, StopReason.NonFinite], outcomes.Select(o => o.Stopped));
        Assert.Matches(@"^evaluation after step 1, development examples of words-second: the loss is NaN; first not finite: .+, example 1 of words-second", outcomes[1].Detail);
        Assert.Equal([0, 0], told.Evaluations.Select(e => e.Row));
    }
}
