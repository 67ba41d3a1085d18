using IptNative.Model.Decoding;
using Xunit;

namespace IptNative.Model.Tests.Decoding;

public sealed class GenerationOptionsTests
{
    public static TheoryData<GenerationOptions, string> Bad() => new()
    {
        { new() { MaxLength = 0 }, "max_length is 0; expected at least 1 new token" },
        { new() { MaxLength = 5, MinLength = 5 }, "min_length is 5; expected 0 to max_length - 1 = 4" },
        { new() { NumBeams = 0 }, "num_beams is 0; expected 1 to 256" },
        { new() { LengthPenalty = double.NaN }, "length_penalty is NaN; expected a finite number" },
        { new() { Temperature = 0 }, "temperature is 0; expected a finite number above 0" },
        { new() { TopK = -1 }, "top_k is -1; expected 0 (all tokens) or more" },
        { new() { TopP = 0 }, "top_p is 0; expected above 0 and at most 1" },
        { new() { TopP = double.NaN }, "top_p is NaN" },
        { new() { EarlyStopping = (EarlyStopping)7 }, "early_stopping is 7; expected false, true or never" },
        { new() { DoSample = true, NumBeams = 2 }, "sampling and beam search exclude each other" },
        { new() { NumBeams = 2, NumReturnSequences = 3 }, "num_return_sequences is 3, num_beams is 2" },
    };

    [Theory]
    [MemberData(nameof(Bad))]
    public void WhatIsImpossibleIsNamed(GenerationOptions options, string message) =>
        Assert.Contains(message, Assert.Throws<ArgumentException>(() => options.Validate()).Message, StringComparison.Ordinal);

    [Fact]
    public void DefaultsAreValid() => Assert.Equal(new GenerationOptions(), new GenerationOptions().Validate());

    [Fact]
    public void IdsOutsideTheVocabularyAreNamed()
    {
        using var decoder = new TableStepDecoder(TableStepDecoder.Constant(0, 1, 2));
        Assert.Contains("eos_token_id is 3, outside the vocabulary of 3 tokens", Assert.Throws<ArgumentException>(() => Generator.Generate(decoder, new(), 0, 3)).Message, StringComparison.Ordinal);
        Assert.Contains("decoder_start_token_id is -1", Assert.Throws<ArgumentException>(() => Generator.Generate(decoder, new(), -1, 1)).Message, StringComparison.Ordinal);
        Assert.Contains("2 random streams were given for 1 examples", Assert.Throws<ArgumentException>(() => Generator.Generate(decoder, new(), 0, 1, [1, 2])).Message, StringComparison.Ordinal);
    }
}
