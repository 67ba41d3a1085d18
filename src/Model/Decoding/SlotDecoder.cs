// The step decoder of our own kernels: every text has its keys and values in blocks of its own, so texts join, leave and fork without a copy of anything that is
// another's. The server, beams, greedy search and sampling all decode with it. Deliberately not: choosing tokens, the arithmetic (NativeSteps), the encoder.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Blocks;
using IptNative.Model.Forward;

namespace IptNative.Model.Decoding;

/// <summary>Rows over a model's <see cref="NativeSteps"/>.</summary>
/// <param name="steps">The model's; outlives this object.</param>
internal sealed unsafe class SlotDecoder(NativeSteps steps) : IStepDecoder
{
    // Brought to the host where they were made elsewhere: greedy search, beams and sampling all read whole rows, and told log probabilities need their sums.
    private readonly StagedBuffer _logits = new(steps.Device, DType.F32, "logits");
    private SlotRow[] _rows = [];
    private SlotRow[] _spare = [];
    private bool _disposed;

    public int VocabSize => steps.Config.VocabSize;

    public int Rows { get; private set; }

    private ReadOnlySpan<SlotRow> Live => _rows.AsSpan(0, Rows);

    /// <summary>Adds rows for texts, behind the rows that are there.</summary>
    /// <param name="hidden">f32 [R, D], the encoder's output, packed; not needed any more after this call.</param>
    /// <param name="sources">Where its texts lie.</param>
    /// <param name="copies">Rows of each text, side by side; 1 or more.</param>
    /// <exception cref="InsufficientMemoryException">The machine has no room; nothing has joined.</exception>
    public void Join(Tensor hidden, RaggedRows sources, int copies = 1)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        var texts = new SlotText[sources.Examples];
        int joined = 0, before = Rows;
        Grow(ref _rows, checked(before + texts.Length * copies));
        try
        {
            for (; joined < texts.Length; joined++)
            {
                texts[joined] = new SlotText(steps.Memory.Rent(sources.Length(joined)), sources.Length(joined));
                for (int i = 0; i < copies; i++)
                {
                    _rows[Rows] = new SlotRow(texts[joined], steps.Memory.Rent(1));
                    texts[joined].Rows++;
                    Rows++;
                }
            }
            steps.Remember(hidden, sources, texts);
        }
        catch
        {
            // A text that got no row of its own yet.
            if (joined < texts.Length && texts[joined] is { Rows: 0 } bare)
                steps.Memory.Return(bare.Block);
            while (Rows > before)
                Free(_rows[--Rows]);
            throw;
        }
    }

    public ReadOnlySpan<float> DecodeNext(ReadOnlySpan<int> tokens)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        StepChecks.Tokens(tokens, Rows, VocabSize);
        foreach (SlotRow row in Live)
        {
            if (row.Length < row.Block.Capacity)
                continue;
            KeyValueBlock old = row.Block;
            row.Block = steps.Copied(row, 2 * row.Length);
            steps.Memory.Return(old);
        }
        _logits.Take((long)Rows * VocabSize);
        steps.Step(Live, tokens, _logits.Tensor);
        return new ReadOnlySpan<float>((void*)_logits.Fetch(), checked(Rows * VocabSize));
    }

    /// <inheritdoc/>
    /// <remarks>A row that stays is not touched; one that is taken twice copies its own few positions; one that is left out gives its blocks back.</remarks>
    public void Reorder(ReadOnlySpan<int> sources)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        StepChecks.Sources(sources, Rows);
        Grow(ref _spare, sources.Length);
        Span<bool> taken = Rows <= 256 ? stackalloc bool[Rows] : new bool[Rows];
        for (int r = 0; r < sources.Length; r++)
        {
            SlotRow source = _rows[sources[r]];
            _spare[r] = taken[sources[r]] ? Twin(source) : source;
            taken[sources[r]] = true;
        }
        for (int r = 0; r < Rows; r++)
        {
            if (!taken[r])
                Free(_rows[r]);
        }
        Array.Clear(_rows, 0, Rows);
        (_rows, _spare) = (_spare, _rows);
        Rows = sources.Length;
    }

    /// <summary>Takes every row out.</summary>
    public void Clear()
    {
        while (Rows > 0)
            Free(_rows[--Rows]);
        Array.Clear(_rows);
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        Clear();
        _disposed = true;
        _logits.Dispose();
    }

    private static void Grow(ref SlotRow[] rows, int count)
    {
        if (rows.Length < count)
            Array.Resize(ref rows, Math.Max(count, 2 * rows.Length));
    }

    private SlotRow Twin(SlotRow row)
    {
        var twin = new SlotRow(row.Text, steps.Copied(row, row.Block.Capacity)) { Length = row.Length };
        row.Text.Rows++;
        return twin;
    }

    private void Free(SlotRow row)
    {
        steps.Memory.Return(row.Block);
        if (--row.Text.Rows == 0)
            steps.Memory.Return(row.Text.Block);
    }
}
