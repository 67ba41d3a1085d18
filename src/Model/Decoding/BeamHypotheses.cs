// The finished hypotheses of one example and the question whether its search may end. Deliberately not the search itself.
namespace IptNative.Model.Decoding;

/// <summary>Up to num_beams finished hypotheses of one example.</summary>
/// <remarks>
/// Source: HF transformers, generation/beam_search.py, BeamHypotheses as of pull request 27808 (lengths are generated tokens, end of sequence counted).
/// The order of equal scores follows its Python: a new hypothesis must be better than the worst to enter a full list, the oldest of the worst leaves,
/// and of equals the newest is returned first.
/// </remarks>
internal sealed class BeamHypotheses(GenerationOptions options)
{
    /// <summary>A finished text: the node of its last token, the end-of-sequence log probability or NaN where it was cut, and its final score.</summary>
    public readonly record struct Hypothesis(double Score, int Node, float EosLogProb);

    private readonly List<Hypothesis> _list = [];
    private double _worst = 1e9;

    /// <summary>Enters a hypothesis if it is good enough.</summary>
    /// <param name="sumLogProbs">Sum of its log probabilities.</param>
    /// <param name="length">Its tokens, end of sequence included.</param>
    /// <param name="node">Node of its last token before the end of sequence.</param>
    /// <param name="eosLogProb">Log probability of the end of sequence; NaN where the maximum length cut it.</param>
    public void Add(double sumLogProbs, int length, int node, float eosLogProb)
    {
        double score = Normalise(sumLogProbs, length);
        if (_list.Count >= options.NumBeams && !(score > _worst)) return;
        _list.Add(new Hypothesis(score, node, eosLogProb));
        if (_list.Count <= options.NumBeams)
        {
            _worst = Math.Min(score, _worst);
            return;
        }
        int leaves = 0;
        for (int i = 1; i < _list.Count; i++)
            if (_list[i].Score < _list[leaves].Score) leaves = i;
        _list.RemoveAt(leaves);
        _worst = double.PositiveInfinity;
        foreach (Hypothesis h in _list) _worst = Math.Min(h.Score, _worst);
    }

    /// <summary>Whether nothing that still runs can enter the list (by HF's rules, which are heuristics for early_stopping false).</summary>
    /// <param name="bestSumLogProbs">Best candidate's sum of log probabilities at this step.</param>
    /// <param name="length">Tokens generated so far, this step's included.</param>
    public bool IsDone(double bestSumLogProbs, int length)
    {
        if (_list.Count < options.NumBeams) return false;
        if (options.EarlyStopping == EarlyStopping.True) return true;
        // With a positive penalty the longest text has the best attainable score, with a negative one the shortest.
        int attainable = options.EarlyStopping == EarlyStopping.Never && options.LengthPenalty > 0 ? options.MaxLength : length;
        return _worst >= Normalise(bestSumLogProbs, attainable);
    }

    /// <summary>The best hypotheses, best first.</summary>
    /// <param name="count">How many; at most num_beams.</param>
    public Hypothesis[] Best(int count)
    {
        var newestFirst = new List<Hypothesis>(_list);
        newestFirst.Reverse();
        return [.. newestFirst.OrderByDescending(h => h.Score).Take(count)];
    }

    private double Normalise(double sumLogProbs, int length) => sumLogProbs / Math.Pow(length, options.LengthPenalty);
}
