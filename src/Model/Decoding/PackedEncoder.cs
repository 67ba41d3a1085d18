// The encoder of a small model for texts that join a batch: its matrices are packed once instead of at every product, and nothing is kept of its sublayers.
// Deliberately not: gradients and tapes (Backward/NativeForward, which other models' texts are encoded with), devices other than the CPU.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Blocks;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Model.Decoding;

/// <summary>Embeddings and encoder over packed rows; the same bits as <see cref="NativeForward"/>.</summary>
internal sealed class PackedEncoder : IDisposable
{
    private readonly record struct Block(Tensor Norm, StepWeight Q, StepWeight K, StepWeight V, StepWeight O, Tensor FfNorm, StepWeight Gate, StepWeight? Up, StepWeight Down);

    private readonly T5Layers _layers;
    private readonly Block[] _blocks;
    private readonly List<StepWeight> _matrices = [];
    private readonly Tensor _shared;
    private readonly GrowingBuffer _output;

    /// <summary>Packs the matrices.</summary>
    /// <param name="layers">The model's, on the CPU.</param>
    /// <param name="compute">What products multiply.</param>
    /// <param name="packed">Copies shared with others; null makes its own.</param>
    public PackedEncoder(T5Layers layers, ComputeType compute, PackedWeights? packed)
    {
        _layers = layers;
        _shared = layers.Weights.Matrix(T5Parameters.Shared);
        _output = new GrowingBuffer(layers.Device, DType.F32, "encoder output");
        T5Config config = layers.Config;
        _blocks = [.. Enumerable.Range(0, config.NumLayers).Select(i => Find($"encoder.block.{i}.layer"))];

        Block Find(string path) => new(
            layers.Weights.Vector($"{path}.0.layer_norm.weight"),
            Matrix($"{path}.0.SelfAttention.q.weight", config.DModel, config.InnerDim), Matrix($"{path}.0.SelfAttention.k.weight", config.DModel, config.InnerDim),
            Matrix($"{path}.0.SelfAttention.v.weight", config.DModel, config.InnerDim), Matrix($"{path}.0.SelfAttention.o.weight", config.InnerDim, config.DModel),
            layers.Weights.Vector($"{path}.1.layer_norm.weight"),
            Matrix($"{path}.1.DenseReluDense.{(config.IsGated ? "wi_0" : "wi")}.weight", config.DModel, config.DFf),
            config.IsGated ? Matrix($"{path}.1.DenseReluDense.wi_1.weight", config.DModel, config.DFf) : null,
            Matrix($"{path}.1.DenseReluDense.wo.weight", config.DFf, config.DModel));

        StepWeight Matrix(string name, int inner, int outer)
        {
            var matrix = new StepWeight(layers.Device, layers.Weights.Matrix(name), inner, outer, compute, pack: true, packed);
            _matrices.Add(matrix);
            return matrix;
        }
    }

    /// <summary>Whether packing pays: a small model, stored and multiplied in float32. What is stored narrower is widened by the product that reads it.</summary>
    public static bool Suits(T5Layers layers, ComputeType compute) =>
        layers.Device is CpuDevice && compute == ComputeType.F32 && NativeSteps.IsPacked(layers.Config) && PackedBytes(layers.Config) <= NativeSteps.MostPackedBytes
        && layers.Weights.Matrix("encoder.block.0.layer.0.SelfAttention.q.weight").DType == DType.F32;

    /// <summary>Bytes of the encoder's matrices packed.</summary>
    public static long PackedBytes(T5Config config) =>
        sizeof(float) * config.NumLayers * (4 * PackedMatrix.Elements(config.InnerDim, config.DModel) + (config.IsGated ? 3 : 2) * PackedMatrix.Elements(config.DFf, config.DModel));

    /// <summary>Encodes a batch.</summary>
    /// <param name="prompts">The table that the batch's places mean; null where there is none.</param>
    /// <param name="inputs">Its sources are set.</param>
    /// <returns>f32 [R, D], packed as the sources; valid until the next call.</returns>
    public Tensor Encode(PromptTable? prompts, PackedInputs inputs)
    {
        T5Config config = _layers.Config;
        RaggedRows sources = inputs.Sources;
        int R = sources.Rows, d = config.DModel, inner = config.InnerDim, f = config.DFf;
        ComputeDevice device = _layers.Device;
        BlockScratch scratch = _layers.Scratch;
        Tensor x = scratch.Take(BlockScratch.Slot.Sublayer0, (long)R * d), n = scratch.Take(BlockScratch.Slot.Norm, (long)R * d);
        Tensor q = scratch.Take(BlockScratch.Slot.Query, (long)R * inner), k = scratch.Take(BlockScratch.Slot.Key, (long)R * inner), v = scratch.Take(BlockScratch.Slot.Value, (long)R * inner);
        Tensor gate = scratch.Take(BlockScratch.Slot.Gate, (long)R * f), up = config.IsGated ? scratch.Take(BlockScratch.Slot.Up, (long)R * f) : default;
        EmbeddingGather.Forward(device, _shared, inputs.Ids, x, R, config.VocabSize, d);
        if (prompts is { Rows: > 0 })
            PromptGather.ForwardPacked(device, prompts.Values, inputs.Places, x, prompts.Rows, inputs.PlaceCount, R, d);
        DistanceBias bias = _layers.EncoderBias.ByDistance(sources.MaxLength);
        foreach (Block block in _blocks)
        {
            RmsNorm.Forward(device, x, block.Norm, default, n, R, d, config.LayerNormEpsilon);
            StepWeight.All(n, R, (block.Q, q), (block.K, k), (block.V, v));
            PackedAttention.Forward(device, q, k, v, bias, q, sources.Offsets, sources.Offsets, config.NumHeads, config.DKv, false);
            block.O.Step(q, x, R, accumulate: true);
            RmsNorm.Forward(device, x, block.FfNorm, default, n, R, d, config.LayerNormEpsilon);
            StepWeight.All(n, R, (block.Gate, gate), (block.Up, up));
            T5LayerFF.Activate(device, config, gate, up, gate);
            block.Down.Step(gate, x, R, accumulate: true);
        }
        Tensor output = _output.Take((long)R * d);
        RmsNorm.Forward(device, x, _layers.EncoderNorm, default, output, R, d, config.LayerNormEpsilon);
        return output;
    }

    public void Dispose()
    {
        _output.Dispose();
        foreach (StepWeight matrix in _matrices)
            matrix.Dispose();
    }
}
