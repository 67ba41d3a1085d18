using System.Text.Json;
using IptNative.Model.Decoding;
using Xunit;

namespace IptNative.Model.Tests.Decoding;

public sealed class SingleSearchTests
{
    private static float[][][][] Table() => BeamTraces.Load("table.json").GetProperty("logits").Deserialize<float[][][][]>()!; // written by our own script

    [Fact]
    public void GreedyFollowsTheLargestLogit()
    {
        float[][][][] table = Table();
        using var decoder = new TableStepDecoder(table);
        IReadOnlyList<GeneratedSequence>[] texts = Generator.Generate(decoder, new GenerationOptions { MaxLength = 6, ReturnLogProbs = true }, 0, 1);
        for (int e = 0; e < table.Length; e++)
        {
            var ids = new List<int>();
            double sum = 0;
            int token = 0;
            for (int step = 0; step < 6; step++)
            {
                float[] row = table[e][step][token];
                token = Array.IndexOf(row, row.Max());
                sum += row[token] - Math.Log(row.Sum(x => Math.Exp(x)));
                if (token == 1) break;
                ids.Add(token);
            }
            Assert.Equal(ids, texts[e][0].Ids);
            // Log probabilities from float exp: 1e-7 each.
            Assert.Equal(sum, texts[e][0].Score, 2e-6);
            Assert.Equal(token == 1 ? FinishReason.EndOfSequence : FinishReason.MaxLength, texts[e][0].Finish);
            Assert.Equal(ids.Count + (token == 1 ? 1 : 0), texts[e][0].TokenLogProbs!.Length); // asked for
        }
    }

    [Fact]
    public void GreedyTakesTheLowestOfEqualsAndFinishedRowsLeave()
    {
        // Example 0 ends at once, example 1 never does.
        float[][][][] table = [TableStepDecoder.Constant(0, 5, 1, 0)[0], TableStepDecoder.Constant(0, -1, 3, 3)[0]];
        using var decoder = new TableStepDecoder(table);
        IReadOnlyList<GeneratedSequence>[] texts = Generator.Generate(decoder, new GenerationOptions { MaxLength = 3 }, 0, 1);
        Assert.Empty(texts[0][0].Ids);
        Assert.Equal([2, 2, 2], texts[1][0].Ids);
        Assert.Equal([2, 1, 1], decoder.RowsPerStep);
        Assert.Null(texts[0][0].TokenLogProbs);
    }

    [Theory]
    [InlineData(0, 5, new[] { 0, 2 })]
    [InlineData(3, 5, new[] { 0, 2 })]
    public void GreedyNeverTakesAForbiddenEnd(int eos, int vocab, int[] minLengths)
    {
        var logits = new float[vocab];
        logits[eos] = 9;
        foreach (int minLength in minLengths)
        {
            using var decoder = new TableStepDecoder(TableStepDecoder.Constant(logits));
            GeneratedSequence text = Generator.Generate(decoder, new GenerationOptions { MaxLength = 4, MinLength = minLength }, 0, eos)[0][0];
            Assert.Equal(minLength, text.Ids.Length);
            Assert.DoesNotContain(eos, text.Ids);
        }
    }

    [Fact]
    public void ASampleDependsOnItsStreamAndNotOnItsNeighbours()
    {
        float[][][][] table = Table();
        var options = new GenerationOptions { DoSample = true, MaxLength = 8, Seed = 42, NumReturnSequences = 3, TopK = 0 };
        using var together = new TableStepDecoder(table);
        IReadOnlyList<GeneratedSequence>[] batch = Generator.Generate(together, options, 0, 1, [10, 11, 12]);
        for (int e = 0; e < table.Length; e++)
        {
            using var alone = new TableStepDecoder(table, e);
            Assert.Equal(batch[e].Select(s => s.Ids), Generator.Generate(alone, options, 0, 1, [10 + e])[0].Select(s => s.Ids));
        }
        using var again = new TableStepDecoder(table);
        IReadOnlyList<GeneratedSequence>[] other = Generator.Generate(again, options with { Seed = 43 }, 0, 1, [10, 11, 12]);
        Assert.NotEqual(batch.SelectMany(s => s).SelectMany(s => s.Ids), other.SelectMany(s => s).SelectMany(s => s.Ids));
    }

    [Fact]
    public void SampledScoresAreOfTheModelsOwnDistribution()
    {
        using var decoder = new TableStepDecoder(TableStepDecoder.Constant(0, -30, 1));
        GeneratedSequence text = Generator.Generate(decoder, new GenerationOptions { DoSample = true, Temperature = 0.01, MaxLength = 2 }, 0, 1)[0][0];
        Assert.Equal([2, 2], text.Ids);
        Assert.Equal(2 * (1 - Math.Log(1 + Math.E)), text.Score, 1e-6);
    }

    [Fact]
    public void CancellingEndsTheSearch()
    {
        using var decoder = new TableStepDecoder(Table());
        using var source = new CancellationTokenSource();
        source.Cancel();
        Assert.Throws<OperationCanceledException>(() => Generator.Generate(decoder, new GenerationOptions(), 0, 1, [], source.Token));
    }

    [Fact]
    public void NoExamplesGiveNoTexts()
    {
        using var decoder = new TableStepDecoder(Table());
        decoder.Dispose();
        Assert.Empty(Generator.Generate(decoder, new GenerationOptions(), 0, 1));
    }
}
