// A text that takes part in continuous batching: what is asked for, and who is told of each token. Deliberately not: queues, text, HTTP.
namespace IptNative.Model.Decoding;

/// <summary>One likely token and its log probability.</summary>
/// <param name="Id">Token id.</param>
/// <param name="LogProb">Of the model's own distribution, whatever the temperature.</param>
public readonly record struct TokenLogProb(int Id, float LogProb);

/// <summary>A request of <see cref="ContinuousGeneration"/>; its members are called on the thread that generates.</summary>
public abstract class LiveRequest
{
    /// <summary>Makes a request.</summary>
    /// <param name="options">One beam; NumReturnSequences texts are generated, sampled ones from streams of their own.</param>
    /// <param name="stream">Picks the random stream, as in <see cref="Generator"/>: the same seed and stream give the same text.</param>
    /// <param name="topLogProbs">Likeliest tokens told beside each token, 0 or more; null where no log probability is read, not even the token's own.</param>
    /// <exception cref="ArgumentException">An option is impossible, or asks for beams.</exception>
    protected LiveRequest(GenerationOptions options, long stream, int? topLogProbs)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegative(topLogProbs ?? 0, nameof(topLogProbs));
        // Copies of a greedy text are a search's beams to Validate; here they are merely the same text told several times.
        (options.DoSample ? options : options with { NumReturnSequences = 1 }).Validate();
        if (options.NumBeams != 1)
            throw new ArgumentException($"Continuous generation: num_beams is {options.NumBeams}, expected 1. Beams compete with each other and end together: use Generator.", nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.NumReturnSequences, 1, nameof(options));
        (Options, Stream, TopLogProbs, ReadsLogProbs) = (options, stream, topLogProbs ?? 0, topLogProbs is not null);
    }

    /// <summary>What is generated.</summary>
    public GenerationOptions Options { get; }

    /// <summary>Number of the random stream.</summary>
    public long Stream { get; }

    /// <summary>Likeliest tokens told beside each token.</summary>
    public int TopLogProbs { get; }

    /// <summary>False where tokens are told with a log probability that is no number, which saves a pass over the vocabulary.</summary>
    public bool ReadsLogProbs { get; }

    /// <summary>False once nobody waits for it any more: its rows leave before the next step.</summary>
    public abstract bool IsWanted { get; }

    /// <summary>A token was chosen, which is not the end of sequence.</summary>
    /// <param name="sample">Which of the texts, from 0.</param>
    /// <param name="token">The token.</param>
    /// <param name="top">The likeliest tokens, best first; empty where none were asked for. Valid during the call.</param>
    /// <returns>False to end this text here.</returns>
    public abstract bool Read(int sample, TokenLogProb token, ReadOnlySpan<TokenLogProb> top);

    /// <summary>A text ended by itself or by its length; not called where <see cref="Read"/> ended it.</summary>
    /// <param name="sample">Which of the texts.</param>
    /// <param name="reason">Why.</param>
    public abstract void Finished(int sample, FinishReason reason);

    /// <summary>The request cannot be answered; nothing else is called after it.</summary>
    /// <param name="reason">Why.</param>
    public abstract void Failed(Exception reason);
}
