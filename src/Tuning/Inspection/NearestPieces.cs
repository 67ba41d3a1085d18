// Vocabulary entries nearest to vectors, by cosine. Deliberately reads the embedding in blocks: a copy of it would be half a gigabyte for the largest T5.
using System.Numerics;
using System.Runtime.InteropServices;
using IptNative.Model.Checkpoints;
using IptNative.Model.Tokenizer;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Inspection;

/// <summary>A vocabulary entry near a vector.</summary>
/// <param name="Id">Token id.</param>
/// <param name="Piece">As the tokenizer writes it; ▁ is a space.</param>
/// <param name="Cosine">-1 to 1.</param>
public readonly record struct NearPiece(int Id, string Piece, double Cosine);

/// <summary>Finds nearest pieces of many vectors in one sweep over the embedding.</summary>
internal sealed class NearestPieces
{
    private const int Block = 1024;

    private readonly Checkpoint _checkpoint;
    private readonly T5Tokenizer _tokenizer;
    private readonly int[] _ids;

    public NearestPieces(Checkpoint checkpoint, T5Tokenizer tokenizer)
    {
        (_checkpoint, _tokenizer) = (checkpoint, tokenizer);
        // Sentinels, control tokens and rows that no piece has are near to nothing that could be read.
        _ids = [.. Enumerable.Range(0, Math.Min(tokenizer.Count, checkpoint.Config.VocabSize)).Where(tokenizer.IsOrdinary)];
    }

    /// <summary>Mean length of the embeddings of ordinary pieces, known after <see cref="Find"/>.</summary>
    public double MeanNorm { get; private set; }

    /// <summary>The nearest pieces of each vector, best first; equal ones by id.</summary>
    public NearPiece[][] Find(IReadOnlyList<float[]> vectors, int count)
    {
        var best = new PriorityQueue<int, (double, int)>[vectors.Count];
        for (int v = 0; v < best.Length; v++)
            best[v] = new PriorityQueue<int, (double, int)>(count + 1);
        double[] lengths = [.. vectors.Select(v => Math.Sqrt(Dot(v, v)))];
        int width = _checkpoint.Config.DModel;
        double norms = 0;
        foreach (int[] block in _ids.Chunk(Block))
        {
            float[] rows = EmbeddingRows.Read(_checkpoint, block);
            double[] norm = [.. Enumerable.Range(0, block.Length).Select(i => Math.Sqrt(Dot(rows.AsSpan(i * width, width), rows.AsSpan(i * width, width))))];
            norms += norm.Sum();
            Parallel.For(0, vectors.Count, v =>
            {
                for (int i = 0; i < block.Length; i++)
                {
                    double scale = lengths[v] * norm[i];
                    double cosine = scale > 0 ? Dot(vectors[v], rows.AsSpan(i * width, width)) / scale : 0;
                    // Least first, so that the least of too many is taken out; of equals the highest id.
                    best[v].Enqueue(block[i], (cosine, -block[i]));
                    if (best[v].Count > count)
                        best[v].Dequeue();
                }
            });
        }
        MeanNorm = norms / Math.Max(1, _ids.Length);
        return [.. best.Select(Sorted)];
    }

    /// <summary>Embeddings of ids, one array each.</summary>
    public float[][] Embeddings(int[] ids)
    {
        int width = _checkpoint.Config.DModel;
        float[] rows = ids.Length == 0 ? [] : EmbeddingRows.Read(_checkpoint, ids);
        return [.. Enumerable.Range(0, ids.Length).Select(i => rows[(i * width)..((i + 1) * width)])];
    }

    public static double Cosine(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double scale = Math.Sqrt(Dot(a, a) * Dot(b, b));
        return scale > 0 ? Dot(a, b) / scale : 0;
    }

    // Sums in float by lanes: a cosine is read to three digits.
    public static double Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        ReadOnlySpan<Vector<float>> x = MemoryMarshal.Cast<float, Vector<float>>(a), y = MemoryMarshal.Cast<float, Vector<float>>(b);
        Vector<float> sum = Vector<float>.Zero;
        for (int i = 0; i < x.Length; i++)
            sum += x[i] * y[i];
        double total = Vector.Sum(sum);
        for (int i = x.Length * Vector<float>.Count; i < a.Length; i++)
            total += a[i] * (double)b[i];
        return total;
    }

    private NearPiece[] Sorted(PriorityQueue<int, (double, int)> queue)
    {
        var pieces = new NearPiece[queue.Count];
        for (int i = pieces.Length - 1; queue.TryDequeue(out int id, out (double Cosine, int) priority); i--)
            pieces[i] = new NearPiece(id, _tokenizer.IdToPiece(id), priority.Cosine);
        return pieces;
    }
}
