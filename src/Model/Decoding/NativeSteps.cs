// A decoder's step in our own kernels: one more token for each of any rows, whose keys and values lie in blocks of their own. Deliberately not: which rows there are
// (SlotDecoder), choosing tokens, the encoder.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Blocks;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Model.Decoding;

/// <summary>A text that rows go on from: keys and values of cross-attention.</summary>
internal sealed class SlotText(KeyValueBlock block, int length)
{
    public KeyValueBlock Block => block;

    /// <summary>Positions of the source.</summary>
    public int Length => length;

    /// <summary>Rows that go on from it.</summary>
    public int Rows { get; set; }
}

/// <summary>A text in the making: keys and values of self-attention.</summary>
internal sealed class SlotRow(SlotText text, KeyValueBlock block)
{
    public SlotText Text => text;

    public KeyValueBlock Block { get; set; } = block;

    /// <summary>Tokens fed.</summary>
    public int Length { get; set; }
}

/// <summary>The decoder's weights, its steps, and the memory that texts borrow. One for a model; several decoders may take turns with it.</summary>
/// <remarks>
/// Rows are of any length: a row's self-attention reads its own block, its cross-attention its text's, and every other operation is row by row. Nothing is padded
/// and nothing masked. Each op sums a row in an order that the number of rows does not change, so a text's numbers are the same bits whoever stands beside it.
/// Memory is taken for the largest batch seen; a step of a size seen before takes none.
/// </remarks>
internal sealed unsafe class NativeSteps : IDisposable
{
    // Below this the decoder's float32 matrices are packed once: a copy of a small model costs little.
    public const long MostPackedBytes = 128L << 20;

    // Self-attention's bias table doubles from here; at least a vector.
    private const int FirstBiasLength = 64;

    private readonly record struct Attention(Tensor Norm, StepWeight Q, StepWeight K, StepWeight V, StepWeight O);

    private readonly record struct FeedForward(Tensor Norm, StepWeight Gate, StepWeight? Up, StepWeight Down);

    private readonly T5Layers _layers;
    private readonly Attention[] _self;
    private readonly Attention[] _cross;
    private readonly FeedForward[] _ff;
    private readonly List<StepWeight> _matrices = [];
    private readonly StepWeight _lmHead;
    private readonly Tensor _shared;
    private readonly StagedBuffer _ids;
    private readonly CachedRows _kept;
    private int _biasLength = FirstBiasLength;

    /// <summary>Finds the weights.</summary>
    /// <param name="layers">The model's; may be training's, too.</param>
    /// <param name="compute">What products multiply.</param>
    /// <param name="shared">Holds packed copies for several; null: copies of its own.</param>
    public NativeSteps(T5Layers layers, ComputeType compute, PackedWeights? shared = null)
    {
        _layers = layers;
        T5Config config = Config;
        // Streamed weights are there to save memory.
        bool pack = layers.Device is CpuDevice && layers.Stream is null && IsPacked(config);
        _self = [.. Enumerable.Range(0, config.NumDecoderLayers).Select(i => Find($"decoder.block.{i}.layer.0", "SelfAttention"))];
        _cross = [.. Enumerable.Range(0, config.NumDecoderLayers).Select(i => Find($"decoder.block.{i}.layer.1", "EncDecAttention"))];
        _ff = [.. Enumerable.Range(0, config.NumDecoderLayers).Select(i => FindFeedForward($"decoder.block.{i}.layer.2"))];
        _lmHead = Add(layers.LmHead, config.DModel, config.VocabSize);
        _shared = layers.Weights.Matrix(T5Parameters.Shared);
        Memory = new KeyValueMemory(Device, config.NumDecoderLayers, config.InnerDim);
        _kept = new CachedRows(Device, config.InnerDim);
        _ids = new StagedBuffer(Device, DType.I32, "decoder input ids");

        Attention Find(string path, string kind) => new(
            layers.Weights.Vector($"{path}.layer_norm.weight"), Matrix($"{path}.{kind}.q.weight", config.DModel, config.InnerDim), Matrix($"{path}.{kind}.k.weight", config.DModel, config.InnerDim),
            Matrix($"{path}.{kind}.v.weight", config.DModel, config.InnerDim), Matrix($"{path}.{kind}.o.weight", config.InnerDim, config.DModel));

        FeedForward FindFeedForward(string path) => new(
            layers.Weights.Vector($"{path}.layer_norm.weight"), Matrix($"{path}.DenseReluDense.{(config.IsGated ? "wi_0" : "wi")}.weight", config.DModel, config.DFf),
            config.IsGated ? Matrix($"{path}.DenseReluDense.wi_1.weight", config.DModel, config.DFf) : null, Matrix($"{path}.DenseReluDense.wo.weight", config.DFf, config.DModel));

        StepWeight Matrix(string name, int inner, int outer) => Add(layers.Weights.Matrix(name), inner, outer);

        StepWeight Add(Tensor stored, int inner, int outer)
        {
            var matrix = new StepWeight(Device, stored, inner, outer, compute, pack, shared);
            _matrices.Add(matrix);
            return matrix;
        }
    }

    public T5Config Config => _layers.Config;

    public ComputeDevice Device => _layers.Device;

    /// <summary>Where rows and texts borrow their blocks.</summary>
    public KeyValueMemory Memory { get; }

    /// <summary>Whether the decoder is small enough to be packed.</summary>
    public static bool IsPacked(T5Config config) => PackedBytes(config) <= MostPackedBytes;

    /// <summary>Bytes of the decoder's matrices packed.</summary>
    public static long PackedBytes(T5Config config)
    {
        long perLayer = 8 * PackedMatrix.Elements(config.InnerDim, config.DModel) + (config.IsGated ? 3 : 2) * PackedMatrix.Elements(config.DFf, config.DModel);
        return sizeof(float) * (config.NumDecoderLayers * perLayer + PackedMatrix.Elements(config.VocabSize, config.DModel));
    }

    /// <summary>Fills the blocks of texts that join with cross-attention's keys and values.</summary>
    /// <param name="hidden">f32 [R, D], the encoder's output, packed.</param>
    /// <param name="sources">Where its texts lie.</param>
    /// <param name="texts">One for each of them.</param>
    public void Remember(Tensor hidden, RaggedRows sources, ReadOnlySpan<SlotText> texts)
    {
        _layers.Weights.RequireUnchanged();
        int inner = Config.InnerDim;
        Tensor k = _layers.Scratch.Take(BlockScratch.Slot.Key, (long)sources.Rows * inner), v = _layers.Scratch.Take(BlockScratch.Slot.Value, (long)sources.Rows * inner);
        _kept.Clear();
        for (int layer = 0; layer < _cross.Length; layer++)
        {
            for (int b = 0; b < texts.Length; b++)
                _kept.Add(texts[b].Block.Of(layer, sources.Length(b)), 0, sources.Offset(b));
        }
        _kept.Send();
        for (int layer = 0; layer < _cross.Length; layer++)
        {
            Enter(layer);
            StepWeight.Whole(hidden, sources.Rows, (_cross[layer].K, k), (_cross[layer].V, v));
            KeyValueStore.Append(Device, k, v, _kept, layer * texts.Length, texts.Length, inner);
        }
    }

    /// <summary>Feeds one token a row.</summary>
    /// <param name="rows">The rows, each with room for one more position in its block.</param>
    /// <param name="tokens">One for each.</param>
    /// <param name="logits">f32 [rows, V], overwritten.</param>
    /// <exception cref="IOException">The file with the weights was changed.</exception>
    public void Step(ReadOnlySpan<SlotRow> rows, ReadOnlySpan<int> tokens, Tensor logits)
    {
        _layers.Weights.RequireUnchanged();
        int R = rows.Length, d = Config.DModel, inner = Config.InnerDim, H = Config.NumHeads, K = Config.DKv;
        int longest = 0, scoreWidth = CachedAttention.Granule;
        foreach (SlotRow row in rows)
        {
            longest = Math.Max(longest, row.Length + 1);
            scoreWidth = Math.Max(scoreWidth, Math.Max(row.Block.Capacity, row.Text.Block.Capacity));
        }
        while (_biasLength < longest)
            _biasLength = checked(_biasLength * 2);
        DistanceBias bias = _layers.DecoderBias.ByDistance(_biasLength);
        Lay(rows);

        BlockScratch scratch = _layers.Scratch;
        tokens.CopyTo(new Span<int>((void*)_ids.Take(R), R));
        Tensor ids = _ids.Send(), x = scratch.Take(BlockScratch.Slot.Sublayer0, (long)R * d), n = scratch.Take(BlockScratch.Slot.Norm, (long)R * d);
        Tensor gate = scratch.Take(BlockScratch.Slot.Gate, (long)R * Config.DFf), up = Config.IsGated ? scratch.Take(BlockScratch.Slot.Up, (long)R * Config.DFf) : default;
        Tensor q = scratch.Take(BlockScratch.Slot.Query, (long)R * inner), k = scratch.Take(BlockScratch.Slot.Key, (long)R * inner), v = scratch.Take(BlockScratch.Slot.Value, (long)R * inner);
        Tensor scores = scratch.Take(BlockScratch.Slot.Scores, (long)R * H * scoreWidth);
        EmbeddingGather.Forward(Device, _shared, ids, x, R, Config.VocabSize, d);
        _layers.Stream?.LeaveEmbeddings();
        for (int layer = 0; layer < _self.Length; layer++)
        {
            Enter(layer);
            Attention self = _self[layer], cross = _cross[layer];
            RmsNorm.Forward(Device, x, self.Norm, default, n, R, d, Config.LayerNormEpsilon);
            StepWeight.All(n, R, (self.Q, q), (self.K, k), (self.V, v));
            int own = 2 * layer * R, texts = own + R;
            KeyValueStore.Append(Device, k, v, _kept, own, R, inner);
            CachedAttention.Forward(Device, q, _kept, own, R, bias, scores, q, H, K);
            self.O.Step(q, x, R, accumulate: true);

            RmsNorm.Forward(Device, x, cross.Norm, default, n, R, d, Config.LayerNormEpsilon);
            cross.Q.Step(n, q, R);
            CachedAttention.Forward(Device, q, _kept, texts, R, default, scores, q, H, K);
            cross.O.Step(q, x, R, accumulate: true);

            FeedForward ff = _ff[layer];
            RmsNorm.Forward(Device, x, ff.Norm, default, n, R, d, Config.LayerNormEpsilon);
            StepWeight.All(n, R, (ff.Gate, gate), (ff.Up, up));
            T5LayerFF.Activate(Device, Config, gate, up, gate);
            ff.Down.Step(gate, x, R, accumulate: true);
        }
        int blocks = _layers.Encoder.Length + _layers.Decoder.Length;
        _layers.Enter(blocks, _layers.Encoder.Length); // the next token begins at the decoder's first block
        RmsNorm.Forward(Device, x, _layers.DecoderNorm, default, n, R, d, Config.LayerNormEpsilon);
        _lmHead.Step(n, logits, R, alpha: _layers.LmScale);
        foreach (SlotRow row in rows)
            row.Length++;
    }

    /// <summary>A block of at least so many positions that begins as a row's does.</summary>
    public KeyValueBlock Copied(SlotRow row, int positions)
    {
        KeyValueBlock from = row.Block, to = Memory.Rent(positions);
        if (row.Length > 0)
            KeyValueStore.Copy(Device, from.Buffer.Tensor, from.Capacity, to.Buffer.Tensor, to.Capacity, _self.Length, Config.InnerDim, row.Length);
        return to;
    }

    public void Dispose()
    {
        Memory.Dispose();
        _kept.Dispose();
        _ids.Dispose();
        foreach (StepWeight matrix in _matrices)
            matrix.Dispose();
    }

    private void Enter(int block) => _layers.Enter(_layers.Encoder.Length + block, _layers.Encoder.Length + block + 1);

    // Where every layer's attentions read, told to the device at once: self-attention's rows with the position that is made now, then their texts.
    private void Lay(ReadOnlySpan<SlotRow> rows)
    {
        _kept.Clear();
        for (int layer = 0; layer < _self.Length; layer++)
        {
            for (int r = 0; r < rows.Length; r++)
                _kept.Add(rows[r].Block.Of(layer, rows[r].Length + 1), rows[r].Length, r);
            foreach (SlotRow row in rows)
                _kept.Add(row.Text.Block.Of(layer, row.Text.Length), row.Text.Length, 0);
        }
        _kept.Send();
    }
}
