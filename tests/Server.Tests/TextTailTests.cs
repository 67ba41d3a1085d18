using IptNative.Model.Tokenizer;
using IptNative.Server.Scheduling;
using Xunit;

namespace IptNative.Server.Tests;

/// <summary>Stretches of text against the text decoded at once.</summary>
public sealed class TextTailTests
{
    private static readonly T5Tokenizer Tokenizer = T5Tokenizer.Load(RunningServer.Model);

    [Theory]
    [InlineData("the cat sat on the mat, and that was that")]
    [InlineData("  two  spaces — a dash, ünïcode, 数字 and <extra_id_0> a sentinel")]
    [InlineData("")]
    public void StretchesMakeTheText(string text)
    {
        int[] ids = Tokenizer.Encode(text, addEos: false);
        var tail = new TextTail(Tokenizer, ["at the end of nothing", "mat, or"]);
        string told = string.Concat(ids.Select(id => tail.Add(id, out _))) + tail.End();
        Assert.Equal(Tokenizer.Decode(ids, skipSentinels: true), told);
        Assert.Equal(ids.Length, tail.Tokens);
    }

    [Fact]
    public void AStopStringIsFoundAcrossTokensAndNothingOfItIsTold()
    {
        int[] ids = Tokenizer.Encode("one two three four five", addEos: false);
        string full = Tokenizer.Decode(ids);
        foreach (int at in Enumerable.Range(1, full.Length - 4))
        {
            string stop = full.Substring(at, 3);
            var tail = new TextTail(Tokenizer, [stop]);
            string told = "";
            bool stopped = false;
            foreach (int id in ids)
            {
                told += tail.Add(id, out stopped);
                Assert.DoesNotContain(stop, told, StringComparison.Ordinal);
                if (stopped) break;
            }
            Assert.True(stopped);
            Assert.Equal(full[..full.IndexOf(stop, StringComparison.Ordinal)], told);
        }
    }

    [Fact]
    public void TheFirstOfSeveralStopStringsCounts()
    {
        int[] ids = Tokenizer.Encode("one two three", addEos: false);
        var tail = new TextTail(Tokenizer, ["three", "wo", "zero"]);
        string told = "";
        foreach (int id in ids)
        {
            told += tail.Add(id, out bool stopped);
            if (stopped) break;
        }
        Assert.Equal("one t", told);
    }
}
