// What a tuned prompt's rows look like from the vocabulary. Deliberately not: what they do to answers (Evaluation).
using IptNative.Model.Checkpoints;
using IptNative.Model.Tokenizer;
using IptNative.Optimizers;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Inspection;

/// <summary>One row of a prompt.</summary>
/// <param name="Index">From 0.</param>
/// <param name="Norm">Its length.</param>
/// <param name="Neighbours">Nearest pieces, best first.</param>
/// <param name="Tightness">Mean cosine between the neighbours' embeddings: high where they are one cluster.</param>
/// <param name="Distance">From its initial value; null where that is not known.</param>
/// <param name="InitialCosine">With its initial value; null where that is not known.</param>
public sealed record InspectedRow(int Index, double Norm, IReadOnlyList<NearPiece> Neighbours, double Tightness, double? Distance, double? InitialCosine);

/// <summary>Where a label shows among the neighbours.</summary>
/// <param name="Label">The label.</param>
/// <param name="Rows">Rows that have one of its pieces among their neighbours.</param>
/// <param name="InitialRow">Row that was initialised with it; null where none was, or where that is not known.</param>
/// <param name="Kept">Whether that row still has it among its neighbours.</param>
public sealed record LabelPersistence(string Label, IReadOnlyList<int> Rows, int? InitialRow, bool? Kept);

/// <summary>What to look for.</summary>
public sealed record InspectionOptions
{
    /// <summary>Neighbours of each row, 2 or more.</summary>
    public int TopK { get; init; } = 5;

    /// <summary>The prompt before its training; null where it is not known.</summary>
    public Prompt? Initial { get; init; }

    /// <summary>The task's labels.</summary>
    public IReadOnlyList<string> Labels { get; init; } = [];

    /// <summary>Seed of the random vectors.</summary>
    public int Seed { get; init; }
}

/// <summary>A prompt read through the vocabulary.</summary>
/// <remarks>Source: Lester et al. 2021, section 7: nearest neighbours by cosine, clusters against random vectors, labels that persist, redundancy in long prompts.</remarks>
public sealed class PromptInspection
{
    // Of random vectors: enough that the mean's error is a tenth of their spread.
    private const int RandomVectors = 100;

    // A row that was set to a label's embedding is it up to rounding, also through bf16 files.
    private const double SameVector = 0.999;

    private PromptInspection(IReadOnlyList<InspectedRow> rows, IReadOnlyList<LabelPersistence> labels, double[] random, double vocabularyNorm)
    {
        (Rows, Labels, VocabularyNorm) = (rows, labels, vocabularyNorm);
        Tightness = rows.Average(r => r.Tightness);
        RandomTightness = random.Average();
        RandomDeviation = Math.Sqrt(random.Sum(t => (t - RandomTightness) * (t - RandomTightness)) / (random.Length - 1));
        var shared = rows.GroupBy(r => r.Neighbours[0].Id).Where(g => g.Count() > 1).ToArray();
        SharedNearest = shared.Sum(g => g.Count()) / (double)rows.Count;
        DistinctNeighbours = rows.SelectMany(r => r.Neighbours.Select(n => n.Id)).Distinct().Count();
    }

    /// <summary>The rows in order.</summary>
    public IReadOnlyList<InspectedRow> Rows { get; }

    /// <summary>The labels in the order given.</summary>
    public IReadOnlyList<LabelPersistence> Labels { get; }

    /// <summary>Mean over the rows.</summary>
    public double Tightness { get; }

    /// <summary>The same of random vectors.</summary>
    public double RandomTightness { get; }

    /// <summary>Standard deviation over the random vectors.</summary>
    public double RandomDeviation { get; }

    /// <summary>How many of a random vector's deviations the rows' mean lies above random.</summary>
    public double Excess => RandomDeviation > 0 ? (Tightness - RandomTightness) / RandomDeviation : 0;

    /// <summary>Share of the rows whose nearest piece is another row's nearest too.</summary>
    public double SharedNearest { get; }

    /// <summary>Different pieces among all rows' neighbours.</summary>
    public int DistinctNeighbours { get; }

    /// <summary>Mean length of a piece's embedding, to compare the rows' with.</summary>
    public double VocabularyNorm { get; }

    /// <summary>Inspects a prompt.</summary>
    /// <param name="checkpoint">The model that it was tuned for.</param>
    /// <param name="tokenizer">Its tokenizer.</param>
    /// <param name="prompt">The prompt.</param>
    /// <param name="options">What to look for.</param>
    /// <returns>The findings.</returns>
    /// <exception cref="ArgumentException">The prompt or its initial value does not fit.</exception>
    public static PromptInspection Of(Checkpoint checkpoint, T5Tokenizer tokenizer, Prompt prompt, InspectionOptions options)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(prompt);
        ArgumentNullException.ThrowIfNull(options);
        if (options.TopK < 2)
            throw new ArgumentException($"Inspection: {options.TopK} neighbours, expected 2 or more: one alone has no tightness.", nameof(options));
        if (options.Initial is { } other && (other.Length != prompt.Length || other.DModel != prompt.DModel))
            throw new ArgumentException($"Inspection: the initial prompt is [{other.Length}, {other.DModel}], the prompt [{prompt.Length}, {prompt.DModel}]. Give the value that this prompt's training started from.", nameof(options));
        var pieces = new NearestPieces(checkpoint, tokenizer);
        float[][] rows = RowsOf(prompt);
        float[][]? initial = options.Initial is null ? null : RowsOf(options.Initial);
        float[][] random = Random(prompt.DModel, options.Seed);
        NearPiece[][] near = pieces.Find([.. rows, .. random], options.TopK);
        double[] tightness = Tightnesses(pieces, near);
        InspectedRow[] inspected = [.. rows.Select((row, i) => new InspectedRow(i, Math.Sqrt(NearestPieces.Dot(row, row)), near[i], tightness[i],
            initial is null ? null : Distance(row, initial[i]), initial is null ? null : NearestPieces.Cosine(row, initial[i])))];
        return new PromptInspection(inspected, [.. options.Labels.Select(l => Persistence(l, inspected, initial, pieces, tokenizer))], tightness[rows.Length..], pieces.MeanNorm);
    }

    internal static float[][] RowsOf(Prompt prompt) => [.. Enumerable.Range(0, prompt.Length).Select(i => prompt.Values[(i * prompt.DModel)..((i + 1) * prompt.DModel)])];

    // Every direction is as likely: normally distributed numbers; their length does not matter to a cosine.
    private static float[][] Random(int width, int seed)
    {
        var random = new SeededRandom(seed);
        var vectors = new float[RandomVectors][];
        for (int i = 0; i < vectors.Length; i++)
        {
            vectors[i] = new float[width];
            for (int j = 0; j < width; j++)
                vectors[i][j] = (float)random.NextNormal();
        }
        return vectors;
    }

    private static double[] Tightnesses(NearestPieces pieces, NearPiece[][] near)
    {
        int[] ids = [.. near.SelectMany(n => n.Select(p => p.Id)).Distinct()];
        Dictionary<int, float[]> embeddings = ids.Zip(pieces.Embeddings(ids)).ToDictionary(p => p.First, p => p.Second);
        return [.. near.Select(n =>
        {
            double sum = 0;
            int pairs = 0;
            for (int a = 0; a < n.Length; a++)
            {
                for (int b = 0; b < a; b++, pairs++)
                    sum += NearestPieces.Cosine(embeddings[n[a].Id], embeddings[n[b].Id]);
            }
            return sum / Math.Max(1, pairs);
        })];
    }

    private static LabelPersistence Persistence(string label, InspectedRow[] rows, float[][]? initial, NearestPieces pieces, T5Tokenizer tokenizer)
    {
        int[] ids = tokenizer.Encode(label, addEos: false);
        bool IsLabels(NearPiece piece) => ids.Contains(piece.Id) || string.Equals(piece.Piece.Trim('▁'), label, StringComparison.OrdinalIgnoreCase);
        bool Shows(InspectedRow row) => row.Neighbours.Any(IsLabels);
        int? first = null;
        if (initial is not null && ids.Length > 0)
        {
            // As the initialiser sets it: the mean over the label's pieces.
            float[][] embeddings = pieces.Embeddings(ids);
            float[] mean = [.. Enumerable.Range(0, embeddings[0].Length).Select(j => embeddings.Average(e => e[j]))];
            int at = Array.FindIndex(initial, row => NearestPieces.Cosine(row, mean) > SameVector);
            first = at < 0 ? null : at;
        }
        return new LabelPersistence(label, [.. rows.Where(Shows).Select(r => r.Index)], first, first is { } row ? Shows(rows[row]) : null);
    }

    private static double Distance(float[] a, float[] b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++)
            sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        return Math.Sqrt(sum);
    }
}
