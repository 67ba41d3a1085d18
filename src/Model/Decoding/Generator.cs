// The one door to decoding: checks the request, then runs the search it asks for. Deliberately not: batching of inputs, encoding, text.
namespace IptNative.Model.Decoding;

/// <summary>Greedy, beam and sampled decoding over any <see cref="IStepDecoder"/>.</summary>
public static class Generator
{
    /// <summary>Generates texts for every row of a fresh decoder.</summary>
    /// <param name="decoder">A decoder that has been fed nothing yet, one row per example; rows are repeated for beams and dropped when finished. The caller disposes it.</param>
    /// <param name="options">What to generate.</param>
    /// <param name="decoderStartTokenId">First decoder input (config.json: decoder_start_token_id).</param>
    /// <param name="eosTokenId">Token that ends a text (config.json: eos_token_id).</param>
    /// <param name="streams">One number per example that picks its random stream, so that a text depends on the seed and its own number and not on
    /// its neighbours in the batch; empty numbers the examples 0, 1, ... within this call.</param>
    /// <param name="cancellationToken">Ends the generation between two steps.</param>
    /// <returns>Per example its texts, best first (samples in the order drawn).</returns>
    /// <exception cref="ArgumentException">The options, the ids or the number of streams are impossible.</exception>
    /// <exception cref="InvalidDataException">The decoder gave logits that are not finite.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was set.</exception>
    public static IReadOnlyList<GeneratedSequence>[] Generate(
        IStepDecoder decoder,
        GenerationOptions options,
        int decoderStartTokenId,
        int eosTokenId,
        ReadOnlySpan<long> streams = default,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(decoder);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        RequireId(decoderStartTokenId, "decoder_start_token_id", decoder.VocabSize);
        RequireId(eosTokenId, "eos_token_id", decoder.VocabSize);
        // With one token in the vocabulary there is nothing to search: every beam could only end.
        if (decoder.VocabSize < 2) throw new ArgumentException($"Generation: the vocabulary has {decoder.VocabSize} tokens; expected at least 2.", nameof(decoder));
        if (!streams.IsEmpty && streams.Length != decoder.Rows)
            throw new ArgumentException($"Generation: {streams.Length} random streams were given for {decoder.Rows} examples; expected one each, or none.", nameof(streams));
        if (decoder.Rows == 0) return [];
        return options.NumBeams > 1
            ? new BeamSearch(decoder, options, eosTokenId).Run(decoderStartTokenId, cancellationToken)
            : new SingleSearch(decoder, options, eosTokenId, streams).Run(decoderStartTokenId, cancellationToken);
    }

    private static void RequireId(int id, string name, int vocabSize)
    {
        if (id < 0 || id >= vocabSize)
            throw new ArgumentException($"Generation: {name} is {id}, outside the vocabulary of {vocabSize} tokens. Correct config.json.", name);
    }
}
