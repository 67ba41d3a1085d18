// tokenizer.json: the same ids as spiece.model, and every pipeline that is not a T5's refused by name.
using IptNative.Model.Tokenizer;
using Xunit;
using static IptNative.Model.Tests.Tokenizer.TokenizerFixture;

namespace IptNative.Model.Tests.Tokenizer;

public sealed class TokenizerJsonTests
{
    private const string Vocabulary = """[["<pad>",0],["</s>",0],["<unk>",0],["▁",-2],["a",-3],["b",-3.5],["▁a",-4],["<extra_id_0>",0],["$",-3]]""";

    private const string Added = """[{"id":0,"content":"<pad>","special":true},{"id":1,"content":"</s>","special":true},{"id":2,"content":"<unk>","special":true},{"id":7,"content":"<extra_id_0>","special":true}]""";

    [Fact]
    public void GoldenTextsHaveTheIdsOfTheSentencePieceModel()
    {
        T5Tokenizer json = T5Tokenizer.Load(T5JsonPath);
        Assert.Equal((32100, 100, 2, 1, 0), (json.Count, json.SentinelCount, json.UnkId, json.EosId, json.PadId));
        List<string> different = [];
        foreach (GoldenLine line in Golden)
        {
            if (json.Encode(line.Text, false).AsSpan().SequenceEqual(line.Ids))
                Assert.Equal(line.Decoded, json.Decode(line.Ids));
            else
                different.Add(line.Text);
        }

        // Two of 320, by nature: the file declares these spellings special tokens, SentencePiece itself knows none.
        Assert.Equal(["<extra_id_0> and <extra_id_99>", "</s> <pad> <unk>"], different);
        Assert.Equal([32099, 11, 32000], json.Encode(different[0], false));
        Assert.Equal([1, 0, 2], json.Encode(different[1], false));
    }

    [Theory]
    [InlineData("""{"type":"Metaspace","replacement":"▁","add_prefix_space":true}""", "null", " a  b ", "▁a ▁ ▁ b ▁")]
    [InlineData("""{"type":"Metaspace","replacement":"▁","prepend_scheme":"always"}""", """{"type":"Sequence","normalizers":[{"type":"Strip","strip_left":false,"strip_right":true},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"▁"}]}""", " a  b ", "▁a ▁ b")]
    [InlineData("""{"type":"Metaspace","replacement":"▁","prepend_scheme":"always"}""", "null", "a<extra_id_0>a", "▁a <extra_id_0> ▁a")]
    [InlineData("""{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}""", "null", "a<extra_id_0>a", "▁a <extra_id_0> a")]
    [InlineData("""{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}""", "null", "a<extra_id_0> a", "▁a <extra_id_0> ▁a")]
    [InlineData("""{"type":"Metaspace","replacement":"▁","prepend_scheme":"never"}""", "null", "ab a", "a b ▁a")]
    [InlineData("""{"type":"Metaspace","replacement":"▁","add_prefix_space":false}""", "null", "ab", "a b")]
    [InlineData("""{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"▁","add_prefix_space":true}]}""", "null", "\ta\n b\u3000", "▁a ▁ b")]
    [InlineData("""{"type":"Metaspace","replacement":"▁"}""", """{"type":"Lowercase"}""", "A B", "▁a ▁ b")]
    [InlineData("""{"type":"Metaspace","replacement":"▁"}""", """{"type":"Sequence","normalizers":[{"type":"Replace","pattern":{"String":"x"},"content":"b"},{"type":"Replace","pattern":{"Regex":"y+"},"content":"$a"}]}""", "xyy", "▁ b $ a")]
    [InlineData("""{"type":"Metaspace","replacement":"▁"}""", """{"type":"Nmt"}""", "a\tb\u0007", "▁a ▁ b")]
    [InlineData("""{"type":"Metaspace","replacement":"▁"}""", """{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"b"},{"type":"Strip","strip_left":true,"strip_right":true}]}""", "a ", "▁ b a")]
    public void PipelinesOfT5ExportsAreUnderstood(string preTokenizer, string normalizer, string text, string pieces) =>
        Assert.Equal(pieces, string.Join(' ', LoadJson(Pipeline(preTokenizer, normalizer)).EncodeToPieces(text)));

    [Theory]
    [InlineData("""{"model":{"type":"BPE","vocab":{},"merges":[]}}""", "'BPE'")]
    [InlineData("""{"model":{"vocab":{},"merges":[]}}""", "'BPE'")]
    [InlineData("""{"model":{"type":"Unigram","vocab":[]}}""", "no unk_id")]
    [InlineData("""{"model":{"type":"Unigram","unk_id":5,"vocab":[["a",0]]}}""", "found unk_id 5, expected 0 to 0")]
    [InlineData("""{"model":{"type":"Unigram","unk_id":0,"vocab":[["a",0],["b"]]}}""", "piece 1 has 1 values")]
    [InlineData("""{"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["b",1e300]]}}""", "a finite number")]
    [InlineData("""{"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["b",1],["b",2]]}}""", "both id 1 and id 2")]
    [InlineData("""{"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["\ud800",1]]}}""", "half a surrogate pair")]
    [InlineData("""{"version":"1.0"}""", "missing or of the wrong kind")]
    [InlineData("""{"model":""", "Expected JSON")]
    public void AModelThatIsNotATFivesIsRefused(string json, string message) =>
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => LoadJson(json)).Message);

    [Theory]
    [InlineData("null", "null", "no Metaspace")]
    [InlineData("""{"type":"ByteLevel"}""", "null", "the pre_tokenizer 'ByteLevel'")]
    [InlineData("""{"type":"Metaspace","replacement":"_"}""", "null", "the Metaspace replacement '_'")]
    [InlineData("""{"type":"Metaspace","prepend_scheme":"last"}""", "null", "the prepend_scheme 'last'")]
    [InlineData("""{"type":"Metaspace"}""", """{"type":"NFKC"}""", "the normalizer 'NFKC'")]
    [InlineData("""{"type":"Metaspace"}""", """{"type":"Replace","pattern":{"Regex":"(a)\\1"},"content":""}""", "no backtracking")]
    [InlineData("""{"type":"Metaspace"}""", """{"type":"Replace","pattern":{},"content":""}""", "without a pattern")]
    [InlineData("""{"type":"Metaspace"}""", """{"type":"Precompiled","precompiled_charsmap":"AAAA"}""", "precompiled_charsmap")]
    [InlineData("""{"type":"Metaspace"}""", """{"type":"Precompiled","precompiled_charsmap":"*"}""", "wrong kind")]
    public void APipelineThatIsNotATFivesIsRefused(string preTokenizer, string normalizer, string message) =>
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => LoadJson(Pipeline(preTokenizer, normalizer))).Message);

    [Fact]
    public void AFolderWithOnlyTokenizerJsonLoadsAndReadsItsNamesFromTheConfiguration()
    {
        string folder = NewFolder();
        try
        {
            File.WriteAllText(Path.Combine(folder, "tokenizer.json"), Pipeline("""{"type":"Metaspace"}""", "null"));
            File.WriteAllText(Path.Combine(folder, "tokenizer_config.json"), """{"eos_token": {"content": "<pad>"}, "pad_token": "</s>"}""");
            T5Tokenizer tokenizer = T5Tokenizer.Load(folder, 9);
            Assert.Equal((0, 1, 9), (tokenizer.EosId, tokenizer.PadId, tokenizer.Count));
            Assert.Contains("vocab_size 8", Assert.Throws<InvalidDataException>(() => T5Tokenizer.Load(folder, 8)).Message);
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }

    private static string Pipeline(string preTokenizer, string normalizer) =>
        $$$"""{"added_tokens":{{{Added}}},"normalizer":{{{normalizer}}},"pre_tokenizer":{{{preTokenizer}}},"model":{"type":"Unigram","unk_id":2,"vocab":{{{Vocabulary}}}}}""";

    private static T5Tokenizer LoadJson(string json) => Load(System.Text.Encoding.UTF8.GetBytes(json), "tokenizer.json");
}
