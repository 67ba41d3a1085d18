using System.Text;
using System.Text.Json.Nodes;
using IptNative.Model.Config;
using Xunit;

namespace IptNative.Model.Tests.Config;

public sealed class T5ConfigTests
{
    private static T5Config Parse(string more = "", string type = "t5")
    {
        string json = $$"""{"model_type":"{{type}}","d_model":16,"d_kv":3,"d_ff":20,"num_layers":4,"num_heads":5,"vocab_size":100{{more}}}""";
        return T5Config.Parse((JsonObject)JsonNode.Parse(json)!, "config.json");
    }

    private static string Refusal(string more, string type = "t5") => Assert.Throws<InvalidDataException>(() => Parse(more, type)).Message;

    [Fact]
    public void DefaultsAreHuggingFaces()
    {
        T5Config c = Parse();
        Assert.Equal((4, 32, 128, 1e-6f), (c.NumDecoderLayers, c.RelativeAttentionNumBuckets, c.RelativeAttentionMaxDistance, c.LayerNormEpsilon));
        Assert.Equal((false, true, true), (c.IsGated, c.IsRelu, c.TieWordEmbeddings));
        Assert.Equal((0, 0, 1), (c.DecoderStartTokenId, c.PadTokenId, c.EosTokenId));
        Assert.Equal(15, c.InnerDim);

        T5Config mt5 = Parse(type: "mt5");
        Assert.Equal((true, false, false), (mt5.IsGated, mt5.IsRelu, mt5.TieWordEmbeddings));
    }

    [Theory]
    [InlineData(",\"num_decoder_layers\":null", 4)]
    [InlineData(",\"num_decoder_layers\":6", 6)]
    public void DecoderMayHaveItsOwnDepth(string more, int layers) => Assert.Equal(layers, Parse(more).NumDecoderLayers);

    [Theory]
    [InlineData(",\"feed_forward_proj\":\"gated-gelu\"", true, false)]
    [InlineData(",\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"gelu_new\",\"is_gated_act\":true", true, false)]
    [InlineData(",\"feed_forward_proj\":\"relu\",\"dense_act_fn\":\"relu\",\"is_gated_act\":false", false, true)]
    [InlineData(",\"feed_forward_proj\":\"gated-relu\"", true, true)]
    public void FeedForwardIsReadFromEveryVersionsFields(string more, bool gated, bool relu)
    {
        T5Config c = Parse(more);
        Assert.Equal((gated, relu), (c.IsGated, c.IsRelu));
    }

    [Theory]
    [InlineData(",\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"relu\"", "dense_act_fn is 'relu', feed_forward_proj 'gated-gelu' implies 'gelu_new'")]
    [InlineData(",\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"gelu\"", "dense_act_fn is 'gelu', expected")]
    [InlineData(",\"feed_forward_proj\":\"gated-gelu\",\"is_gated_act\":false", "is_gated_act is false")]
    [InlineData(",\"feed_forward_proj\":\"gated-silu\"", "feed_forward_proj is 'gated-silu'")]
    [InlineData(",\"tie_word_embeddings\":1", "tie_word_embeddings is 1, expected true or false")]
    [InlineData(",\"tie_word_embeddings\":false,\"scale_decoder_outputs\":true", "scale_decoder_outputs is true")]
    [InlineData(",\"num_decoder_layers\":0", "num_decoder_layers is 0, expected 1 to 1024")]
    [InlineData(",\"num_decoder_layers\":16777216", "expected 1 to 1024")]
    [InlineData(",\"num_decoder_layers\":2.5", "num_decoder_layers is 2.5, expected a whole number")]
    [InlineData(",\"layer_norm_epsilon\":-1", "layer_norm_epsilon is -1")]
    [InlineData(",\"relative_attention_num_buckets\":2", "expected at least 4 buckets")]
    [InlineData(",\"relative_attention_max_distance\":16", "a distance above half their number")]
    [InlineData(",\"decoder_start_token_id\":100", "decoder_start_token_id is 100, expected an id below vocab_size 100")]
    [InlineData(",\"eos_token_id\":[1,2]", "eos_token_id is Array")]
    public void ContradictionsAndImpossibleSizesAreRefused(string more, string reason) => Assert.Contains(reason, Refusal(more), StringComparison.Ordinal);

    [Theory]
    [InlineData("bert")]
    [InlineData("umt5")]
    [InlineData("longt5")]
    public void OtherArchitecturesAreRefusedByName(string type) =>
        Assert.Contains($"model_type is '{type}', expected 't5' or 'mt5'", Refusal("", type), StringComparison.Ordinal);

    [Fact]
    public void WidthOfTheHeadsDoesNotOverflow()
    {
        const string Json = """{"d_model":16,"d_kv":16777216,"d_ff":20,"num_layers":4,"num_heads":16777216,"vocab_size":100}""";
        Assert.Contains("num_heads * d_kv is 281474976710656", Assert.Throws<InvalidDataException>(() => T5Config.Parse((JsonObject)JsonNode.Parse(Json)!, "x")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "broken JSON")]
    [InlineData("[]", "expected a JSON object")]
    [InlineData("null", "expected a JSON object")]
    [InlineData("{\"d_model\":1,\"d_model\":2}", "broken JSON")]
    [InlineData("{}", "num_layers is missing")]
    [InlineData("{\"d_model\":", "broken JSON")]
    [InlineData("{\"model_type\":\"t\u00e65\"}", "broken JSON (a text has bytes that are no UTF-8)")]
    [InlineData("{\"d_m\u00ffdel\":1}", "broken JSON (a text has bytes that are no UTF-8)")]
    [InlineData("{\"model_type\":\"\\ud800\"}", "half a surrogate pair")]
    [InlineData("{\"\\udfff\":1}", "half a surrogate pair")]
    public void BrokenFilesAreRefused(string text, string reason)
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(path, Encoding.Latin1.GetBytes(text));
            string message = Assert.Throws<InvalidDataException>(() => T5Config.Load(path)).Message;
            Assert.StartsWith(path, message, StringComparison.Ordinal);
            Assert.Contains(reason, message, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void ParametersOfTheFixtureAreItsTensors()
    {
        T5Config c = T5Config.Load(Path.Combine(Forward.Goldens.Folder, "config.json"));
        using var file = IptNative.Model.Checkpoints.SafetensorsFile.Open(Path.Combine(Forward.Goldens.Folder, "model.safetensors"));
        Assert.Equal(file.Names.Order(), T5Parameters.Of(c).Select(p => p.Name).Order());
        Assert.All(T5Parameters.Of(c), p => Assert.Equal(file.Describe(p.Name).Shape, p.Shape));
        Assert.Equal("shared.weight", T5Parameters.Canonical(c, "decoder.embed_tokens.weight"));
        Assert.Equal("lm_head.weight", T5Parameters.Canonical(c, "lm_head.weight"));
        Assert.Equal("[num_heads*d_kv=32, d_model=32]", T5Parameters.ShapeInWords(c, "encoder.block.0.layer.0.SelfAttention.q.weight"));
    }

    [Fact]
    public void ReluModelHasOneInnerMatrixAndTiedOneNoHead()
    {
        string[] names = [.. T5Parameters.Of(Parse()).Select(p => p.Name)];
        Assert.Contains("encoder.block.3.layer.1.DenseReluDense.wi.weight", names);
        Assert.DoesNotContain("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", names);
        Assert.DoesNotContain("lm_head.weight", names);
        Assert.Equal(names.Length, names.Distinct().Count());
    }
}
