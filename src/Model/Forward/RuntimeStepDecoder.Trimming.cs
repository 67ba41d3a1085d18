// Giving back the positions that only finished texts needed. Not: the step itself.
using IptNative.Kernels.Devices;

namespace IptNative.Model.Forward;

internal sealed unsafe partial class RuntimeStepDecoder
{
    // Without this, one long text would make every later step read as many source positions as it had.
    private void Trim()
    {
        int H = _model.Config.NumHeads, K = _model.Config.DKv;
        int source = _sourceOfText.Max();
        if (source == _source)
            return;
        for (int i = 0; i < _cross.Length; i++)
        {
            Lay(_cross[i].Take((long)_texts * H * _source * K).Address, _crossSpare[i].Take((long)_texts * H * source * K).Address, _texts * H, _source, source, K);
            (_cross[i], _crossSpare[i]) = (_crossSpare[i], _cross[i]);
        }
        nint mask = _maskSpare.Take((long)_texts * source).Address;
        // A mask is rows of one int, laid as one head of width 1 is.
        Lay(_mask.Take((long)_texts * _source).Address, mask, _texts, _source, source, 1);
        Copy(mask, _mask.Take((long)_texts * source).Address, (long)_texts * source * sizeof(int));
        _source = source;
    }

    // Blocks of [oldLength, width] into blocks of [newLength, width], cut at the end.
    private static void Lay(nint from, nint to, int blocks, int oldLength, int newLength, int width)
    {
        long oldBytes = (long)oldLength * width * sizeof(float), newBytes = (long)newLength * width * sizeof(float);
        for (int b = 0; b < blocks; b++)
            Copy(from + (nint)(b * oldBytes), to + (nint)(b * newBytes), newBytes);
    }

    // Positions before the padding of each text.
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
