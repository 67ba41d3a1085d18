// What every pass asks of a batch before it touches memory, whether it is padded or packed.
using IptNative.Model.Config;

namespace IptNative.Model.Forward;

/// <summary>Refusals that name the example and the number.</summary>
internal static class BatchChecks
{
    /// <summary>Refuses an impossible batch.</summary>
    /// <returns>Positions of the longest example, prompt included.</returns>
    public static int SourceLength(T5Batch batch, PromptTable? prompts, T5Config config)
    {
        if (batch.Count == 0)
            throw new ArgumentException("encoding a batch: found no examples, expected at least one.", nameof(batch));
        if (prompts is not null && prompts.DModel != config.DModel)
            throw new ArgumentException($"encoding a batch: the prompts are {prompts.DModel} wide, the model's d_model is {config.DModel}. The prompt belongs to another model.", nameof(prompts));
        int longest = 0;
        for (int b = 0; b < batch.Count; b++)
        {
            int prompt = batch.Prompt(b);
            if (prompt >= (prompts?.Count ?? 0))
                throw new ArgumentException($"encoding a batch: example {b} wants prompt {prompt}, found {prompts?.Count ?? 0} prompts.", nameof(batch));
            if (batch.HasPlaces(b) && PromptPlaces.Rows(batch.InputIds(b)) is var places && places != prompts!.Length(prompt)) // Not null: the count above is positive.
                throw new ArgumentException($"encoding a batch: example {b} has places for {places} prompt rows, its prompt has {prompts.Length(prompt)}. The prompt belongs to another template.", nameof(batch));
            int length = PromptPlaces.Length(batch, prompts, b);
            if (length == 0)
                throw new ArgumentException($"encoding a batch: example {b} has neither tokens nor a prompt, expected at least one position.", nameof(batch));
            longest = Math.Max(longest, length);
        }
        return longest;
    }

    /// <summary>Refuses texts whose attention scores cannot be held: they grow with the square of the length, and the system would end the program.</summary>
    /// <param name="examples">Examples of the batch.</param>
    /// <param name="length">Positions of the longest.</param>
    /// <param name="config">Says how many heads there are.</param>
    /// <param name="available">Bytes that this process may use.</param>
    /// <exception cref="InsufficientMemoryException">They need more than half of it.</exception>
    public static void RequireAttentionMemory(int examples, int length, T5Config config, long available)
    {
        // The position bias once, and every example's probabilities.
        double needed = (examples + 1.0) * config.NumHeads * length * length * sizeof(float);
        // Half: the rest of the pass needs room too, and a machine that swaps is as good as hung.
        if (needed > available / 2.0)
            throw new InsufficientMemoryException($"encoding a batch: {examples} example(s) of {length} positions need {needed / (1 << 30):0.0} GiB for attention (it grows with the length's square), half of the {available / (double)(1 << 30):0.0} GiB of this machine may go there. Use shorter texts (--max-source-length cuts them) or a smaller batch.");
    }

    /// <summary>Refuses an id outside the vocabulary.</summary>
    public static void RequireIds(ReadOnlySpan<int> ids, int example, string what, T5Config config, int alsoAllowed = 0)
    {
        for (int i = 0; i < ids.Length; i++)
        {
            if ((uint)ids[i] >= (uint)config.VocabSize && ids[i] != alsoAllowed)
                throw new ArgumentException($"reading token ids: {what} {i} of example {example} is {ids[i]}, expected 0 to vocab_size - 1 = {config.VocabSize - 1}. Do tokenizer and checkpoint belong together?", nameof(ids));
        }
    }
}
