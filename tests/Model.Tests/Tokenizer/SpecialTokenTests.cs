// What Hugging Face's T5Tokenizer adds to SentencePiece: sentinels, control tokens in text, tokenizer_config.json.
using IptNative.Model.Tokenizer;
using Xunit;
using static IptNative.Model.Tests.Tokenizer.TokenizerFixture;

namespace IptNative.Model.Tests.Tokenizer;

public sealed class SpecialTokenTests
{
    [Fact]
    public void AFolderHasAHundredSentinelsInReverse()
    {
        T5Tokenizer tokenizer = LoadFolder(null);
        Assert.Equal(32100, tokenizer.Count);
        Assert.Equal(100, tokenizer.SentinelCount);
        Assert.Equal(32099, tokenizer.SentinelId(0));
        Assert.Equal(32000, tokenizer.SentinelId(99));
        Assert.True(tokenizer.IsSentinel(32050));
        Assert.False(tokenizer.IsSentinel(1));
        Assert.Equal("<extra_id_1>", tokenizer.IdToPiece(32098));
        Assert.Equal(32098, tokenizer.PieceToId("<extra_id_1>"));
        Assert.Equal((2, 1, 0), (tokenizer.UnkId, tokenizer.EosId, tokenizer.PadId));
        Assert.Contains("100", Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.SentinelId(100)).Message);
    }

    [Fact]
    public void ABareModelIsSentencePieceAlone()
    {
        Assert.Equal(32000, T5.Count);
        Assert.Equal(0, T5.SentinelCount);
        Assert.Equal([3, 2, 87, 7, 3155], T5.Encode("</s>", false));
        Assert.Equal([3, 2, 87, 7, 3155, 1], T5.Encode("</s>", true));
    }

    // Expected ids: what transformers' T5Tokenizer gives; the golden's ids for the words between.
    [Theory]
    [InlineData("<extra_id_0> and <extra_id_99>", new[] { 32099, 11, 32000 })]
    [InlineData("a<extra_id_0>b", new[] { 3, 9, 32099, 3, 115 })]
    [InlineData("a  <extra_id_0> \t b", new[] { 3, 9, 32099, 3, 115 })]
    [InlineData("<extra_id_0><extra_id_1>", new[] { 32099, 32098 })]
    [InlineData("a</s>", new[] { 3, 9, 1 })]
    [InlineData("<pad><unk>", new[] { 0, 2 })]
    [InlineData(" <extra_id_10> ", new[] { 32089 })]
    public void SpecialTokensInTheTextBecomeTheirIds(string text, int[] ids) => Assert.Equal(ids, LoadFolder(null).Encode(text, false));

    [Theory]
    [InlineData("<extra_id_100>")]
    [InlineData("<extra_id_00>")]
    [InlineData("<EXTRA_ID_0>")]
    [InlineData("<extra_id_0 >")]
    [InlineData("＜extra_id_0＞")]
    public void WhatOnlyLooksLikeASentinelIsText(string text) => Assert.Equal(T5.Encode(text, false), LoadFolder(null).Encode(text, false));

    [Fact]
    public void WithoutLegacyOnlyTheBeginningGetsAPrefix()
    {
        T5Tokenizer tokenizer = LoadFolder("""{"legacy": false, "added_tokens_decoder": {"32099": {"content": "<extra_id_0>", "special": true, "lstrip": false, "rstrip": false}}}""");
        Assert.Equal(["▁", "a", "<extra_id_0>", "b"], tokenizer.EncodeToPieces("a<extra_id_0>b"));
        Assert.Equal(["▁", "a", "<extra_id_0>", "▁", "b"], tokenizer.EncodeToPieces("a<extra_id_0>  b"));
        Assert.Equal(["▁", "a", "<extra_id_1>", "b"], tokenizer.EncodeToPieces("a <extra_id_1> b"));
        Assert.Equal(T5.Encode("  a plain text ", false), tokenizer.Encode("  a plain text ", false));
    }

    [Fact]
    public void TheNumberOfSentinelsComesFromTheConfiguration()
    {
        Assert.Equal(7, LoadFolder("""{"extra_ids": 7}""").SentinelCount);
        Assert.Equal(32006, LoadFolder("""{"extra_ids": 7}""").SentinelId(0));
        Assert.Equal(0, LoadFolder("""{"extra_ids": 0}""").SentinelCount);
        Assert.Equal(2, LoadFolder("""{"additional_special_tokens": ["<extra_id_0>", {"content": "<extra_id_1>"}]}""").SentinelCount);
        Assert.Equal(0, LoadFolder(null, vocabSize: 32000).SentinelCount);
    }

    [Theory]
    [InlineData("""{"extra_ids": -1}""", null, "found -1 with 0 sentinels")]
    [InlineData("""{"extra_ids": 3, "additional_special_tokens": ["<extra_id_0>"]}""", null, "found 3 with 1 sentinels")]
    [InlineData("""{"extra_ids": 2000000000}""", null, "at most 10000")]
    [InlineData("""{"extra_ids": 100}""", 32050, "vocab_size 32050")]
    [InlineData("""{}""", 31000, "32000 pieces, config.json has vocab_size 31000")]
    [InlineData("""{"added_tokens_decoder": {"x": {}}}""", null, "found the entry 'x'")]
    [InlineData("""{"added_tokens_decoder": {"2000000000": {"content": "<a>"}}}""", null, "has id 2000000000")]
    [InlineData("[1]", null, "no JSON object")]
    [InlineData("{", null, "Expected JSON")]
    [InlineData("""{"eos_token": "\ud800"}""", null, "half a surrogate pair")]
    public void AContradictoryConfigurationIsRefused(string config, int? vocabSize, string message) =>
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => LoadFolder(config, vocabSize)).Message);

    [Fact]
    public void UserAddedTokensAreFound()
    {
        T5Tokenizer tokenizer = LoadFolder("""{"added_tokens_decoder": {"32100": {"content": "<sep>", "single_word": true}}}""", added: """{"<sep><sep>": 32101}""");
        Assert.Equal(32102, tokenizer.Count);
        Assert.Equal(["▁", "a", "<sep>", "▁", "b"], tokenizer.EncodeToPieces("a <sep> b"));
        Assert.Equal(["<sep><sep>"], tokenizer.EncodeToPieces("<sep><sep>"));
        Assert.DoesNotContain(32100, tokenizer.Encode("a<sep>b", false));
        Assert.Equal("a <sep> b", tokenizer.Decode(tokenizer.Encode("a <sep> b", true)));
    }

    [Fact]
    public void DecodingShowsSentinelsAndHidesControlTokens()
    {
        T5Tokenizer tokenizer = LoadFolder(null);
        int[] ids = [0, .. tokenizer.Encode("The <extra_id_0> walks in<extra_id_1>park", true), 0];
        Assert.Equal("The <extra_id_0> walks in <extra_id_1> park", tokenizer.Decode(ids));
        Assert.Equal("The walks in park", tokenizer.Decode(ids, skipSentinels: true));
        Assert.Equal("<pad> The <extra_id_0> walks in <extra_id_1> park</s><pad>", tokenizer.Decode(ids, skipSpecial: false));
        Assert.Equal("", tokenizer.Decode([0, 1]));
        Assert.Equal("", tokenizer.Decode([]));
    }

    [Fact]
    public void IdsBeyondTheTokenizerAreVisibleAndThoseBeyondTheModelAreErrors()
    {
        T5Tokenizer tokenizer = LoadFolder(null, vocabSize: 32128);
        Assert.Equal("a <unused_32127> b", tokenizer.Decode([3, 9, 32127, 3, 115]));
        Assert.Equal("<unused_32100>", tokenizer.IdToPiece(32100));
        Assert.Contains("expected 0 to 32127", Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Decode([32128])).Message);
        Assert.Contains("the id -1", Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Decode([-1])).Message);
        Assert.Contains("the id -5", Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.IdToPiece(-5)).Message);
    }

    [Fact]
    public void AFolderWithoutATokenizerSaysWhatIsMissing()
    {
        string folder = NewFolder();
        try
        {
            string message = Assert.Throws<FileNotFoundException>(() => T5Tokenizer.Load(folder)).Message;
            Assert.Contains("spiece.model", message);
            Assert.Contains("tokenizer.json", message);
            Assert.Contains("no such file", Assert.Throws<FileNotFoundException>(() => T5Tokenizer.Load(Path.Combine(folder, "absent"))).Message);
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }

    private static T5Tokenizer LoadFolder(string? config, int? vocabSize = null, string? added = null)
    {
        string folder = NewFolder();
        try
        {
            File.Copy(T5ModelPath, Path.Combine(folder, "spiece.model"));
            if (config is not null)
                File.WriteAllText(Path.Combine(folder, "tokenizer_config.json"), config);
            if (added is not null)
                File.WriteAllText(Path.Combine(folder, "added_tokens.json"), added);
            return T5Tokenizer.Load(folder, vocabSize);
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }
}
