// A step decoder whose logits are a table: lets decoding be tested without a model. Keeps each row's example and step, as a cache would.
using IptNative.Model.Decoding;

namespace IptNative.Model.Tests.Decoding;

/// <summary>Logits [example][step][previous token][token]; steps beyond the table repeat its last.</summary>
internal sealed class TableStepDecoder(float[][][][] table, params int[] examples) : IStepDecoder
{
    private int[] _rows = examples.Length > 0 ? examples : [.. Enumerable.Range(0, table.Length)];
    private float[] _logits = [];
    private int _step;

    /// <summary>Rows of every call of DecodeNext so far: shows that finished rows leave.</summary>
    public List<int> RowsPerStep { get; } = [];

    public int VocabSize => table[0][0][0].Length;

    public int Rows => _rows.Length;

    public ReadOnlySpan<float> DecodeNext(ReadOnlySpan<int> tokens)
    {
        if (tokens.Length != Rows) throw new ArgumentException($"{tokens.Length} tokens for {Rows} rows");
        RowsPerStep.Add(Rows);
        _logits = new float[Rows * VocabSize];
        for (int r = 0; r < Rows; r++)
        {
            float[][][] steps = table[_rows[r]];
            steps[Math.Min(_step, steps.Length - 1)][tokens[r]].CopyTo(_logits, r * VocabSize);
        }
        _step++;
        return _logits;
    }

    public void Reorder(ReadOnlySpan<int> sources)
    {
        var rows = new int[sources.Length];
        for (int r = 0; r < rows.Length; r++) rows[r] = _rows[sources[r]];
        _rows = rows;
        // What DecodeNext returned is void now: whoever still reads it must notice.
        Array.Fill(_logits, float.NaN);
    }

    public void Dispose() => _rows = [];

    /// <summary>A table with one step and one example in which the previous token does not matter.</summary>
    public static float[][][][] Constant(params float[] logits) => [[[.. Enumerable.Repeat(logits, logits.Length)]]];
}
