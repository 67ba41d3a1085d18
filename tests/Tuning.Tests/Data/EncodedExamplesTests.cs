using IptNative.Model.Tokenizer;
using IptNative.Tasks.Data;
using IptNative.Tuning.Data;
using Xunit;

namespace IptNative.Tuning.Tests.Data;

public sealed class EncodedExamplesTests
{
    private static readonly T5Tokenizer Tokenizer = T5Tokenizer.Load(TinyModel.Folder);

    private static readonly TaskExample[] Examples = [new("what is my balance", ["balance"]), new("pay it", ["pay bill", "the transfer of the money"]), new("x", ["y"])];

    private static EncodedExamples Encode(EncodingOptions? options = null, IReadOnlyList<TaskExample>? examples = null) =>
        EncodedExamples.Encode(Tokenizer, "banking", examples ?? Examples, options ?? new EncodingOptions());

    [Fact]
    public void IdsAreTheTokenizersWithTheEndOfSequence()
    {
        EncodedExamples encoded = Encode();
        for (int i = 0; i < Examples.Length; i++)
        {
            Assert.Equal(Tokenizer.Encode(Examples[i].Input, addEos: true), encoded.InputIds(i));
            Assert.Equal(Tokenizer.Encode(Examples[i].Target, addEos: true), encoded.LabelIds(i));
        }
        Assert.Equal([5, 3, 3], encoded.InputLengths());
        Assert.Equal((5, 0, 0), (encoded.LongestInput, encoded.CutInputs, encoded.CutTargets));
        Assert.Equal(Tokenizer.Encode("the transfer of the money", addEos: true).Length, encoded.LongestAnswer);
    }

    [Fact]
    public void EveryGoldAnswerIsThere()
    {
        EncodedExamples encoded = Encode();
        Assert.Equal([1, 2, 1], Enumerable.Range(0, 3).Select(encoded.AnswerCount));
        Assert.Equal(Tokenizer.Encode("the transfer of the money", addEos: true), encoded.LabelIds(1, 1));
        Assert.Equal(Tokenizer.Encode("y", addEos: true), encoded.LabelIds(2));
    }

    [Fact]
    public void AnswersAreDrawnEvenlyAndTheSameAgain()
    {
        int[] counts = new int[3];
        int changes = 0, seeds = 0;
        for (int batch = 0; batch < 1000; batch++)
        {
            for (int example = 0; example < 30; example++)
            {
                int drawn = AnswerDraw.Of(TrainedAnswers.Drawn, 3, 42, batch, example);
                counts[drawn]++;
                Assert.Equal(drawn, AnswerDraw.Of(TrainedAnswers.Drawn, 3, 42, batch, example));
                changes += drawn != AnswerDraw.Of(TrainedAnswers.Drawn, 3, 42, batch + 1, example) ? 1 : 0;
                seeds += drawn != AnswerDraw.Of(TrainedAnswers.Drawn, 3, 43, batch, example) ? 1 : 0;
                Assert.Equal(0, AnswerDraw.Of(TrainedAnswers.First, 3, 42, batch, example));
                Assert.Equal(0, AnswerDraw.Of(TrainedAnswers.Drawn, 1, 42, batch, example));
            }
        }
        // 30,000 fair draws of three have a standard deviation of 82; neighbours and seeds differ in two of three.
        Assert.All(counts, c => Assert.InRange(c, 9_600, 10_400));
        Assert.InRange(changes, 19_600, 20_400);
        Assert.InRange(seeds, 19_600, 20_400);
    }

    [Fact]
    public void PrefixAndSentinelStandInFront()
    {
        EncodedExamples encoded = Encode(new EncodingOptions { TaskPrefix = true, Sentinel = true });
        Assert.Equal(Tokenizer.Encode("[banking] what is my balance", addEos: true), encoded.InputIds(0));
        Assert.Equal([Tokenizer.SentinelId(0), .. Tokenizer.Encode("balance", addEos: true)], encoded.LabelIds(0));
        T5Tokenizer bare = T5Tokenizer.Load(Path.Combine(TinyModel.Folder, "spiece.model"));
        Assert.Contains("the tokenizer has no sentinels", Assert.Throws<ArgumentException>(() => EncodedExamples.Encode(bare, "t", Examples, new EncodingOptions { Sentinel = true })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void LongTextsAreCutBeforeTheirEnd()
    {
        int[] whole = Tokenizer.Encode(Examples[0].Input, addEos: true);
        EncodedExamples encoded = Encode(new EncodingOptions { MaxSourceLength = 4, MaxTargetLength = 2 });
        Assert.Equal([.. whole[..3], Tokenizer.EosId], encoded.InputIds(0));
        Assert.Equal(2, encoded.LabelIds(1).Length);
        Assert.Equal((1, 2), (encoded.CutInputs, encoded.LongestAnswer));
        Assert.Equal(Examples.Count(e => Tokenizer.Encode(e.Target, addEos: true).Length > 2), encoded.CutTargets);
    }

    [Fact]
    public void PromptAndTextShareTheTotal()
    {
        Assert.Equal(412, new EncodingOptions { MaxTotalLength = 512, PromptLength = 100 }.SourceLimit());
        Assert.Equal(512, new EncodingOptions { PromptLength = 100 }.SourceLimit());
        Assert.Equal(8, new EncodingOptions { MaxSourceLength = 8, MaxTotalLength = 512, PromptLength = 100 }.SourceLimit());
        EncodedExamples encoded = Encode(new EncodingOptions { MaxTotalLength = 13, PromptLength = 10 });
        Assert.Equal((3, 1), (encoded.LongestInput, encoded.CutInputs));
        Assert.Contains("the prompt has 511 rows, prompt and text may have 512 positions together: 1 are left for the text",
            Assert.Throws<ArgumentException>(() => Encode(new EncodingOptions { MaxTotalLength = 512, PromptLength = 511 })).Message, StringComparison.Ordinal);
        Assert.Contains("max_source_length is 1", Assert.Throws<ArgumentException>(() => Encode(new EncodingOptions { MaxSourceLength = 1 })).Message, StringComparison.Ordinal);
        Assert.Contains("max_target_length is 0", Assert.Throws<ArgumentException>(() => Encode(new EncodingOptions { MaxTargetLength = 0 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ASplitBringsMetricsAndLabels()
    {
        TaskData data = TaskData.Load(new TaskSource { Task = "clinc150-banking_intent", Data = TinyModel.Gym });
        EncodedExamples encoded = EncodedExamples.Encode(Tokenizer, data, "test", new EncodingOptions(), limit: 7);
        Assert.Equal(7, encoded.Count);
        Assert.Equal(data.Test.Take(7), encoded.Examples);
        Assert.Equal(["classification_f1"], encoded.Metrics);
        Assert.Equal(15, encoded.Labels.Count);
        Assert.Equal(300, EncodedExamples.Encode(Tokenizer, data, "test", new EncodingOptions(), limit: 1000).Count);
        Assert.Contains("the limit is 0", Assert.Throws<ArgumentException>(() => EncodedExamples.Encode(Tokenizer, data, "test", new EncodingOptions(), limit: 0)).Message, StringComparison.Ordinal);
        Assert.Contains("found 0 examples", Assert.Throws<ArgumentException>(() => Encode(examples: [])).Message, StringComparison.Ordinal);
    }
}
