// Makes the prompt that training starts from. Deliberately not: reading of prompt files (PromptFile), the subspace's starting vector.
using IptNative.Model.Checkpoints;
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Sampling;

namespace IptNative.Tuning.Prompts;

/// <summary>Prompts from random numbers, the vocabulary, label texts, a text or a file; the same seed gives the same prompt on every machine.</summary>
/// <remarks>
/// Source: Lester et al. 2021, section 3.2; google-research/prompt-tuning prompts.py (sampled vocabulary without replacement; labels without EOS, in the order
/// given, the labels beyond the prompt's length left out with a warning); huggingface/peft prompt_tuning/model.py (text: ids with EOS, repeated and cut).
/// Differs from google-research/prompt-tuning: its random initialiser draws from [0, 0.5), the paper and this from [-0.5, 0.5]; its vocabulary sample may
/// hold pad, eos and unk, this holds pieces of text only.
/// </remarks>
/// <param name="checkpoint">The frozen model, whose embeddings are read in whatever type they are stored; stays the caller's.</param>
/// <param name="tokenizer">Its tokenizer.</param>
public sealed class PromptInitialiser(Checkpoint checkpoint, T5Tokenizer tokenizer)
{
    // A prompt of more rows is a mistyped number: T5 reads 512 tokens in training, and P^2 attention would not fit long before.
    private const int MaxLength = 1 << 16;

    /// <summary>Makes a prompt.</summary>
    /// <param name="initialisation">What it starts from.</param>
    /// <param name="seed">Seed of the random kinds, 0 or more; runs side by side give their own.</param>
    /// <returns>The prompt, as wide as the model, and notes.</returns>
    /// <exception cref="ArgumentException">The initialisation contradicts itself or lacks what its kind needs.</exception>
    /// <exception cref="InvalidDataException">The file is damaged, or its prompt has another width or length.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public InitialPrompt Create(PromptInitialisation initialisation, int seed)
    {
        ArgumentNullException.ThrowIfNull(initialisation);
        ArgumentOutOfRangeException.ThrowIfNegative(seed);
        if (initialisation.Length is { } length and (< 1 or > MaxLength))
            throw Invalid($"length is {length}, expected 1 to {MaxLength} rows");
        var notes = new List<string>();
        int D = checkpoint.Config.DModel;
        float[] rows = initialisation.Kind switch
        {
            PromptInitialisationKind.RandomUniform => Uniform(RequireLength(initialisation), D, initialisation.Range, seed),
            PromptInitialisationKind.SampledVocabulary => EmbeddingRows.Read(checkpoint, SampleVocabulary(RequireLength(initialisation), initialisation.VocabularySize, seed, notes)),
            PromptInitialisationKind.ClassLabel => ClassLabels(initialisation, seed, notes),
            PromptInitialisationKind.Text => EmbeddingRows.Read(checkpoint, TextIds(initialisation)),
            PromptInitialisationKind.File => FromFile(initialisation),
            _ => throw Invalid($"kind is {(int)initialisation.Kind}, expected a known one"),
        };
        return new InitialPrompt(new Prompt(rows, rows.Length / D, D), notes);
    }

    private static float[] Uniform(int length, int dModel, float range, int seed)
    {
        if (!(range > 0) || !float.IsFinite(range))
            throw Invalid($"range is {range}, expected a finite number above 0");
        NumpyLegacyRandom random = Random(seed);
        float[] rows = new float[checked(length * dModel)];
        for (int i = 0; i < rows.Length; i++)
            rows[i] = (float)((2 * random.NextDouble() - 1) * range);
        return rows;
    }

    private int[] SampleVocabulary(int length, int size, int seed, List<string> notes)
    {
        if (size < 1)
            throw Invalid($"the vocabulary to sample from has {size} pieces, expected at least 1");
        int ids = Math.Min(tokenizer.Count, checkpoint.Config.VocabSize);
        int[] population = [.. Enumerable.Range(0, ids).Where(tokenizer.IsOrdinary).Take(size)];
        if (population.Length == 0)
            throw Invalid("the tokenizer has no ordinary pieces to sample from");
        NumpyLegacyRandom random = Random(seed);
        int[] sample = new int[length];
        if (length > population.Length)
        {
            notes.Add($"The prompt has {length} rows, the vocabulary to sample from {population.Length} pieces: some pieces are taken more than once.");
            for (int i = 0; i < length; i++)
                sample[i] = population[random.NextUpTo((uint)population.Length - 1)];
            return sample;
        }
        for (int i = 0; i < length; i++)
        {
            // Fisher and Yates from the front: the first rows do not depend on the length.
            int j = i + (int)random.NextUpTo((uint)(population.Length - 1 - i));
            (population[i], population[j]) = (population[j], population[i]);
            sample[i] = population[i];
        }
        return sample;
    }

    private float[] ClassLabels(PromptInitialisation initialisation, int seed, List<string> notes)
    {
        int length = RequireLength(initialisation);
        IReadOnlyList<string> labels = initialisation.Labels;
        if (labels.Count == 0)
            notes.Add($"The task has no labels: all {length} rows of the prompt are from the vocabulary.");
        if (labels.Count > length)
            notes.Add($"The prompt has {length} rows for {labels.Count} labels, one each: the last {labels.Count - length} ({string.Join(", ", labels.Skip(length).Take(5))}{(labels.Count - length > 5 ? ", ..." : "")}) are left out. Lengthen the prompt to {labels.Count} to have them all.");
        float[] rows = EmbeddingRows.Read(checkpoint, SampleVocabulary(length, initialisation.VocabularySize, seed, notes));
        int D = checkpoint.Config.DModel;
        for (int row = 0; row < Math.Min(length, labels.Count); row++)
            Mean(EmbeddingRows.Read(checkpoint, Encode(labels[row], "label")), rows.AsSpan(row * D, D));
        return rows;
    }

    private static void Mean(float[] pieces, Span<float> mean)
    {
        int D = mean.Length;
        int count = pieces.Length / D;
        for (int d = 0; d < D; d++)
        {
            double sum = 0;
            for (int i = 0; i < count; i++)
                sum += pieces[i * D + d];
            mean[d] = (float)(sum / count);
        }
    }

    private int[] TextIds(PromptInitialisation initialisation)
    {
        int[] ids = Encode(initialisation.Text ?? throw Invalid("the kind is text, but there is no text"), "text");
        if (initialisation.Length is not { } length)
            return ids.Length <= MaxLength ? ids : throw Invalid($"the text has {ids.Length} pieces, expected at most {MaxLength}");
        // PEFT's tokenizer call ends the text in </s>, which its repetition then holds too.
        int[] repeated = [.. ids, tokenizer.EosId];
        return [.. Enumerable.Range(0, length).Select(i => repeated[i % repeated.Length])];
    }

    private int[] Encode(string text, string what)
    {
        int[] ids = tokenizer.Encode(text, addEos: false);
        return ids.Length > 0 ? ids : throw Invalid($"the {what} \"{text}\" has no pieces, expected at least 1");
    }

    private float[] FromFile(PromptInitialisation initialisation)
    {
        string path = initialisation.Path ?? throw Invalid("the kind is file, but no file is named");
        Prompt prompt = PromptFile.Read(path);
        prompt.RequireWidth(checkpoint.Config.DModel, path);
        if (initialisation.Length is { } length && length != prompt.Length)
            throw new InvalidDataException($"{path}: the prompt has shape [{prompt.Length}, {prompt.DModel}], the run asks for {length} rows. Leave the length out, or set it to {prompt.Length}.");
        return prompt.Values;
    }

    private static int RequireLength(PromptInitialisation initialisation) =>
        initialisation.Length ?? throw Invalid($"no length is given, expected a number of rows from 1 for the kind {initialisation.Kind}");

    private static NumpyLegacyRandom Random(int seed) => new((uint)seed);

    private static ArgumentException Invalid(string found) => new($"Making a prompt: {found}.");
}
