// Draws one token from a row of logits: temperature, then top-k, then top-p, as Hugging Face orders them. Deliberately not the loop over steps.
using IptNative.Kernels;

namespace IptNative.Model.Decoding;

/// <summary>Temperature, top-k and top-p sampling with reused scratch space.</summary>
/// <remarks>
/// top-k keeps every token at least as probable as the k-th, so ties stay (as HF's TopKLogitsWarper). top-p keeps the shortest prefix of the
/// tokens, sorted by probability and then id, whose mass reaches top_p (HF's TopPLogitsWarper up to the order of ties).
/// </remarks>
internal sealed class TokenSampler
{
    private GenerationOptions _options;
    private readonly double[] _weights;
    private readonly int[] _ids;
    private float[] _heap = [];
    private readonly Comparison<int> _byWeight;

    public TokenSampler(GenerationOptions options, int vocabSize)
    {
        _options = options;
        _weights = new double[vocabSize];
        _ids = new int[vocabSize];
        Use(options);
        _byWeight = (a, b) => _weights[a] != _weights[b] ? _weights[b].CompareTo(_weights[a]) : a.CompareTo(b);
    }

    /// <summary>Takes another request's settings; the scratch space stays.</summary>
    public void Use(GenerationOptions options)
    {
        int kept = options.TopK > 0 && options.TopK < _weights.Length ? options.TopK : 0;
        if (_heap.Length != kept) _heap = new float[kept];
        _options = options;
    }

    /// <summary>Draws a token.</summary>
    /// <param name="logits">[V] checked logits (no NaN).</param>
    /// <param name="forbidden">A token that may not be drawn, or -1.</param>
    /// <param name="random">The sample's stream; advanced once.</param>
    /// <returns>The token.</returns>
    public int Draw(ReadOnlySpan<float> logits, int forbidden, ref SplitMix64 random)
    {
        float least = _heap.Length > 0 ? KthLargest(logits, forbidden) : float.NegativeInfinity;
        float max = float.NegativeInfinity;
        int kept = 0;
        for (int v = 0; v < logits.Length; v++)
        {
            if (v == forbidden || logits[v] < least || float.IsNegativeInfinity(logits[v])) continue;
            _ids[kept++] = v;
            max = Math.Max(max, logits[v]);
        }
        // Only the forbidden token had any probability: nothing else can be drawn honestly, so the token after it in the row is as good as any.
        if (kept == 0) return forbidden == 0 ? 1 : 0;
        double mass = 0;
        for (int i = 0; i < kept; i++)
        {
            double weight = Math.Exp(((double)logits[_ids[i]] - max) / _options.Temperature);
            _weights[_ids[i]] = weight;
            mass += weight;
        }
        if (_options.TopP < 1) (kept, mass) = Nucleus(kept, mass);
        double target = random.NextDouble() * mass;
        for (int i = 0; i < kept - 1; i++)
        {
            target -= _weights[_ids[i]];
            if (target < 0) return _ids[i];
        }
        return _ids[kept - 1];
    }

    private (int Kept, double Mass) Nucleus(int kept, double mass)
    {
        // Tokens below (1 - p) / n of the mass sum to less than 1 - p, so the nucleus lies among the others: only those are sorted.
        double least = (1 - _options.TopP) * mass / kept;
        int candidates = 0;
        for (int i = 0; i < kept; i++)
            if (_weights[_ids[i]] >= least) _ids[candidates++] = _ids[i];
        _ids.AsSpan(0, candidates).Sort(_byWeight);
        double wanted = _options.TopP * mass;
        double sum = 0;
        int n = 0;
        while (n < candidates && (n == 0 || sum < wanted)) sum += _weights[_ids[n++]];
        return (n, sum);
    }

    // A min-heap of the k largest seen so far: one pass, no copy of the row.
    private float KthLargest(ReadOnlySpan<float> logits, int forbidden)
    {
        int count = 0;
        for (int v = 0; v < logits.Length; v++)
        {
            if (v == forbidden) continue;
            float x = logits[v];
            if (count < _heap.Length)
            {
                int i = count++;
                for (; i > 0 && _heap[(i - 1) / 2] > x; i = (i - 1) / 2) _heap[i] = _heap[(i - 1) / 2];
                _heap[i] = x;
            }
            else if (x > _heap[0])
            {
                int i = 0;
                for (int child = 1; child < count; child = 2 * i + 1)
                {
                    if (child + 1 < count && _heap[child + 1] < _heap[child]) child++;
                    if (_heap[child] >= x) break;
                    _heap[i] = _heap[child];
                    i = child;
                }
                _heap[i] = x;
            }
        }
        return count < _heap.Length ? float.NegativeInfinity : _heap[0];
    }
}
