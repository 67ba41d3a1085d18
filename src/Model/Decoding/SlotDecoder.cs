// The decoder of continuous batching, in our own kernels: every text has its keys and values in a slot of its own, so texts come and go without a copy
// of anything that is another's. Deliberately not: choosing tokens (ContinuousGeneration), beams, ONNX Runtime.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Blocks;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Model.Decoding;

/// <summary>Encodes texts that join, and gives every text that is there one more token.</summary>
/// <remarks>
/// Rows are of any length and begin at any step: a row's self-attention reads its own slot, its cross-attention its text's, and every other operation is
/// row by row. Nothing is padded and nothing masked. Each op sums a row in an order that the number of rows does not change, so a text's numbers are the
/// same bits whoever stands beside it. Memory is taken for the largest batch seen; a step of a size seen before takes none.
/// </remarks>
internal sealed unsafe class SlotDecoder : IStepDecoder
{
    // Below this the decoder's matrices are packed once: a copy of a small model costs little, and packing them at every step as much as multiplying.
    private const long MostPackedBytes = 128L << 20;

    // Self-attention's bias table doubles from here; at least a vector.
    private const int FirstBiasLength = 64;

    private sealed class Text(KeyValueBlock block, int length)
    {
        public KeyValueBlock Block => block;

        public int Length => length;

        public int Rows { get; set; } = 1;
    }

    private sealed class Row(Text text, KeyValueBlock block)
    {
        public Text Text => text;

        public KeyValueBlock Block { get; set; } = block;

        public int Length { get; set; }
    }

    private readonly record struct Attention(Tensor Norm, StepWeight Q, StepWeight K, StepWeight V, StepWeight O);

    private readonly record struct FeedForward(Tensor Norm, StepWeight Gate, StepWeight? Up, StepWeight Down);

    private readonly BlockWeights _weights;
    private readonly T5Layers _layers;
    private readonly PackedInputs _inputs;
    private readonly Attention[] _self;
    private readonly Attention[] _cross;
    private readonly FeedForward[] _ff;
    private readonly List<StepWeight> _matrices = [];
    private readonly Tensor _shared;
    private readonly StepWeight _lmHead;
    private readonly float _headScale;
    private readonly KeyValueMemory _memory;
    private readonly GrowingBuffer _ids;
    private readonly GrowingBuffer _x;
    private readonly GrowingBuffer _y;
    private readonly GrowingBuffer _n;
    private readonly GrowingBuffer _q;
    private readonly GrowingBuffer _k;
    private readonly GrowingBuffer _v;
    private readonly GrowingBuffer _scores;
    private readonly GrowingBuffer _gate;
    private readonly GrowingBuffer _up;
    private readonly GrowingBuffer _logits;
    private List<Row> _rows = [];
    private List<Row> _spare = [];
    private CachedKeys[] _kept = [];
    private int _biasLength = FirstBiasLength;

    /// <summary>Finds the weights.</summary>
    /// <param name="checkpoint">Outlives this object.</param>
    /// <param name="device">Does the work; outlives this object.</param>
    /// <exception cref="ArgumentException">The configuration's position buckets are impossible.</exception>
    /// <exception cref="InvalidDataException">A weight cannot be read.</exception>
    public SlotDecoder(Checkpoint checkpoint, CpuDevice device)
    {
        T5Config config = checkpoint.Config;
        _weights = new BlockWeights(device, checkpoint);
        _layers = new T5Layers(_weights);
        _inputs = new PackedInputs(device, config);
        bool pack = CopyBytes(config) > 0;
        _self = [.. Enumerable.Range(0, config.NumDecoderLayers).Select(i => Find($"decoder.block.{i}.layer.0", "SelfAttention"))];
        _cross = [.. Enumerable.Range(0, config.NumDecoderLayers).Select(i => Find($"decoder.block.{i}.layer.1", "EncDecAttention"))];
        _ff = [.. Enumerable.Range(0, config.NumDecoderLayers).Select(i => FindFeedForward($"decoder.block.{i}.layer.2"))];
        _shared = _weights.Matrix(T5Parameters.Shared);
        _lmHead = Matrix(config.TieWordEmbeddings ? T5Parameters.Shared : T5Parameters.LmHead, config.DModel, config.VocabSize);
        _headScale = config.TieWordEmbeddings ? 1 / MathF.Sqrt(config.DModel) : 1;
        _memory = new KeyValueMemory(device, config.NumDecoderLayers, config.InnerDim);
        _ids = new GrowingBuffer(device, DType.I32, "decoder input ids");
        _x = Floats("decoder's residual stream");
        _y = Floats("decoder's residual stream");
        _n = Floats("decoder's norms");
        _q = Floats("queries");
        _k = Floats("keys");
        _v = Floats("values");
        _scores = Floats("attention scores");
        _gate = Floats("feed-forward");
        _up = Floats("feed-forward");
        _logits = Floats("logits");
        _layers.DecoderBias.ByDistance(_biasLength);

        Attention Find(string path, string kind) => new(
            _weights.Vector($"{path}.layer_norm.weight"), Matrix($"{path}.{kind}.q.weight", config.DModel, config.InnerDim), Matrix($"{path}.{kind}.k.weight", config.DModel, config.InnerDim),
            Matrix($"{path}.{kind}.v.weight", config.DModel, config.InnerDim), Matrix($"{path}.{kind}.o.weight", config.InnerDim, config.DModel));

        FeedForward FindFeedForward(string path) => new(
            _weights.Vector($"{path}.layer_norm.weight"), Matrix($"{path}.DenseReluDense.{(config.IsGated ? "wi_0" : "wi")}.weight", config.DModel, config.DFf),
            config.IsGated ? Matrix($"{path}.DenseReluDense.wi_1.weight", config.DModel, config.DFf) : null, Matrix($"{path}.DenseReluDense.wo.weight", config.DFf, config.DModel));

        StepWeight Matrix(string name, int inner, int outer)
        {
            var matrix = StepWeight.Make(device, _weights.Matrix(name), inner, outer, pack);
            _matrices.Add(matrix);
            return matrix;
        }

        GrowingBuffer Floats(string purpose) => new(device, DType.F32, purpose);
    }

    public T5Config Config => _weights.Config;

    public int VocabSize => Config.VocabSize;

    public int Rows => _rows.Count;

    private CpuDevice Device => (CpuDevice)_weights.Device; // made with one

    /// <summary>Encodes a batch and adds a row for each of its examples, behind the rows that are there.</summary>
    /// <param name="batch">The examples.</param>
    /// <param name="prompts">What their prompt numbers mean; not needed any more after this call.</param>
    /// <exception cref="ArgumentException">The batch does not fit the model; nothing has joined.</exception>
    /// <exception cref="InsufficientMemoryException">The machine has no room; nothing has joined.</exception>
    public void Join(T5Batch batch, PromptTable? prompts)
    {
        _inputs.SetSources(batch, prompts);
        RaggedRows sources = _inputs.Sources;
        int d = Config.DModel, inner = Config.InnerDim;
        Tensor x = _x.Take((long)sources.Rows * d), y = _y.Take((long)sources.Rows * d);
        EmbeddingGather.Forward(Device, _shared, _inputs.Ids, x, sources.Rows, VocabSize, d);
        if (prompts is { Rows: > 0 })
            PromptGather.ForwardPacked(Device, prompts.Values, _inputs.Places, x, prompts.Rows, _inputs.PlaceCount, sources.Rows, d);
        foreach ((T5LayerAttention self, T5LayerFF ff) in _layers.Encoder)
        {
            self.Forward(x, sources, default, sources, _layers.EncoderBias, y);
            ff.Forward(y, x, sources.Rows);
        }
        RmsNorm.Forward(Device, x, _layers.EncoderNorm, default, y, sources.Rows, d, Config.LayerNormEpsilon);

        var joined = new List<Row>(sources.Examples);
        try
        {
            for (int b = 0; b < sources.Examples; b++)
            {
                KeyValueBlock cross = _memory.Rent(sources.Length(b));
                var text = new Text(cross, sources.Length(b));
                try
                {
                    joined.Add(new Row(text, _memory.Rent(1)));
                }
                catch (InsufficientMemoryException)
                {
                    _memory.Return(cross);
                    throw;
                }
            }
            Tensor k = _k.Take((long)sources.Rows * inner), v = _v.Take((long)sources.Rows * inner);
            for (int layer = 0; layer < _cross.Length; layer++)
            {
                _cross[layer].K.Multiply(Device, y, k, sources.Rows);
                _cross[layer].V.Multiply(Device, y, v, sources.Rows);
                for (int b = 0; b < joined.Count; b++)
                {
                    KeyValueBlock block = joined[b].Text.Block;
                    long first = (long)sources.Offset(b) * inner;
                    for (int i = 0; i < sources.Length(b); i++)
                        Keep(block, layer, i, (float*)k.Address + first + (long)i * inner, (float*)v.Address + first + (long)i * inner);
                }
            }
        }
        catch
        {
            foreach (Row row in joined)
                Free(row);
            throw;
        }
        _rows.AddRange(joined);
    }

    public ReadOnlySpan<float> DecodeNext(ReadOnlySpan<int> tokens)
    {
        int R = _rows.Count, d = Config.DModel, inner = Config.InnerDim, H = Config.NumHeads, K = Config.DKv;
        if (tokens.Length != R || R == 0)
            throw new ArgumentException($"decoding a step: found {tokens.Length} tokens, expected one for each of {R} rows, and a row at least.", nameof(tokens));
        int longest = 0, scoreWidth = CachedAttention.Granule;
        foreach (Row row in _rows)
        {
            if (row.Length == row.Block.Capacity)
                Widen(row);
            longest = Math.Max(longest, row.Length + 1);
            scoreWidth = Math.Max(scoreWidth, Math.Max(row.Block.Capacity, row.Text.Block.Capacity));
        }
        while (_biasLength < longest)
            _biasLength = checked(_biasLength * 2);
        DistanceBias bias = _layers.DecoderBias.ByDistance(_biasLength);
        if (_kept.Length < R)
            _kept = new CachedKeys[Math.Max(R, 2 * _kept.Length)];
        Span<CachedKeys> kept = _kept.AsSpan(0, R);

        Tensor ids = _ids.Take(R), x = _x.Take((long)R * d), n = _n.Take((long)R * d), gate = _gate.Take((long)R * Config.DFf), up = _up.Take((long)R * Config.DFf);
        Tensor q = _q.Take((long)R * inner), k = _k.Take((long)R * inner), v = _v.Take((long)R * inner), scores = _scores.Take((long)R * H * scoreWidth);
        tokens.CopyTo(new Span<int>((void*)ids.Address, R));
        EmbeddingGather.Forward(Device, _shared, ids, x, R, VocabSize, d);
        for (int layer = 0; layer < _self.Length; layer++)
        {
            Attention self = _self[layer], cross = _cross[layer];
            RmsNorm.Forward(Device, x, self.Norm, default, n, R, d, Config.LayerNormEpsilon);
            self.Q.Multiply(Device, n, q, R);
            self.K.Multiply(Device, n, k, R);
            self.V.Multiply(Device, n, v, R);
            for (int r = 0; r < R; r++)
            {
                Row row = _rows[r];
                Keep(row.Block, layer, row.Length, (float*)k.Address + (long)r * inner, (float*)v.Address + (long)r * inner);
                kept[r] = row.Block.Of(layer, row.Length + 1);
            }
            CachedAttention.Forward(Device, q, kept, bias, scores, q, H, K);
            self.O.Multiply(Device, q, x, R, accumulate: true);

            RmsNorm.Forward(Device, x, cross.Norm, default, n, R, d, Config.LayerNormEpsilon);
            cross.Q.Multiply(Device, n, q, R);
            for (int r = 0; r < R; r++)
                kept[r] = _rows[r].Text.Block.Of(layer, _rows[r].Text.Length);
            CachedAttention.Forward(Device, q, kept, default, scores, q, H, K);
            cross.O.Multiply(Device, q, x, R, accumulate: true);

            FeedForward ff = _ff[layer];
            RmsNorm.Forward(Device, x, ff.Norm, default, n, R, d, Config.LayerNormEpsilon);
            ff.Gate.Multiply(Device, n, gate, R);
            ff.Up?.Multiply(Device, n, up, R);
            T5LayerFF.Activate(Device, Config, gate, up, gate);
            ff.Down.Multiply(Device, gate, x, R, accumulate: true);
        }
        RmsNorm.Forward(Device, x, _layers.DecoderNorm, default, n, R, d, Config.LayerNormEpsilon);
        Tensor logits = _logits.Take((long)R * VocabSize);
        _lmHead.Multiply(Device, n, logits, R, alpha: _headScale);
        foreach (Row row in _rows)
            row.Length++;
        return new ReadOnlySpan<float>((void*)logits.Address, checked(R * VocabSize));
    }

    /// <inheritdoc/>
    /// <remarks>A row that stays is not touched; one that is taken twice copies its own few positions; one that is left out gives its slot back.</remarks>
    public void Reorder(ReadOnlySpan<int> sources)
    {
        _spare.Clear();
        Span<bool> taken = _rows.Count <= 256 ? stackalloc bool[_rows.Count] : new bool[_rows.Count];
        foreach (int source in sources)
        {
            if ((uint)source >= (uint)_rows.Count)
                throw new ArgumentException($"reordering the rows: a row goes on from row {source}, expected 0 to {_rows.Count - 1}.", nameof(sources));
            _spare.Add(taken[source] ? Twin(_rows[source]) : _rows[source]);
            taken[source] = true;
        }
        for (int r = 0; r < _rows.Count; r++)
        {
            if (!taken[r])
                Free(_rows[r]);
        }
        (_rows, _spare) = (_spare, _rows);
        _spare.Clear();
    }

    /// <summary>Takes every row out.</summary>
    public void Clear() => Reorder([]);

    public void Dispose()
    {
        Clear();
        _memory.Dispose();
        foreach (GrowingBuffer buffer in (ReadOnlySpan<GrowingBuffer>)[_ids, _x, _y, _n, _q, _k, _v, _scores, _gate, _up, _logits])
            buffer.Dispose();
        foreach (StepWeight matrix in _matrices)
            matrix.Dispose();
        _inputs.Dispose();
        _layers.Dispose();
        _weights.Dispose();
    }

    /// <summary>Bytes of the packed copy; 0 where it would be too large, and the matrices are read as stored.</summary>
    public static long CopyBytes(T5Config config)
    {
        long perLayer = 8 * PackedMatrix.Elements(config.InnerDim, config.DModel) + (config.IsGated ? 3 : 2) * PackedMatrix.Elements(config.DFf, config.DModel);
        long bytes = sizeof(float) * (config.NumDecoderLayers * perLayer + PackedMatrix.Elements(config.VocabSize, config.DModel));
        return bytes <= MostPackedBytes ? bytes : 0;
    }

    // Keys lie transposed: a position is a column.
    private void Keep(KeyValueBlock block, int layer, int position, float* key, float* value)
    {
        int inner = Config.InnerDim;
        float* keys = (float*)block.Keys(layer).Address + position;
        for (int i = 0; i < inner; i++)
            keys[(long)i * block.Capacity] = key[i];
        new ReadOnlySpan<float>(value, inner).CopyTo(new Span<float>((float*)block.Values(layer).Address + (long)position * inner, inner));
    }

    private void Widen(Row row)
    {
        KeyValueBlock old = row.Block;
        row.Block = Copied(old, row.Length, _memory.Rent(row.Length + 1));
        _memory.Return(old);
    }

    private Row Twin(Row row)
    {
        KeyValueBlock block = Copied(row.Block, row.Length, _memory.Rent(row.Block.Capacity));
        row.Text.Rows++;
        return new Row(row.Text, block) { Length = row.Length };
    }

    private KeyValueBlock Copied(KeyValueBlock from, int length, KeyValueBlock to)
    {
        int inner = Config.InnerDim;
        for (int layer = 0; layer < _self.Length; layer++)
        {
            float* keys = (float*)from.Keys(layer).Address, target = (float*)to.Keys(layer).Address;
            for (int i = 0; i < inner; i++)
                new ReadOnlySpan<float>(keys + (long)i * from.Capacity, length).CopyTo(new Span<float>(target + (long)i * to.Capacity, length));
            new ReadOnlySpan<float>((void*)from.Values(layer).Address, length * inner).CopyTo(new Span<float>((void*)to.Values(layer).Address, length * inner));
        }
        return to;
    }

    private void Free(Row row)
    {
        _memory.Return(row.Block);
        if (--row.Text.Rows == 0)
            _memory.Return(row.Text.Block);
    }
}
