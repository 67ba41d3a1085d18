// Where each example's rows lie when a batch is packed without padding. Positions only, no data.
namespace IptNative.Model.Blocks;

/// <summary>A ragged batch packed row after row: example b holds rows Offset(b) to Offset(b + 1) - 1. Reused from step to step.</summary>
internal sealed class RaggedRows
{
    private int[] _offsets = new int[1];

    /// <summary>B, the number of examples.</summary>
    public int Examples { get; private set; }

    /// <summary>Rows of the whole batch.</summary>
    public int Rows => _offsets[Examples];

    /// <summary>Rows of the longest example.</summary>
    public int MaxLength { get; private set; }

    /// <summary>[Examples + 1], ascending from 0: where each example begins, and the number of rows.</summary>
    public ReadOnlySpan<int> Offsets => _offsets.AsSpan(0, Examples + 1);

    /// <summary>First row of an example.</summary>
    /// <param name="example">0 to <see cref="Examples"/> (one past the last row).</param>
    public int Offset(int example) => _offsets[example];

    /// <summary>Rows of an example.</summary>
    /// <param name="example">0 to <see cref="Examples"/> - 1.</param>
    public int Length(int example) => _offsets[example + 1] - _offsets[example];

    /// <summary>Takes memory for so many examples before they come.</summary>
    /// <param name="examples">1 or more.</param>
    public void Reserve(int examples)
    {
        if (_offsets.Length <= examples)
            _offsets = new int[examples + 1];
    }

    /// <summary>Lays out a batch.</summary>
    /// <param name="lengths">Rows of each example, 1 or more.</param>
    public void Set(ReadOnlySpan<int> lengths)
    {
        if (_offsets.Length <= lengths.Length)
            _offsets = new int[lengths.Length + 1];
        Examples = lengths.Length;
        MaxLength = 0;
        for (int b = 0; b < lengths.Length; b++)
        {
            if (lengths[b] < 1)
                throw new ArgumentException($"RaggedRows: example {b} has {lengths[b]} rows, expected 1 or more.", nameof(lengths));
            _offsets[b + 1] = checked(_offsets[b] + lengths[b]);
            MaxLength = Math.Max(MaxLength, lengths[b]);
        }
    }
}
