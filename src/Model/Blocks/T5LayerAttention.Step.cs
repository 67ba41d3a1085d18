// Attention of one token a row over keys and values that are kept: what generating text needs of the sublayers. Deliberately not: whose rows go on (the cache
// is the caller's), gradients.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using static IptNative.Model.Blocks.BlockScratch;

namespace IptNative.Model.Blocks;

/// <summary>Keys and values of one attention, [texts or rows, H, positions, K] each.</summary>
/// <param name="Keys">f32.</param>
/// <param name="Values">f32.</param>
internal readonly record struct KeysValues(Tensor Keys, Tensor Values);

/// <summary>The cached step.</summary>
/// <remarks>Attention's own products are float32 here as in PackedAttention; the linear layers are those of <see cref="Forward"/>.</remarks>
internal sealed unsafe partial class T5LayerAttention
{
    /// <summary>Cross: keys and values of the encoder's output.</summary>
    /// <param name="memory">f32 [texts, S, D].</param>
    /// <param name="made">[texts, H, S, K], overwritten.</param>
    /// <param name="texts">Texts.</param>
    /// <param name="source">S.</param>
    public void Remember(Tensor memory, in KeysValues made, int texts, int source)
    {
        int rows = checked(texts * source), inner = _config.InnerDim;
        Tensor projected = _scratch.Take(Slot.Key, (long)rows * inner);
        Linear.Forward(_scratch, memory, _k, projected, rows, _config.DModel, inner);
        HeadTranspose.Forward(_scratch.Device, projected, made.Keys, texts, source, _config.NumHeads, _config.DKv);
        Linear.Forward(_scratch, memory, _v, projected, rows, _config.DModel, inner);
        HeadTranspose.Forward(_scratch.Device, projected, made.Values, texts, source, _config.NumHeads, _config.DKv);
    }

    /// <summary>Self-attention of one new token a row: y = x + attention over the past and itself.</summary>
    /// <param name="x">f32 [rows, D].</param>
    /// <param name="y">f32 [rows, D], overwritten; not <paramref name="x"/>.</param>
    /// <param name="past">[rows, H, length, K].</param>
    /// <param name="present">[rows, H, length + 1, K], overwritten: the past and the new token.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="length">Tokens of the past, 0 or more.</param>
    /// <param name="bias">f32 [H, length + 1].</param>
    public void StepSelf(Tensor x, Tensor y, in KeysValues past, in KeysValues present, int rows, int length, Tensor bias)
    {
        Projections(x, rows, default, rows, default, out Tensor q, out Tensor k, out Tensor v);
        Append(past.Keys, k, present.Keys, rows, length);
        Append(past.Values, v, present.Values, rows, length);
        Leave(Attend(q, present, rows, _config.NumHeads, 1, length + 1, bias, default), x, y, rows);
    }

    /// <summary>Cross-attention of one new token a row.</summary>
    /// <param name="x">f32 [texts * beams, D].</param>
    /// <param name="y">f32 [texts * beams, D], overwritten; not <paramref name="x"/>.</param>
    /// <param name="memory">[texts, H, S, K], from <see cref="Remember"/>.</param>
    /// <param name="texts">Texts.</param>
    /// <param name="beams">Rows of each, side by side.</param>
    /// <param name="source">S.</param>
    /// <param name="lengths">i32 [texts]: positions that are not padding.</param>
    public void StepCross(Tensor x, Tensor y, in KeysValues memory, int texts, int beams, int source, Tensor lengths)
    {
        int rows = texts * beams;
        Queries(x, rows, default, out Tensor q);
        Leave(Attend(q, memory, texts, _config.NumHeads, beams, source, default, lengths), x, y, rows);
    }

    // softmax(q k^T + bias) v for each text and head: q [texts, queries, heads * K] in place of the context.
    private Tensor Attend(Tensor q, in KeysValues over, int texts, int heads, int queries, int keys, Tensor bias, Tensor lengths)
    {
        ComputeDevice device = _scratch.Device;
        int width = _config.DKv, step = heads * width, batches = texts * heads;
        Tensor scores = _scratch.Take(Slot.Scores, (long)batches * queries * keys), context = _scratch.Take(Slot.Context, q.Elements);
        var byHead = new BatchStride((long)queries * step, width);
        var cached = new BatchStride((long)step * keys, (long)width * keys);
        var scored = new BatchStride((long)heads * queries * keys, (long)queries * keys);
        Gemm.Run(device, new GemmArgs { A = q, LdA = step, StrideA = byHead, B = over.Keys, StrideB = cached, TransB = true, C = scores, StrideC = scored, M = queries, N = keys, K = width, Batches = batches, InnerBatches = heads, Compute = ComputeType.F32 });
        AttentionProbabilities.ForwardInPlace(device, scores, bias, new KeyMask(lengths, default, false), texts, heads, queries, keys, BiasLayout.Full);
        Gemm.Run(device, new GemmArgs { A = scores, StrideA = scored, B = over.Values, StrideB = cached, C = context, LdC = step, StrideC = byHead, M = queries, N = width, K = keys, Batches = batches, InnerBatches = heads, Compute = ComputeType.F32 });
        return context;
    }

    // [rows, H, length, K] and [rows, H, K] to [rows, H, length + 1, K].
    private void Append(Tensor past, Tensor made, Tensor present, int rows, int length)
    {
        int width = _config.DKv;
        float* from = (float*)past.Address, token = (float*)made.Address, to = (float*)present.Address;
        for (long i = 0; i < (long)rows * _config.NumHeads; i++, from += (long)length * width, token += width, to += (length + 1L) * width)
        {
            new ReadOnlySpan<float>(from, length * width).CopyTo(new Span<float>(to, length * width));
            new ReadOnlySpan<float>(token, width).CopyTo(new Span<float>(to + (long)length * width, width));
        }
    }
}
