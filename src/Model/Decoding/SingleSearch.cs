// Greedy search and sampling: rows that never compete with each other. Deliberately not beam search, where they do.
using IptNative.Kernels;

namespace IptNative.Model.Decoding;

/// <summary>One token per row and step, the most probable or a drawn one; finished rows leave the batch.</summary>
internal sealed class SingleSearch
{
    private readonly IStepDecoder _decoder;
    private readonly GenerationOptions _options;
    private readonly int _eos;
    private readonly TokenSampler? _sampler;
    private readonly RunningSequence[] _rows;

    public SingleSearch(IStepDecoder decoder, GenerationOptions options, int eosTokenId, ReadOnlySpan<long> streams)
    {
        _decoder = decoder;
        _options = options;
        _eos = eosTokenId;
        _sampler = options.DoSample ? new TokenSampler(options, decoder.VocabSize) : null;
        int copies = options.NumReturnSequences;
        _rows = new RunningSequence[checked(decoder.Rows * copies)];
        for (int r = 0; r < _rows.Length; r++)
        {
            long stream = streams.IsEmpty ? r / copies : streams[r / copies];
            _rows[r] = new RunningSequence(SplitMix64.Of(options.Seed, stream, r % copies), options.ReturnLogProbs);
        }
    }

    public IReadOnlyList<GeneratedSequence>[] Run(int decoderStartTokenId, CancellationToken cancellationToken)
    {
        int copies = _options.NumReturnSequences;
        int vocab = _decoder.VocabSize;
        // alive[i] is the row that lives in slot i; from[i] is the decoder row that slot i reads. Samples of one example share the first step's row.
        var alive = new int[_rows.Length];
        var from = new int[_rows.Length];
        var tokens = new int[_rows.Length];
        for (int i = 0; i < alive.Length; i++) (alive[i], from[i]) = (i, i / copies);
        int count = alive.Length;
        int fed = _decoder.Rows;
        tokens.AsSpan(0, fed).Fill(decoderStartTokenId);
        for (int step = 0; ; step++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            ReadOnlySpan<float> logits = _decoder.DecodeNext(tokens.AsSpan(0, fed));
            int next = 0;
            for (int i = 0; i < count; i++)
            {
                int token = _rows[alive[i]].Advance(logits.Slice(from[i] * vocab, vocab), _options, _sampler, _eos, from[i], step);
                if (token == _eos) continue;
                (alive[next], from[next], tokens[next]) = (alive[i], from[i], token);
                next++;
            }
            count = next;
            if (count == 0 || step + 1 == _options.MaxLength) break;
            Rearrange(_decoder, from.AsSpan(0, count));
            fed = count;
        }
        var results = new IReadOnlyList<GeneratedSequence>[_rows.Length / copies];
        for (int e = 0; e < results.Length; e++)
            results[e] = Array.ConvertAll(_rows[(e * copies)..((e + 1) * copies)], r => r.ToSequence());
        return results;
    }

    /// <summary>Reorders the decoder unless every row stays, then names the slots anew: slot i reads row i.</summary>
    public static void Rearrange(IStepDecoder decoder, Span<int> from)
    {
        bool same = from.Length == decoder.Rows;
        for (int i = 0; same && i < from.Length; i++) same = from[i] == i;
        if (same) return;
        decoder.Reorder(from);
        for (int i = 0; i < from.Length; i++) from[i] = i;
    }
}
