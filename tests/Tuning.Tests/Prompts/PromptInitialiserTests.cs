using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Tuning.Tests.Prompts;

public sealed class PromptInitialiserTests(TinyModel model) : IClassFixture<TinyModel>, IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    private int D => model.Checkpoint.Config.DModel;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private InitialPrompt Create(PromptInitialisation initialisation, int seed = 7) => new PromptInitialiser(model.Checkpoint, model.Tokenizer).Create(initialisation, seed);

    private string Refusal(PromptInitialisation initialisation) => Assert.Throws<ArgumentException>(() => Create(initialisation)).Message;

    private static PromptInitialisation Of(PromptInitialisationKind kind, int? length = null) => new() { Kind = kind, Length = length };

    private float[] Embedding(params int[] ids) => EmbeddingRows.Read(model.Checkpoint, ids);

    private int IdOf(ReadOnlySpan<float> row)
    {
        float[] all = Embedding([.. Enumerable.Range(0, model.Tokenizer.Count)]);
        for (int id = 0; id < model.Tokenizer.Count; id++)
        {
            if (row.SequenceEqual(all.AsSpan(id * D, D)))
                return id;
        }
        return -1;
    }

    [Theory]
    [InlineData(PromptInitialisationKind.RandomUniform)]
    [InlineData(PromptInitialisationKind.SampledVocabulary)]
    [InlineData(PromptInitialisationKind.ClassLabel)]
    public void ASeedAlwaysGivesTheSamePromptAndAnotherSeedAnother(PromptInitialisationKind kind)
    {
        PromptInitialisation what = Of(kind, 9) with { Labels = ["balance"] };
        Prompt prompt = Create(what).Prompt;
        Assert.Equal((9, D), (prompt.Length, prompt.DModel));
        Assert.Equal(prompt.Values, Create(what).Prompt.Values);
        Assert.NotEqual(prompt.Values, Create(what, seed: 8).Prompt.Values);
        // More rows do not change the first ones.
        Assert.Equal(prompt.Values, Create(what with { Length = 17 }).Prompt.Values[..(9 * D)]);
    }

    [Fact]
    public void UniformNumbersFillTheirRange()
    {
        float[] half = Create(Of(PromptInitialisationKind.RandomUniform, 33)).Prompt.Values;
        Assert.All(half, v => Assert.InRange(v, -0.5f, 0.5f));
        // 4,224 numbers: the mean's standard deviation is 0.29 / 65 = 0.0044, and the extremes miss the ends by a thousandth at most but for 1 in 60.
        Assert.InRange(half.Average(), -0.02f, 0.02f);
        Assert.True(half.Min() < -0.495f && half.Max() > 0.495f);
        float[] two = Create(Of(PromptInitialisationKind.RandomUniform, 33) with { Range = 2 }).Prompt.Values;
        Assert.Equal(half.Select(v => v * 4), two);
        Assert.Contains("range is 0, expected", Refusal(Of(PromptInitialisationKind.RandomUniform, 3) with { Range = 0 }), StringComparison.Ordinal);
        Assert.Contains("range is NaN, expected", Refusal(Of(PromptInitialisationKind.RandomUniform, 3) with { Range = float.NaN }), StringComparison.Ordinal);
    }

    [Fact]
    public void VocabularyRowsAreDifferentOrdinaryPiecesOfTheFirst()
    {
        InitialPrompt made = Create(Of(PromptInitialisationKind.SampledVocabulary, 100));
        Assert.Empty(made.Notes);
        int[] ids = [.. Enumerable.Range(0, 100).Select(i => IdOf(made.Prompt.Values.AsSpan(i * D, D)))];
        Assert.Equal(100, ids.Distinct().Count());
        // pad, eos and unk come before the pieces.
        Assert.All(ids, id => Assert.InRange(id, 3, 5002));
        Assert.True(ids.Max() > 4500 && ids.Min() < 500, "the sample does not spread over the vocabulary");
    }

    [Fact]
    public void AWholeVocabularyIsUsedOnceAndMoreRowsAreSaid()
    {
        PromptInitialisation five = Of(PromptInitialisationKind.SampledVocabulary, 5) with { VocabularySize = 5 };
        InitialPrompt made = Create(five);
        Assert.Empty(made.Notes);
        Assert.Equal([3, 4, 5, 6, 7], Enumerable.Range(0, 5).Select(i => IdOf(made.Prompt.Values.AsSpan(i * D, D))).Order());
        InitialPrompt more = Create(five with { Length = 6 });
        Assert.Contains("The prompt has 6 rows, the vocabulary to sample from 5 pieces", Assert.Single(more.Notes), StringComparison.Ordinal);
        Assert.All(Enumerable.Range(0, 6), i => Assert.InRange(IdOf(more.Prompt.Values.AsSpan(i * D, D)), 3, 7));
        Assert.Equal(8000 - 3, Enumerable.Range(-1, 9000).Count(model.Tokenizer.IsOrdinary));
    }

    [Fact]
    public void LabelsAreMeansOfTheirPiecesAndTheRestIsVocabulary()
    {
        InitialPrompt made = Create(Of(PromptInitialisationKind.ClassLabel, 5) with { Labels = ["account blocked", "balance"] });
        Assert.Empty(made.Notes);
        int[] pieces = model.Tokenizer.Encode("account blocked", addEos: false);
        Assert.True(pieces.Length > 1);
        float[] rows = Embedding(pieces);
        for (int d = 0; d < D; d++)
        {
            double mean = Enumerable.Range(0, pieces.Length).Average(i => (double)rows[i * D + d]);
            Assert.Equal((float)mean, made.Prompt.Values[d], 1e-6f);
        }
        float[] vocabulary = Create(Of(PromptInitialisationKind.SampledVocabulary, 5)).Prompt.Values;
        Assert.Equal(vocabulary[(2 * D)..], made.Prompt.Values[(2 * D)..]);
    }

    [Fact]
    public void LabelsBeyondTheLengthAreLeftOutAndSaid()
    {
        InitialPrompt made = Create(Of(PromptInitialisationKind.ClassLabel, 1) with { Labels = ["yes", "no", "maybe"] });
        Assert.Equal("The prompt has 1 rows for 3 labels, one each: the last 2 (no, maybe) are left out. Lengthen the prompt to 3 to have them all.", Assert.Single(made.Notes));
        Assert.Equal(1, made.Prompt.Length);
        InitialPrompt none = Create(Of(PromptInitialisationKind.ClassLabel, 3));
        Assert.Equal("The task has no labels: all 3 rows of the prompt are from the vocabulary.", Assert.Single(none.Notes));
        Assert.Equal(Create(Of(PromptInitialisationKind.SampledVocabulary, 3)).Prompt.Values, none.Prompt.Values);
        Assert.Contains("the label \" \" has no pieces", Refusal(Of(PromptInitialisationKind.ClassLabel, 3) with { Labels = [" "] }), StringComparison.Ordinal);
    }

    [Fact]
    public void TextIsRepeatedWithItsEndAndCutAsInPeft()
    {
        PromptInitialisation text = Of(PromptInitialisationKind.Text) with { Text = "what is my balance" };
        int[] ids = model.Tokenizer.Encode("what is my balance", addEos: false);
        Assert.Equal(4, ids.Length);
        Assert.Equal(Embedding(ids), Create(text).Prompt.Values);
        Assert.Equal(Embedding(ids[..2]), Create(text with { Length = 2 }).Prompt.Values);
        Assert.Equal(Embedding([.. ids, 1, .. ids, 1, ids[0]]), Create(text with { Length = 11 }).Prompt.Values);
        Assert.Contains("there is no text", Refusal(Of(PromptInitialisationKind.Text)), StringComparison.Ordinal);
        Assert.Contains("the text \"\" has no pieces", Refusal(Of(PromptInitialisationKind.Text) with { Text = "" }), StringComparison.Ordinal);
    }

    [Fact]
    public void FilesComeInEveryFormAndMustFit()
    {
        float[] values = [.. Enumerable.Range(0, 3 * D).Select(i => i / 7f)];
        PeftPrompt.Write(Path.Combine(_folder, "peft"), new Prompt(values, 3, D));
        NumpyFile.Write(Path.Combine(_folder, "p.npy"), new TensorShape(3, D), values);
        new SafetensorsWriter().Add("x", new TensorShape(3, D), values).Save(Path.Combine(_folder, "p.safetensors"));
        foreach (string name in (string[])["peft", "p.npy", "p.safetensors"])
        {
            Assert.Equal(values, Create(Of(PromptInitialisationKind.File) with { Path = Path.Combine(_folder, name) }).Prompt.Values);
            InvalidDataException e = Assert.Throws<InvalidDataException>(() => Create(Of(PromptInitialisationKind.File, 4) with { Path = Path.Combine(_folder, name) }));
            Assert.Contains($"the prompt has shape [3, {D}], the run asks for 4 rows", e.Message, StringComparison.Ordinal);
        }
        NumpyFile.Write(Path.Combine(_folder, "narrow.npy"), new TensorShape(D, 3), values);
        Assert.Contains($"the prompt has shape [{D}, 3], the model has d_model={D}",
            Assert.Throws<InvalidDataException>(() => Create(Of(PromptInitialisationKind.File) with { Path = Path.Combine(_folder, "narrow.npy") })).Message, StringComparison.Ordinal);
        Assert.Contains("no file is named", Refusal(Of(PromptInitialisationKind.File)), StringComparison.Ordinal);
    }

    [Fact]
    public void LengthsAreChecked()
    {
        Assert.Contains("no length is given", Refusal(Of(PromptInitialisationKind.RandomUniform)), StringComparison.Ordinal);
        Assert.Contains("length is 0, expected 1 to 65536 rows", Refusal(Of(PromptInitialisationKind.RandomUniform, 0)), StringComparison.Ordinal);
        Assert.Contains("length is 65537", Refusal(Of(PromptInitialisationKind.Text, 65537) with { Text = "x" }), StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => Create(Of(PromptInitialisationKind.RandomUniform, 1), seed: -1));
    }

    [Theory]
    [InlineData("model_bf16.safetensors", 8)]
    [InlineData("pytorch_model_fp16.bin", 11)]
    public void RowsAreReadInEveryStoredType(string file, int significantBits)
    {
        string folder = Path.Combine(TinyModel.Root, "tests", "Goldens", "t5v11");
        using Checkpoint full = Checkpoint.Open(Path.Combine(folder, "model.safetensors"));
        using Checkpoint half = Checkpoint.Open(Path.Combine(folder, file));
        Assert.NotEqual(DType.F32, half[T5Parameters.Shared].DType);
        int[] ids = [0, 5, full.Config.VocabSize - 1, 5];
        float[] expected = EmbeddingRows.Read(full, ids);
        float[] actual = EmbeddingRows.Read(half, ids);
        Assert.Equal(expected.Length, actual.Length);
        // Rounding to nearest: half a unit in the last place of the narrow type; the absolute part is f16's subnormal range.
        for (int i = 0; i < expected.Length; i++)
            Assert.Equal(expected[i], actual[i], Math.Abs(expected[i]) * MathF.Pow(2, -significantBits) + 3e-8f);
        Assert.Throws<ArgumentException>(() => EmbeddingRows.Read(full, [full.Config.VocabSize]));
    }
}
