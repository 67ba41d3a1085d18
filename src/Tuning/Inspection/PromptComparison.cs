// How alike several prompts are. Deliberately not: what they score on each other's tasks (Evaluation/TaskTransfer).
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Reports;

namespace IptNative.Tuning.Inspection;

/// <summary>Prompts beside each other.</summary>
public sealed class PromptComparison
{
    private PromptComparison(IReadOnlyList<string> names, double[][] cosines, double[][] bestMatch, IReadOnlyList<(double X, double Y)> points, double shareX, double shareY) =>
        (Names, Cosines, BestMatches, Points, ShareX, ShareY) = (names, cosines, bestMatch, points, shareX, shareY);

    /// <summary>The prompts.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>Cosine of two prompts as one long vector each; NaN where they have different lengths. Rows are compared with rows of the same place.</summary>
    public IReadOnlyList<IReadOnlyList<double>> Cosines { get; }

    /// <summary>[a][b]: mean over a's rows of the cosine with the most similar row of b, wherever it stands.</summary>
    public IReadOnlyList<IReadOnlyList<double>> BestMatches { get; }

    /// <summary>Each prompt's mean row on the first two principal axes of the mean rows.</summary>
    public IReadOnlyList<(double X, double Y)> Points { get; }

    /// <summary>Share of the variance on the first axis, 0 to 1.</summary>
    public double ShareX { get; }

    /// <summary>Share of the variance on the second axis.</summary>
    public double ShareY { get; }

    /// <summary>Compares prompts.</summary>
    /// <param name="prompts">Two or more of one width, with their names.</param>
    /// <returns>The comparison.</returns>
    /// <exception cref="ArgumentException">There are fewer than two, or their widths differ.</exception>
    public static PromptComparison Of(IReadOnlyList<KeyValuePair<string, Prompt>> prompts)
    {
        ArgumentNullException.ThrowIfNull(prompts);
        if (prompts.Count < 2)
            throw new ArgumentException($"Comparing prompts: found {prompts.Count}, expected two or more.", nameof(prompts));
        if (prompts.FirstOrDefault(p => p.Value.DModel != prompts[0].Value.DModel) is { Key: not null } other)
            throw new ArgumentException($"Comparing prompts: {other.Key} has d_model {other.Value.DModel}, {prompts[0].Key} has {prompts[0].Value.DModel}; expected prompts of one model.", nameof(prompts));
        float[][][] rows = [.. prompts.Select(p => PromptInspection.RowsOf(p.Value))];
        (IReadOnlyList<(double X, double Y)> points, double shareX, double shareY) = PrincipalAxes.Project([.. rows.Select(Mean)]);
        return new PromptComparison(
            [.. prompts.Select(p => p.Key)],
            Map((a, b) => prompts[a].Value.Length == prompts[b].Value.Length ? NearestPieces.Cosine(prompts[a].Value.Values, prompts[b].Value.Values) : double.NaN),
            Map((a, b) => rows[a].Average(r => rows[b].Max(s => NearestPieces.Cosine(r, s)))),
            points, shareX, shareY);

        double[][] Map(Func<int, int, double> value) => [.. Enumerable.Range(0, prompts.Count).Select(a => Enumerable.Range(0, prompts.Count).Select(b => value(a, b)).ToArray())];
    }

    // Prompts of different lengths have mean rows of one width.
    private static float[] Mean(float[][] rows) => [.. Enumerable.Range(0, rows[0].Length).Select(j => rows.Average(r => r[j]))];
}
