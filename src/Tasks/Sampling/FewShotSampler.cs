// K-shot samples of a full training file, the same lines as CrossFit draws. Deliberately not the test split: CrossFit keeps it whole.
using IptNative.Tasks.Data;

namespace IptNative.Tasks.Sampling;

/// <summary>A K-shot sample.</summary>
/// <param name="Train">Training examples.</param>
/// <param name="Dev">Development examples.</param>
public sealed record FewShotSample(IReadOnlyList<TaskExample> Train, IReadOnlyList<TaskExample> Dev);

/// <summary>Draws K-shot samples as CrossFit's fewshot_gym_dataset.py: np.random.seed, np.random.shuffle of all lines, then the first ones.</summary>
public static class FewShotSampler
{
    /// <summary>The five seeds of CrossFit, in its order.</summary>
    public static readonly IReadOnlyList<int> CrossFitSeeds = [100, 13, 21, 42, 87];

    /// <summary>Draws a sample.</summary>
    /// <param name="all">All training examples, in the file's order (the order matters).</param>
    /// <param name="k">Shots: per label where <paramref name="perLabel"/>, in all otherwise (16 and 32 in CrossFit).</param>
    /// <param name="seed">Seed.</param>
    /// <param name="perLabel">True for classification: k of each label for training, the next k for development, labels in order of appearance after the shuffle.</param>
    /// <returns>The sample. As in CrossFit, a label with too few examples gives what it has.</returns>
    /// <exception cref="ArgumentException">k or the seed is impossible, or nothing is left for development.</exception>
    public static FewShotSample Sample(IReadOnlyList<TaskExample> all, int k, int seed, bool perLabel)
    {
        ArgumentNullException.ThrowIfNull(all);
        if (k < 1) throw new ArgumentException($"Few-shot sample: k is {k}; expected at least 1.", nameof(k));
        if (seed < 0) throw new ArgumentException($"Few-shot sample: seed is {seed}; expected 0 or more.", nameof(seed));
        TaskExample[] shuffled = [.. all];
        new NumpyLegacyRandom((uint)seed).Shuffle<TaskExample>(shuffled);
        var groups = new List<List<TaskExample>>();
        if (perLabel)
        {
            var byLabel = new Dictionary<string, List<TaskExample>>(StringComparer.Ordinal);
            foreach (TaskExample example in shuffled)
            {
                // CrossFit's label is the whole answer field of the line, several answers included.
                string label = string.Join('\t', example.Answers);
                if (!byLabel.TryGetValue(label, out List<TaskExample>? group)) groups.Add(byLabel[label] = group = []);
                group.Add(example);
            }
        }
        else groups.Add([.. shuffled]);
        var sample = new FewShotSample([.. groups.SelectMany(g => g.Take(k))], [.. groups.SelectMany(g => g.Skip(k).Take(k))]);
        if (sample.Dev.Count == 0)
            throw new ArgumentException($"Few-shot sample: {all.Count} examples with k {k} leave none for development; expected more than k{(perLabel ? " of some label" : "")}. Lower k, or give more examples.", nameof(all));
        return sample;
    }
}
