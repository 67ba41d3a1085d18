using IptNative.Model.Tokenizer;
using Xunit;
using static IptNative.Model.Tests.Tokenizer.TokenizerFixture;

namespace IptNative.Model.Tests.Tokenizer;

/// <summary>T5's own vocabulary against SentencePiece's output.</summary>
public sealed class T5TokenizerTests
{
    [Fact]
    public void EveryGoldenLineHasTheReferencesIdsPiecesAndText()
    {
        Assert.Equal(320, Golden.Length);
        foreach (GoldenLine line in Golden)
        {
            int[] ids = T5.Encode(line.Text, false);
            Assert.True(line.Ids.AsSpan().SequenceEqual(ids), $"'{line.Text}': [{string.Join(' ', ids)}], expected [{string.Join(' ', line.Ids)}]");
            Assert.Equal(line.Pieces, T5.EncodeToPieces(line.Text));
            Assert.Equal(line.Decoded, T5.Decode(ids));
        }
    }

    [Fact]
    public void TokenizerJsonGivesTheSameIds()
    {
        T5Tokenizer json = T5Tokenizer.Load(T5JsonPath);
        Assert.Equal(32100, json.Count);
        Assert.Equal((2, 1, 0), (json.UnkId, json.EosId, json.PadId));
        List<string> different = [];
        foreach (GoldenLine line in Golden)
        {
            if (!json.Encode(line.Text, false).AsSpan().SequenceEqual(line.Ids))
                different.Add(line.Text);
            else
                Assert.Equal(line.Decoded, json.Decode(line.Ids));
        }

        Assert.True(different.Count == 0, string.Join("\n", different));
    }
}
