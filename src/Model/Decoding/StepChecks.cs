// What every step decoder asks of its callers, worded once.
namespace IptNative.Model.Decoding;

/// <summary>Argument checks of <see cref="IStepDecoder"/>.</summary>
internal static class StepChecks
{
    /// <exception cref="ArgumentException">Not one token a row, no row, or a token outside the vocabulary.</exception>
    public static void Tokens(ReadOnlySpan<int> tokens, int rows, int vocabSize)
    {
        if (tokens.Length != rows || rows == 0)
            throw new ArgumentException($"decoding a step: found {tokens.Length} tokens, expected one for each of {rows} rows, and a row at least.", nameof(tokens));
        foreach (int token in tokens)
        {
            if ((uint)token >= (uint)vocabSize)
                throw new ArgumentException($"decoding a step: found token {token}, expected 0 to vocab_size - 1 = {vocabSize - 1}.", nameof(tokens));
        }
    }

    /// <exception cref="ArgumentException">No rows, or one that goes on from a row that is not there.</exception>
    public static void Sources(ReadOnlySpan<int> sources, int rows)
    {
        if (sources.Length == 0)
            throw new ArgumentException("reordering the cache: found no rows, expected at least one. Dispose the decoder when all rows are finished.", nameof(sources));
        for (int r = 0; r < sources.Length; r++)
        {
            if ((uint)sources[r] >= (uint)rows)
                throw new ArgumentException($"reordering the cache: row {r} goes on from row {sources[r]}, expected 0 to {rows - 1}.", nameof(sources));
        }
    }
}
