using System.Text.Json;
using IptNative.Model.Decoding;
using Xunit;

namespace IptNative.Model.Tests.Decoding;

public sealed class BeamSearchTests
{
    // exp is float with an error of 1 ulp, sums are double: a log probability is off by 1e-7, eight of them and their division by 1e-6.
    private const double Tolerance = 2e-6;

    [Fact]
    public void ReplaysTheTracesMadeWithPyTorch()
    {
        JsonElement file = BeamTraces.Load("table.json");
        float[][][][] table = file.GetProperty("logits").Deserialize<float[][][][]>()!; // written by our own script
        int start = file.GetProperty("decoder_start_token_id").GetInt32();
        int compared = 0;
        foreach (JsonElement trace in file.GetProperty("cases").EnumerateArray())
        {
            using var decoder = new TableStepDecoder(table);
            compared += BeamTraces.Compare(trace, Generator.Generate(decoder, BeamTraces.Options(trace), start, trace.GetProperty("eos_token_id").GetInt32()), Tolerance);
        }
        Assert.Equal(126, compared);
    }

    [Fact]
    public void AnExampleAloneIsAsInTheBatchAndDoneExamplesLeave()
    {
        float[][][][] table = BeamTraces.Load("table.json").GetProperty("logits").Deserialize<float[][][][]>()!; // written by our own script
        var options = new GenerationOptions { NumBeams = 4, NumReturnSequences = 3, MaxLength = 8, EarlyStopping = EarlyStopping.True };
        using var together = new TableStepDecoder(table, 2, 0, 1, 0);
        IReadOnlyList<GeneratedSequence>[] batch = Generator.Generate(together, options, 0, 1);
        int[] order = [2, 0, 1, 0];
        for (int e = 0; e < order.Length; e++)
        {
            using var alone = new TableStepDecoder(table, order[e]);
            IReadOnlyList<GeneratedSequence> single = Generator.Generate(alone, options, 0, 1)[0];
            Assert.Equal(single.Select(s => s.Ids), batch[e].Select(s => s.Ids));
            Assert.Equal(single.Select(s => s.Score), batch[e].Select(s => s.Score));
        }
        // One row per example at first, then beams; examples that are done take their four rows with them.
        Assert.Equal([4, 16], together.RowsPerStep[..2]);
        Assert.True(together.RowsPerStep[^1] < 16, string.Join(' ', together.RowsPerStep));
    }

    [Fact]
    public void EqualScoresTakeTheLowestToken()
    {
        using var decoder = new TableStepDecoder(TableStepDecoder.Constant(0, -9, 0, 0, 0));
        IReadOnlyList<GeneratedSequence> texts = Generator.Generate(decoder, new GenerationOptions { NumBeams = 2, NumReturnSequences = 2, MaxLength = 2 }, 0, 1)[0];
        // Running beams: [0 0] before [0 2]; equal finals: the newest entry is returned first, as Hugging Face's pop does.
        Assert.Equal([[0, 2], [0, 0]], texts.Select(t => t.Ids));
    }

    [Fact]
    public void MinLengthForbidsAnEarlyEnd()
    {
        // End of sequence has nearly all the mass; it may come as the third token at the earliest.
        using var decoder = new TableStepDecoder(TableStepDecoder.Constant(0, 20, 1));
        GeneratedSequence best = Generator.Generate(decoder, new GenerationOptions { NumBeams = 2, MaxLength = 6, MinLength = 2, EarlyStopping = EarlyStopping.True }, 0, 1)[0][0];
        Assert.Equal([2, 2], best.Ids);
        Assert.Equal(FinishReason.EndOfSequence, best.Finish);
        // Two tokens at 1 - 20 and the end at 0 (both minus log(1 + e^-19 + e^-20), below the tolerance), over length 3.
        Assert.Equal(-38.0 / 3, best.Score, 1e-6);
    }

    [Fact]
    public void TheSmallestVocabularyWorks()
    {
        using var decoder = new TableStepDecoder(TableStepDecoder.Constant(0.25f, 0));
        IReadOnlyList<GeneratedSequence> texts = Generator.Generate(decoder, new GenerationOptions { NumBeams = 3, NumReturnSequences = 3, MaxLength = 3 }, 0, 1)[0];
        Assert.Equal(3, texts.Count);
        Assert.True(texts[0].Score >= texts[1].Score && texts[1].Score >= texts[2].Score);
    }

    // Places in the vector lanes and in the remainder behind them, for 4, 8 and 16 lanes.
    [Theory]
    [InlineData(3, 1, float.NaN)]
    [InlineData(37, 0, float.NaN)]
    [InlineData(37, 20, float.PositiveInfinity)]
    [InlineData(37, 36, float.NaN)]
    public void LogitsThatAreNotFiniteAreNamed(int vocab, int place, float value)
    {
        var bad = new float[vocab];
        bad[place] = value;
        using var decoder = new TableStepDecoder([TableStepDecoder.Constant(new float[vocab])[0], TableStepDecoder.Constant(bad)[0]]);
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => Generator.Generate(decoder, new GenerationOptions { NumBeams = 2 }, 0, 1));
        Assert.Contains($"row 1 at step 0 are not finite (token {place}: {value})", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void LogitsWithoutAnyProbabilityAreNamed()
    {
        float[] none = [.. Enumerable.Repeat(float.NegativeInfinity, 5)];
        using var decoder = new TableStepDecoder(TableStepDecoder.Constant(none));
        Assert.Contains("row 0 at step 0 are not finite", Assert.Throws<InvalidDataException>(() => Generator.Generate(decoder, new(), 0, 1)).Message, StringComparison.Ordinal);
    }
}
