// T5's own vocabulary against SentencePiece's output, and any text at all against common sense.
using System.Text;
using IptNative.Model.Tokenizer;
using Xunit;
using static IptNative.Model.Tests.Tokenizer.TokenizerFixture;

namespace IptNative.Model.Tests.Tokenizer;

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
    public void EveryPieceIsFoundByItsText()
    {
        for (int id = 0; id < T5.Count; id++)
            Assert.Equal(id, T5.PieceToId(T5.IdToPiece(id)));
        Assert.Null(T5.PieceToId("no such piece"));
        Assert.Null(T5.PieceToId(""));
    }

    [Fact]
    public void RandomTextNeverFailsAndGivesLegalIds()
    {
        Random random = new(42);
        TokenBuffer buffer = new();
        for (int i = 0; i < 3000; i++)
        {
            string text = RandomUtf16(random, random.Next(0, 60));
            T5.Encode(text, true, buffer);
            Assert.Equal(T5.EosId, buffer.Ids[^1]);
            foreach (int id in buffer.Ids)
                Assert.InRange(id, 0, T5.Count - 1);
            Assert.Equal(buffer.Count, T5.Pieces(buffer).Length);
            Assert.NotNull(T5.Decode(buffer.Ids));
        }
    }

    [Fact]
    public void DecodedTextEncodesToTheSameIds()
    {
        foreach (GoldenLine line in Golden.Where(l => !l.Ids.Contains(T5.UnkId)))
            Assert.Equal(line.Decoded, T5.Decode(T5.Encode(line.Decoded, false)));
    }

    [Fact]
    public void ALoneSurrogateIsReadAsTheReplacementCharacter()
    {
        // Not theory data: attributes are stored as UTF-8, which has no lone surrogates.
        foreach (string text in (string[])["a\uD800b", "a\uDC00b", "a\uDC00\uD800b", "\uD83D", new('\uD800', 300_000)])
        {
            string replaced = new([.. text.Select(c => char.IsSurrogate(c) ? '\uFFFD' : c)]);
            Assert.Equal(T5.Encode(replaced, false), T5.Encode(text, false));
        }
    }

    [Theory]
    [InlineData("a", 1_000_000)]
    [InlineData("\u3042", 300_000)]
    [InlineData(" ", 1_000_000)]
    [InlineData("<extra_id_", 100_000)]
    [InlineData("the ", 100_000)]
    [InlineData("\uFDFA", 100_000)]
    [InlineData("e\u0301", 200_000)]
    public void HugeTextsAreEncodedInLinearTime(string unit, int count)
    {
        // Nothing is timed: linear time is well under a second here, quadratic time would be hours.
        string text = new StringBuilder(unit.Length * count).Insert(0, unit, count).ToString();
        int[] ids = T5.Encode(text, false);
        Assert.Equal(unit == " ", ids.Length == 0);
        Assert.All(ids.Distinct(), id => Assert.InRange(id, 0, T5.Count - 1));
        Assert.NotNull(T5.Decode(ids));
    }

    [Fact]
    public void EncodingIntoABufferAllocatesNothing()
    {
        TokenBuffer buffer = new();
        T5.Encode(Golden[2].Text, true, buffer);
        foreach (GoldenLine line in Golden)
            T5.Encode(line.Text, true, buffer);
        long before = GC.GetAllocatedBytesForCurrentThread();
        foreach (GoldenLine line in Golden)
            T5.Encode(line.Text, true, buffer);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void ThreadsShareATokenizer() =>
        Parallel.For(0, 8, _ =>
        {
            foreach (GoldenLine line in Golden)
                Assert.Equal(line.Ids, T5.Encode(line.Text, false));
        });

    [Fact]
    public void ByteFallbackSpellsUnknownTextAndJoinsItAgain()
    {
        T5Tokenizer tokenizer = Load(WriteModel([.. Pieces(("▁", -1), ("a", -2)), .. Enumerable.Range(0, 256).Select(b => ($"<0x{b:X2}>", 0f, 6))], byteFallback: true));
        Assert.Equal(["▁", "a", "<0xC3>", "<0xA9>", "a"], tokenizer.EncodeToPieces("aéa"));
        Assert.Equal("aéa", tokenizer.Decode(tokenizer.Encode("aéa", true)));
        Assert.Equal("\U0001F600", tokenizer.Decode(tokenizer.Encode("\U0001F600", true)));
        // A cut character: one U+FFFD per byte.
        Assert.Equal("a\uFFFD\uFFFDa", tokenizer.Decode([4, 5 + 0xE2, 5 + 0x82, 4]));
    }

    private static string RandomUtf16(Random random, int length)
    {
        char[] text = new char[length];
        for (int i = 0; i < length; i++)
        {
            text[i] = random.Next(5) switch
            {
                0 => (char)random.Next(0x20, 0x7F),
                1 => (char)random.Next(0, 0x10000),
                2 => (char)random.Next(0xD800, 0xE000),
                3 => " \t\u0000▁\uFEFF\u200D\u0301"[random.Next(7)],
                _ => (char)random.Next(0xA0, 0x3000),
            };
        }

        return new string(text);
    }
}
