// Beam search as Hugging Face's generate does it. Deliberately not: diverse (grouped), constrained or sampled beams.
namespace IptNative.Model.Decoding;

/// <summary>Beam search over a batch; examples that are done leave it.</summary>
/// <remarks>
/// Per step and example the 2 * num_beams best continuations are ranked by sum of log probabilities; end-of-sequence among the first num_beams of
/// them finishes a hypothesis, further down it is ignored; the first num_beams others run on.
/// Source: HF transformers, generation/beam_search.py, BeamSearchScorer as of pull request 27808 (versions 4.37 to 4.49); earlier versions counted
/// decoder_start_token_id in the length of hypotheses that were cut: <see cref="GenerationOptions.CountDecoderStart"/>.
/// Differs from HF: sums are double, not float; among equal scores the lowest (beam, token) wins, where torch.topk leaves the order open; the first
/// step runs one row per example, because its beams would all be equal.
/// </remarks>
internal sealed class BeamSearch
{
    // HF's initial score of every beam but the first, so that the first step fans out from one.
    private const double OtherBeams = -1e9;

    private readonly record struct Node(int Token, int Parent, float LogProb);

    private readonly record struct Candidate(double Score, int Beam, int Token, float LogProb);

    private sealed class Example(int beams, GenerationOptions options)
    {
        public readonly double[] Scores = new double[beams];
        public readonly int[] Nodes = new int[beams];
        public readonly BeamHypotheses Hypotheses = new(options);
    }

    private readonly IStepDecoder _decoder;
    private readonly GenerationOptions _options;
    private readonly int _eos;
    private readonly int _beams;
    private readonly List<Node> _nodes = [];
    private readonly Candidate[] _candidates;
    private int _count;

    public BeamSearch(IStepDecoder decoder, GenerationOptions options, int eosTokenId)
    {
        _decoder = decoder;
        _options = options;
        _eos = eosTokenId;
        _beams = options.NumBeams;
        _candidates = new Candidate[2 * _beams];
    }

    public IReadOnlyList<GeneratedSequence>[] Run(int decoderStartTokenId, CancellationToken cancellationToken)
    {
        int batch = _decoder.Rows;
        var examples = new Example[batch];
        var alive = new List<Example>(batch);
        for (int e = 0; e < batch; e++)
        {
            examples[e] = new Example(_beams, _options);
            examples[e].Scores.AsSpan(1).Fill(OtherBeams);
            examples[e].Nodes.AsSpan().Fill(-1);
            alive.Add(examples[e]);
        }

        var from = new int[checked(batch * _beams)];
        var tokens = new int[from.Length];
        tokens.AsSpan(0, batch).Fill(decoderStartTokenId);
        int fed = batch;
        for (int step = 0; ; step++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            ReadOnlySpan<float> logits = _decoder.DecodeNext(tokens.AsSpan(0, fed));
            int running = 0;
            for (int a = 0; a < alive.Count; a++)
            {
                // In the first step all beams of an example read its one row; afterwards each has its own.
                int firstRow = step == 0 ? a : a * _beams;
                Rank(alive[a], logits, firstRow, step);
                if (Advance(alive[a], firstRow, step, from.AsSpan(running * _beams, _beams), tokens.AsSpan(running * _beams, _beams))) continue;
                alive[running++] = alive[a];
            }
            alive.RemoveRange(running, alive.Count - running);
            if (running == 0 || step + 1 == _options.MaxLength) break;
            fed = running * _beams;
            SingleSearch.Rearrange(_decoder, from.AsSpan(0, fed));
        }

        int cutLength = _options.MaxLength + (_options.CountDecoderStart ? 1 : 0);
        foreach (Example example in alive)
            for (int b = 0; b < _beams; b++)
                example.Hypotheses.Add(example.Scores[b], cutLength, example.Nodes[b], float.NaN);
        return Array.ConvertAll(examples, e => (IReadOnlyList<GeneratedSequence>)Array.ConvertAll(e.Hypotheses.Best(_options.NumReturnSequences), ToSequence));
    }

    // Fills _candidates with the 2 * num_beams best continuations, best first. Rows are scanned in (beam, token) order and only a better score
    // moves ahead, so equal scores keep that order.
    private void Rank(Example example, ReadOnlySpan<float> logits, int firstRow, int step)
    {
        int vocab = _decoder.VocabSize;
        _count = 0;
        double norm = 0;
        for (int b = 0; b < _beams; b++)
        {
            int rowNumber = step == 0 ? firstRow : firstRow + b;
            ReadOnlySpan<float> row = logits.Slice(rowNumber * vocab, vocab);
            if (step > 0 || b == 0) norm = LogSumExp.Of(row, rowNumber, step, out _);
            double offset = example.Scores[b] - norm;
            for (int v = 0; v < vocab; v++)
            {
                // As HF's processors do: forbidden after normalisation, its mass is not given to the others.
                double score = v == _eos && step < _options.MinLength ? double.NegativeInfinity : offset + row[v];
                if (_count == _candidates.Length && !(score > _candidates[_count - 1].Score)) continue;
                int place = _count < _candidates.Length ? _count++ : _count - 1;
                for (; place > 0 && score > _candidates[place - 1].Score; place--) _candidates[place] = _candidates[place - 1];
                _candidates[place] = new Candidate(score, b, v, (float)(row[v] - norm));
            }
        }
    }

    // One step of BeamSearchScorer.process for one example; true when its search is over.
    private bool Advance(Example example, int firstRow, int step, Span<int> from, Span<int> tokens)
    {
        int length = step + 1;
        Span<double> scores = stackalloc double[_beams];
        Span<int> nodes = stackalloc int[_beams];
        int next = 0;
        for (int rank = 0; rank < _count && next < _beams; rank++)
        {
            Candidate c = _candidates[rank];
            if (c.Token == _eos)
            {
                if (rank < _beams) example.Hypotheses.Add(c.Score, length, example.Nodes[c.Beam], c.LogProb);
                continue;
            }
            _nodes.Add(new Node(c.Token, example.Nodes[c.Beam], c.LogProb));
            (scores[next], nodes[next], tokens[next]) = (c.Score, _nodes.Count - 1, c.Token);
            from[next++] = step == 0 ? firstRow : firstRow + c.Beam;
        }
        // At most one end of sequence per beam, so 2 * num_beams candidates over at least two tokens always hold num_beams others.
        System.Diagnostics.Debug.Assert(next == _beams, "too few candidates");
        scores.CopyTo(example.Scores);
        nodes.CopyTo(example.Nodes);
        return example.Hypotheses.IsDone(_candidates[0].Score, length);
    }

    private GeneratedSequence ToSequence(BeamHypotheses.Hypothesis hypothesis)
    {
        var ids = new List<int>();
        var logProbs = new List<float>();
        bool ended = !float.IsNaN(hypothesis.EosLogProb);
        if (ended) logProbs.Add(hypothesis.EosLogProb);
        for (int n = hypothesis.Node; n >= 0; n = _nodes[n].Parent)
        {
            ids.Add(_nodes[n].Token);
            logProbs.Add(_nodes[n].LogProb);
        }
        ids.Reverse();
        logProbs.Reverse();
        return new GeneratedSequence
        {
            Ids = [.. ids],
            Score = hypothesis.Score,
            Finish = ended ? FinishReason.EndOfSequence : FinishReason.MaxLength,
            TokenLogProbs = _options.ReturnLogProbs ? [.. logProbs] : null,
        };
    }
}
