using IptNative.Model.Tokenizer;
using IptNative.Tuning.Data;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using Xunit;

namespace IptNative.Tuning.Tests.Data;

public sealed class RunTaskTests
{
    [Fact]
    public void OptionsBecomeDataAndIds()
    {
        T5Tokenizer tokenizer = T5Tokenizer.Load(TinyModel.Folder);
        RunTask task = RunTask.Load(new TaskConfig { Name = "poems", Data = Path.Combine(TinyModel.Gym, "poem_sentiment"), Seed = 42, Metric = ["em"], TaskPrefix = true, TestLimit = 9 });
        Assert.Equal("poems", task.Data.Name);
        var training = new TrainingConfig { MaxSourceLength = 6, MaxTargetLength = 3 };
        EncodedExamples test = task.Encode(tokenizer, "test", training)!; // the task has a test split
        Assert.Equal((9, 6), (test.Count, test.LongestInput));
        Assert.Equal(["em"], test.Metrics);
        Assert.StartsWith("[poems", tokenizer.Decode(test.InputIds(0)), StringComparison.Ordinal);
        Assert.Equal(64, task.Encode(tokenizer, "train", training)?.Count);
        Assert.Contains("\"valid\" is unknown", Assert.Throws<ArgumentException>(() => task.Encode(tokenizer, "valid", training)).Message, StringComparison.Ordinal);

        string file = Path.Combine(TinyModel.Gym, "words-first", "words-first_32_13_train.tsv");
        RunTask alone = RunTask.Load(new TaskConfig { Train = file, Metric = ["em"] });
        Assert.Null(alone.Encode(tokenizer, "dev", training));
        Assert.Equal(32, alone.Encode(tokenizer, "train", training)?.Count);
    }

    [Theory]
    [InlineData(PromptInit.Uniform, PromptInitialisationKind.RandomUniform)]
    [InlineData(PromptInit.Vocab, PromptInitialisationKind.SampledVocabulary)]
    [InlineData(PromptInit.ClassLabel, PromptInitialisationKind.ClassLabel)]
    [InlineData(PromptInit.Text, PromptInitialisationKind.Text)]
    [InlineData(PromptInit.File, PromptInitialisationKind.File)]
    public void PromptOptionsBecomeAStart(PromptInit init, PromptInitialisationKind kind)
    {
        var config = new PromptConfig { Init = init, Length = 7, InitText = "t", InitFile = "f", UniformRange = 0.25, VocabPieces = 99 };
        Assert.Equal(
            new PromptInitialisation { Kind = kind, Length = 7, Range = 0.25f, VocabularySize = 99, Text = "t", Path = "f" },
            PromptInitialisation.Of(config, []) with { Labels = [] });
    }
}
