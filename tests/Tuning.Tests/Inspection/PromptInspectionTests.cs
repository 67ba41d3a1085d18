using System.Text;
using System.Text.Json;
using IptNative.Tuning.Inspection;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Tuning.Tests.Inspection;

public sealed class PromptInspectionTests(TinyModel tiny) : IClassFixture<TinyModel>
{
    private int Width => tiny.Checkpoint.Config.DModel;

    // A single piece of a label, so that its embedding is the row.
    private int Id(string word) => tiny.Tokenizer.Encode(word, addEos: false) is [int only] ? only : throw new InvalidOperationException($"'{word}' is not one piece");

    private Prompt Rows(params float[][] rows) => new([.. rows.SelectMany(r => r)], rows.Length, Width);

    private float[] Embedding(int id, float scale = 1) => [.. EmbeddingRows.Read(tiny.Checkpoint, [id]).Select(x => x * scale)];

    private float[] Noise(int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, Width).Select(_ => (float)(random.NextDouble() - 0.5))];
    }

    [Fact]
    public void ARowThatIsAnEmbeddingHasThatPieceNearest()
    {
        int the = Id("the"), and = Id("and");
        Prompt prompt = Rows(Embedding(the, 3), Embedding(the), Embedding(and), Noise(1));
        PromptInspection found = PromptInspection.Of(tiny.Checkpoint, tiny.Tokenizer, prompt, new InspectionOptions { TopK = 4 });
        Assert.Equal([the, the, and], found.Rows.Take(3).Select(r => r.Neighbours[0].Id));
        // Products of float32 sums over 128 numbers: some eps.
        Assert.All(found.Rows.Take(3), r => Assert.Equal(1, r.Neighbours[0].Cosine, 1e-5));
        Assert.All(found.Rows, r => Assert.Equal(r.Neighbours.OrderByDescending(n => n.Cosine), r.Neighbours));
        Assert.Equal(3, found.Rows[0].Norm / found.Rows[1].Norm, 1e-5);
        Assert.Equal(0.5, found.SharedNearest);
        Assert.InRange(found.RandomDeviation, 1e-4, 1);
        Assert.True(found.VocabularyNorm > 0);
    }

    [Fact]
    public void NeighboursAreThoseOfAPlainSearch()
    {
        float[] row = Noise(7);
        PromptInspection found = PromptInspection.Of(tiny.Checkpoint, tiny.Tokenizer, Rows(row), new InspectionOptions { TopK = 5 });
        int[] ids = [.. Enumerable.Range(0, tiny.Checkpoint.Config.VocabSize).Where(i => i < tiny.Tokenizer.Count && tiny.Tokenizer.IsOrdinary(i))];
        float[] all = EmbeddingRows.Read(tiny.Checkpoint, ids);
        (int Id, double Cosine)[] expected = [.. ids.Select((id, i) =>
        {
            double dot = 0, a = 0, b = 0;
            for (int j = 0; j < Width; j++)
            {
                double x = row[j], y = all[(i * Width) + j];
                (dot, a, b) = (dot + (x * y), a + (x * x), b + (y * y));
            }
            return (id, dot / Math.Sqrt(a * b));
        }).OrderByDescending(p => p.Item2).Take(5)];
        Assert.Equal(expected.Select(e => e.Id), found.Rows[0].Neighbours.Select(n => n.Id));
        Assert.All(expected.Zip(found.Rows[0].Neighbours), p => Assert.Equal(p.First.Cosine, p.Second.Cosine, 1e-5));
    }

    [Fact]
    public void DriftAndLabelsAreTold()
    {
        Prompt initial = Rows(Embedding(Id("the")), Embedding(Id("and")), Noise(2));
        Prompt tuned = Rows(Embedding(Id("the"), 2), Noise(3), Noise(2));
        PromptInspection found = PromptInspection.Of(tiny.Checkpoint, tiny.Tokenizer, tuned, new InspectionOptions { Initial = initial, Labels = ["the", "and"] });
        Assert.Equal(found.Rows[0].Norm / 2, found.Rows[0].Distance!.Value, 1e-5);
        Assert.Equal(1, found.Rows[0].InitialCosine!.Value, 1e-5);
        Assert.Equal(0, found.Rows[2].Distance);
        Assert.Equal(new LabelPersistence("the", found.Labels[0].Rows, 0, true), found.Labels[0]);
        Assert.Contains(0, found.Labels[0].Rows);
        Assert.Equal((1, false), (found.Labels[1].InitialRow, found.Labels[1].Kept));
    }

    [Fact]
    public void PromptsAreComparedAndWritten()
    {
        Prompt a = Rows(Noise(1), Noise(2)), swapped = Rows(Noise(2), Noise(1)), longer = Rows(Noise(1), Noise(2), Noise(3));
        KeyValuePair<string, Prompt>[] prompts = [new("a", a), new("b <swapped>", swapped), new("c", longer)];
        PromptComparison comparison = PromptComparison.Of(prompts);
        Assert.Equal(1, comparison.Cosines[0][0], 1e-6);
        Assert.Equal(comparison.Cosines[0][1], comparison.Cosines[1][0], 1e-12);
        Assert.True(comparison.Cosines[0][1] < 0.9 && double.IsNaN(comparison.Cosines[0][2]));
        Assert.Equal(1, comparison.BestMatches[0][1], 1e-6);
        Assert.Equal(comparison.Points[0].X, comparison.Points[1].X, 1e-6);

        KeyValuePair<string, PromptInspection>[] inspections = [.. prompts.Select(p => KeyValuePair.Create(p.Key, PromptInspection.Of(tiny.Checkpoint, tiny.Tokenizer, p.Value, new InspectionOptions { Labels = ["the"] })))];
        string html = InspectionReport.Html("tiny", inspections, comparison);
        Assert.Contains("b &lt;swapped&gt;", html, StringComparison.Ordinal);
        Assert.DoesNotContain("<swapped>", html, StringComparison.Ordinal);
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            InspectionReport.Write(json, inspections, comparison);
            json.WriteEndObject();
        }
        using var read = JsonDocument.Parse(Encoding.UTF8.GetString(buffer.ToArray()));
        Assert.Equal(3, read.RootElement.GetProperty("prompts").GetArrayLength());
        Assert.Equal(JsonValueKind.Null, read.RootElement.GetProperty("comparison").GetProperty("cosines")[0][2].ValueKind);
    }

    [Fact]
    public void ImpossibleRequestsAreRefused()
    {
        Assert.Contains("1 neighbours, expected 2 or more", Assert.Throws<ArgumentException>(() => PromptInspection.Of(tiny.Checkpoint, tiny.Tokenizer, Rows(Noise(1)), new InspectionOptions { TopK = 1 })).Message, StringComparison.Ordinal);
        Assert.Contains("the initial prompt is [2, 128], the prompt [1, 128]", Assert.Throws<ArgumentException>(() => PromptInspection.Of(tiny.Checkpoint, tiny.Tokenizer, Rows(Noise(1)), new InspectionOptions { Initial = Rows(Noise(1), Noise(2)) })).Message, StringComparison.Ordinal);
        Assert.Contains("found 1, expected two or more", Assert.Throws<ArgumentException>(() => PromptComparison.Of([new("a", Rows(Noise(1)))])).Message, StringComparison.Ordinal);
        Assert.Contains("b has d_model 2, a has 128", Assert.Throws<ArgumentException>(() => PromptComparison.Of([new("a", Rows(Noise(1))), new("b", new Prompt([1, 2], 1, 2))])).Message, StringComparison.Ordinal);
    }
}
