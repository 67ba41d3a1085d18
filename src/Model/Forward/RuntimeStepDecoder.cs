// One token per row and step in ONNX Runtime, with the keys and values of earlier steps kept. Deliberately not: choosing the token (Decoding/).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Decoding;
using IptNative.Model.Onnx.Graph;

namespace IptNative.Model.Forward;

/// <summary>The decoder with a key/value cache, by the graphs "cross" and "step".</summary>
/// <remarks>
/// Self attention: two buffers per layer and kind, read from one and written to the other in turn. Cross attention: one copy per text; the rows of a
/// text (beams) are queries side by side. Where a reordering leaves the rows uneven, each row gets a copy of its own.
/// </remarks>
internal sealed unsafe partial class RuntimeStepDecoder : IStepDecoder
{
    // Steps that the cache has room for at first; it doubles from there.
    private const int FirstCapacity = 16;

    private readonly FrozenT5 _model;
    private readonly GraphBinding _step;
    private readonly GrowingBuffer[] _cross;
    private readonly GrowingBuffer[] _crossSpare;
    private readonly GrowingBuffer[] _past;
    private readonly GrowingBuffer[] _present;
    private readonly GrowingBuffer _mask;
    private readonly GrowingBuffer _maskSpare;
    private readonly GrowingBuffer _ids;
    private readonly GrowingBuffer _embeds;
    private readonly GrowingBuffer _logits;
    private readonly GrowingBuffer _bias;
    private readonly GrowingBuffer _biasByDistance;
    private int _source;
    private int[] _textOfRow;
    private int[] _sourceOfText;
    private int _texts;
    private int _length;
    private int _biasCapacity;
    private bool _disposed;

    public RuntimeStepDecoder(FrozenT5 model, EncodedBatch encoded, int beams)
    {
        _model = model;
        _source = encoded.SourceLength;
        _texts = encoded.Batch;
        Rows = checked(_texts * beams);
        _textOfRow = new int[Rows];
        for (int r = 0; r < Rows; r++)
            _textOfRow[r] = r / beams;
        _sourceOfText = SourceLengths(encoded.Mask, encoded.Batch, encoded.SourceLength);

        CpuDevice device = model.Host;
        int kinds = 2 * model.Config.NumDecoderLayers;
        _cross = Buffers("cross attention keys and values");
        _crossSpare = Buffers("cross attention keys and values");
        _past = Buffers("self attention cache");
        _present = Buffers("self attention cache");
        _mask = new GrowingBuffer(device, DType.I32, "attention mask");
        _maskSpare = new GrowingBuffer(device, DType.I32, "attention mask");
        _ids = new GrowingBuffer(device, DType.I32, "decoder input ids");
        _embeds = new GrowingBuffer(device, DType.F32, "decoder input embeddings");
        _logits = new GrowingBuffer(device, DType.F32, "logits");
        _bias = new GrowingBuffer(device, DType.F32, "decoder position bias");
        _biasByDistance = new GrowingBuffer(device, DType.F32, "decoder position bias");

        Copy(encoded.Mask.Address, _mask.Take((long)_texts * _source).Address, (long)_texts * _source * sizeof(int));
        using (GraphBinding cross = model.Session("cross").Bind())
        {
            cross.Input(T5RuntimeGraph.EncoderHidden, encoded.Hidden, _texts, _source, model.Config.DModel);
            for (int i = 0; i < kinds; i++)
                cross.Output(CrossName(i), _cross[i].Take(_texts * CrossRow), _texts, model.Config.NumHeads, _source, model.Config.DKv);
            cross.Run();
        }
        _step = model.Session("step").Bind();

        GrowingBuffer[] Buffers(string purpose)
        {
            var buffers = new GrowingBuffer[kinds];
            for (int i = 0; i < kinds; i++)
                buffers[i] = new GrowingBuffer(device, DType.F32, purpose);
            return buffers;
        }
    }

    public int VocabSize => _model.Config.VocabSize;

    public int Rows { get; private set; }

    // Floats of one text's keys (or values) in one layer.
    private long CrossRow => (long)_model.Config.InnerDim * _source;

    public ReadOnlySpan<float> DecodeNext(ReadOnlySpan<int> tokens)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        StepChecks.Tokens(tokens, Rows, VocabSize);
        _model.RequireUnchangedWeights();
        int H = _model.Config.NumHeads, K = _model.Config.DKv, D = _model.Config.DModel;
        int beams = Rows / _texts;
        Tensor ids = _ids.Take(Rows);
        tokens.CopyTo(new Span<int>((void*)ids.Address, Rows));
        Tensor embeds = _embeds.Take((long)Rows * D);
        EmbeddingGather.Forward(_model.Host, _model.Shared, ids, embeds, Rows, VocabSize, D);

        _step.Input(T5RuntimeGraph.InputsEmbeds, embeds, _texts, beams, D);
        _step.Input(T5RuntimeGraph.KeyMask, _mask.Take((long)_texts * _source), _texts, _source);
        _step.Input(T5RuntimeGraph.PositionBias, Bias(), 1, H, 1, _length + 1);
        long capacity = FirstCapacity;
        while (capacity < _length + 1)
            capacity *= 2;
        for (int i = 0; i < _past.Length; i++)
        {
            // Room for the capacity is taken, so that a buffer moves only when the cache doubles. A past of no steps still needs an address.
            _step.Input(PastName(i), _past[i].Take(_length == 0 ? 1 : (long)Rows * H * _length * K), Rows, H, _length, K);
            _step.Input(CrossName(i), _cross[i].Take(_texts * CrossRow), _texts, H, _source, K);
            _present[i].Take(Rows * H * capacity * K);
            _step.Output(PresentName(i), _present[i].Take((long)Rows * H * (_length + 1) * K), Rows, H, _length + 1, K);
        }
        Tensor logits = _logits.Take((long)Rows * VocabSize);
        _step.Output(T5RuntimeGraph.Logits, logits, _texts, beams, VocabSize);
        _step.Run();

        for (int i = 0; i < _past.Length; i++)
            (_past[i], _present[i]) = (_present[i], _past[i]);
        _length++;
        return new ReadOnlySpan<float>((void*)logits.Address, checked(Rows * VocabSize));
    }

    public void Reorder(ReadOnlySpan<int> sources)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        StepChecks.Sources(sources, Rows);
        bool same = sources.Length == Rows;
        for (int r = 0; r < sources.Length; r++)
            same &= sources[r] == r;
        if (same)
            return;

        long row = (long)_model.Config.InnerDim * _length;
        for (int i = 0; i < _past.Length && _length > 0; i++)
            GatherRows(ref _past[i], ref _present[i], sources, row, Rows);
        int[] textOfRow = new int[sources.Length];
        for (int r = 0; r < textOfRow.Length; r++)
            textOfRow[r] = _textOfRow[sources[r]];
        Rows = textOfRow.Length;
        GatherTexts(textOfRow);
        Trim();
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _step.Dispose();
        foreach (GrowingBuffer buffer in (IEnumerable<GrowingBuffer>)[.. _cross, .. _crossSpare, .. _past, .. _present, _mask, _maskSpare, _ids, _embeds, _logits, _bias, _biasByDistance])
            buffer.Dispose();
    }

    // The rows of a text must lie side by side, equally many of each: then texts are gathered; else every row becomes a text of its own.
    private void GatherTexts(int[] textOfRow)
    {
        var texts = new List<int>();
        foreach (int text in textOfRow)
        {
            if (texts.Count == 0 || texts[^1] != text)
                texts.Add(text);
        }
        int beams = textOfRow.Length / texts.Count;
        bool even = texts.Count * beams == textOfRow.Length;
        for (int r = 0; even && r < textOfRow.Length; r++)
            even = texts[r / beams] == textOfRow[r];
        int[] gather = even ? [.. texts] : [.. textOfRow];
        for (int r = 0; r < textOfRow.Length; r++)
            textOfRow[r] = even ? r / beams : r;
        _textOfRow = textOfRow;

        bool same = gather.Length == _texts;
        for (int t = 0; same && t < gather.Length; t++)
            same = gather[t] == t;
        if (same)
            return;
        for (int i = 0; i < _cross.Length; i++)
            GatherRows(ref _cross[i], ref _crossSpare[i], gather, CrossRow, _texts);
        Tensor old = _mask.Take((long)_texts * _source);
        Tensor gathered = _maskSpare.Take((long)gather.Length * _source);
        for (int t = 0; t < gather.Length; t++)
            Copy(old.Address + (nint)((long)gather[t] * _source * sizeof(int)), gathered.Address + (nint)((long)t * _source * sizeof(int)), (long)_source * sizeof(int));
        Copy(gathered.Address, _mask.Take((long)gather.Length * _source).Address, (long)gather.Length * _source * sizeof(int));
        _sourceOfText = Array.ConvertAll(gather, t => _sourceOfText[t]);
        _texts = gather.Length;
    }

    private static void GatherRows(ref GrowingBuffer from, ref GrowingBuffer to, ReadOnlySpan<int> sources, long rowElements, int oldRows)
    {
        long bytes = rowElements * sizeof(float);
        nint source = from.Take(oldRows * rowElements).Address;
        nint target = to.Take(sources.Length * rowElements).Address;
        for (int r = 0; r < sources.Length; r++)
            Copy(source + (nint)(sources[r] * bytes), target + (nint)(r * bytes), bytes);
        (from, to) = (to, from);
    }

    // [H, 1, length + 1]: the last row of a causal bias, cut from the form by distance, which is made once per capacity.
    private Tensor Bias()
    {
        int H = _model.Config.NumHeads;
        if (_length >= _biasCapacity)
        {
            _biasCapacity = Math.Max(FirstCapacity, 2 * _biasCapacity);
            Tensor made = _biasByDistance.Take(H * (2L * _biasCapacity - 1));
            RelativePositionBias.ForwardByDistance(_model.Host, _model.BiasTable("decoder"), made, _model.Config.RelativeAttentionNumBuckets, H, _biasCapacity, _biasCapacity, bidirectional: false, _model.Config.RelativeAttentionMaxDistance);
        }
        int distances = 2 * _biasCapacity - 1;
        Tensor all = _biasByDistance.Take((long)H * distances);
        _bias.Take((long)H * _biasCapacity);
        Tensor bias = _bias.Take((long)H * (_length + 1));
        for (int h = 0; h < H; h++)
        {
            // Distance 0 stands at _biasCapacity - 1; key 0 is _length before it.
            var row = new ReadOnlySpan<float>((float*)all.Address + (long)h * distances + _biasCapacity - 1 - _length, _length + 1);
            row.CopyTo(new Span<float>((float*)bias.Address + (long)h * (_length + 1), _length + 1));
        }
        return bias;
    }

    private static string CrossName(int i) => i % 2 == 0 ? T5RuntimeGraph.CrossKey(i / 2) : T5RuntimeGraph.CrossValue(i / 2);

    private static string PastName(int i) => i % 2 == 0 ? T5RuntimeGraph.PastKey(i / 2) : T5RuntimeGraph.PastValue(i / 2);

    private static string PresentName(int i) => i % 2 == 0 ? T5RuntimeGraph.PresentKey(i / 2) : T5RuntimeGraph.PresentValue(i / 2);

    private static void Copy(nint source, nint target, long bytes) => Buffer.MemoryCopy((void*)source, (void*)target, bytes, bytes);
}
