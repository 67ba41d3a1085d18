// Rows that begin at different steps: joining, masking what lies before a row's own first step, and giving room back. Not: the step itself.
using IptNative.Kernels.Devices;

namespace IptNative.Model.Forward;

/// <summary>Continuous batching on the key/value cache.</summary>
/// <remarks>
/// Every row's cache ends at the common length, so that the distance from the query to a key, and with it T5's position bias, is the same for all rows;
/// only the positions before a row's own first step are masked. Sources are padded at their end, as the encoder pads them. A masked key gets HF's
/// float.MinValue and its weight is exactly 0, so a row's numbers differ from its numbers alone by the order of float sums at most.
/// </remarks>
internal sealed unsafe partial class CachedStepDecoder
{
    private bool IsRagged => _stepsOfRow.AsSpan().IndexOfAnyExcept(_length) >= 0;

    public void Join(EncodedBatch encoded)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentNullException.ThrowIfNull(encoded);
        using var newcomers = new CachedStepDecoder(_model, encoded, beams: 1);
        int H = _model.Config.NumHeads, K = _model.Config.DKv;
        // Rows of one text lie side by side in its cross attention; with others of another number beside them each needs its own copy.
        if (Rows != _texts)
            SpreadTexts();
        int source = Math.Max(_source, newcomers._source);
        for (int i = 0; i < _cross.Length; i++)
        {
            nint target = _crossSpare[i].Take((Rows + newcomers.Rows) * (long)H * source * K).Address;
            Lay(_cross[i].Take(_texts * CrossRow).Address, target, Rows * H, _source, source, K, atEnd: false);
            nint behind = target + (nint)((long)Rows * H * source * K * sizeof(float));
            Lay(newcomers._cross[i].Take(newcomers._texts * newcomers.CrossRow).Address, behind, newcomers.Rows * H, newcomers._source, source, K, atEnd: false);
            (_cross[i], _crossSpare[i]) = (_crossSpare[i], _cross[i]);
        }
        nint mask = _maskSpare.Take((long)(Rows + newcomers.Rows) * source).Address;
        // A mask is rows of one int, laid as one head of width 1 is.
        Lay(_mask.Take((long)_texts * _source).Address, mask, Rows, _source, source, 1, atEnd: false);
        Lay(newcomers._mask.Take((long)newcomers._texts * newcomers._source).Address, mask + (nint)((long)Rows * source * sizeof(int)), newcomers.Rows, newcomers._source, source, 1, atEnd: false);
        Copy(mask, _mask.Take((long)(Rows + newcomers.Rows) * source).Address, (long)(Rows + newcomers.Rows) * source * sizeof(int));

        long row = (long)_model.Config.InnerDim * _length;
        for (int i = 0; i < _past.Length && _length > 0; i++)
        {
            nint past = _past[i].Take(Rows * row).Address;
            nint target = _present[i].Take((Rows + newcomers.Rows) * row).Address;
            Copy(past, target, Rows * row * sizeof(float));
            // Masked, but 0 times a NaN that happened to lie there would be one.
            Clear(target + (nint)(Rows * row * sizeof(float)), newcomers.Rows * row);
            (_past[i], _present[i]) = (_present[i], _past[i]);
        }

        _source = source;
        _sourceOfText = [.. _sourceOfText, .. newcomers._sourceOfText];
        _stepsOfRow = [.. _stepsOfRow, .. newcomers._stepsOfRow];
        Rows += newcomers.Rows;
        _texts = Rows;
        _textOfRow = [.. Enumerable.Range(0, Rows)];
    }

    // The positions that only rows now gone needed: without this, one long text would make every later step as long as it was.
    private void Trim()
    {
        int H = _model.Config.NumHeads, K = _model.Config.DKv;
        int length = _stepsOfRow.Max();
        if (length < _length)
        {
            for (int i = 0; i < _past.Length; i++)
            {
                Lay(_past[i].Take((long)Rows * H * _length * K).Address, _present[i].Take((long)Rows * H * Math.Max(length, 1) * K).Address, Rows * H, _length, length, K, atEnd: true);
                (_past[i], _present[i]) = (_present[i], _past[i]);
            }
            _length = length;
        }
        int source = _sourceOfText.Max();
        if (source == _source)
            return;
        for (int i = 0; i < _cross.Length; i++)
        {
            Lay(_cross[i].Take((long)_texts * H * _source * K).Address, _crossSpare[i].Take((long)_texts * H * source * K).Address, _texts * H, _source, source, K, atEnd: false);
            (_cross[i], _crossSpare[i]) = (_crossSpare[i], _cross[i]);
        }
        nint mask = _maskSpare.Take((long)_texts * source).Address;
        Lay(_mask.Take((long)_texts * _source).Address, mask, _texts, _source, source, 1, atEnd: false);
        Copy(mask, _mask.Take((long)_texts * source).Address, (long)_texts * source * sizeof(int));
        _source = source;
    }

    private void SpreadTexts()
    {
        for (int i = 0; i < _cross.Length; i++)
            GatherRows(ref _cross[i], ref _crossSpare[i], _textOfRow, CrossRow, _texts);
        nint old = _mask.Take((long)_texts * _source).Address;
        nint spread = _maskSpare.Take((long)Rows * _source).Address;
        for (int r = 0; r < Rows; r++)
            Copy(old + (nint)((long)_textOfRow[r] * _source * sizeof(int)), spread + (nint)((long)r * _source * sizeof(int)), (long)_source * sizeof(int));
        Copy(spread, _mask.Take((long)Rows * _source).Address, (long)Rows * _source * sizeof(int));
        _sourceOfText = Array.ConvertAll(_textOfRow, t => _sourceOfText[t]);
        _texts = Rows;
        _textOfRow = [.. Enumerable.Range(0, Rows)];
    }

    // Blocks of [oldLength, width] into blocks of [newLength, width]: cut or filled up with zeros at the beginning (atEnd) or at the end.
    private static void Lay(nint from, nint to, int blocks, int oldLength, int newLength, int width, bool atEnd)
    {
        int kept = Math.Min(oldLength, newLength);
        long keptBytes = (long)kept * width * sizeof(float);
        long oldBytes = (long)oldLength * width * sizeof(float), newBytes = (long)newLength * width * sizeof(float);
        for (int b = 0; b < blocks; b++)
        {
            nint source = from + (nint)(b * oldBytes + (atEnd ? oldBytes - keptBytes : 0));
            nint target = to + (nint)(b * newBytes);
            Copy(source, target + (nint)(atEnd ? newBytes - keptBytes : 0), keptBytes);
            Clear(target + (nint)(atEnd ? 0 : keptBytes), (newBytes - keptBytes) / sizeof(float));
        }
    }

    private static void Clear(nint address, long floats) => System.Runtime.InteropServices.NativeMemory.Clear((void*)address, (nuint)floats * sizeof(float));

    // The first row's bias is there; the others are it again, masked where they had not begun.
    private void MaskBeforeFirstSteps(Span<float> bias, int perRow)
    {
        Span<float> first = bias[..perRow];
        for (int r = Rows - 1; r >= 0; r--)
        {
            Span<float> own = bias.Slice(r * perRow, perRow);
            if (r > 0)
                first.CopyTo(own);
            for (int h = 0; h < _model.Config.NumHeads; h++)
                own.Slice(h * (_length + 1), _length - _stepsOfRow[r]).Fill(float.MinValue);
        }
    }

    /// <summary>Positions of each text before its padding.</summary>
    internal static int[] SourceLengths(Tensor readable, int texts, int source)
    {
        int[] lengths = new int[texts];
        int* mask = (int*)readable.Address;
        for (int b = 0; b < lengths.Length; b++)
        {
            int length = source;
            while (length > 1 && mask[(long)b * source + length - 1] == 0)
                length--;
            lengths[b] = length;
        }
        return lengths;
    }
}
