// The attention sublayers made of kernels, self and cross: forward (to recompute) and input gradients. No weight gradient: weights are frozen.
// Examples lie packed, each attended over its own length: nothing is computed for padding.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Config;
using static IptNative.Model.Blocks.BlockScratch;

namespace IptNative.Model.Blocks;

/// <summary>What a T5 attention sublayer attends to.</summary>
internal enum AttentionKind
{
    /// <summary>encoder: every position of the example.</summary>
    Encoder,

    /// <summary>decoder self-attention: positions up to the query's.</summary>
    DecoderSelf,

    /// <summary>decoder cross-attention: the encoder's output, no position bias.</summary>
    Cross,
}

/// <summary>y = x + o(softmax(q k^T + bias) v) with q, k, v linear in RMSNorm(x), or k, v linear in the encoder's output
/// (HF: T5LayerSelfAttention, T5LayerCrossAttention; scores are not divided by sqrt(d_kv)).</summary>
/// <remarks>
/// Forward   n = RMSNorm(x);  q = n Wq^T;  k, v = m Wk^T, m Wv^T with m = n or the encoder's output;  p = softmax(q k^T + bias);  c = p v;  y = x + c Wo^T
/// Backward  dc = dy Wo;  dp = dc v^T;  dv = p^T dc;  ds from the softmax;  dq = ds k;  dk = ds^T q;  dn = dq Wq (+ dk Wk + dv Wv);
///           dx = dy + RMSNorm's vjp of dn;  cross: dm += dk Wk + dv Wv.  c itself is not needed: Wo is frozen.
/// Shapes    x, y, dy: [R, D] packed rows;  m: [Rm, D];  q, k, v: [R or Rm, H*K];  p is never whole (PackedAttention).
/// </remarks>
internal sealed class T5LayerAttention
{
    private readonly BlockScratch _scratch;
    private readonly T5Config _config;
    private readonly AttentionKind _kind;
    private readonly string _forward;
    private readonly string _backward;
    private readonly Tensor _norm;
    private readonly Tensor _q;
    private readonly Tensor _k;
    private readonly Tensor _v;
    private readonly Tensor _o;

    /// <summary>Finds the sublayer's weights.</summary>
    /// <param name="weights">The checkpoint.</param>
    /// <param name="path">HF path of the sublayer: decoder.block.0.layer.1.</param>
    /// <param name="kind">What it attends to.</param>
    /// <param name="scratch">Shared by all sublayers.</param>
    public T5LayerAttention(BlockWeights weights, string path, AttentionKind kind, BlockScratch scratch)
    {
        _scratch = scratch;
        _config = weights.Config;
        _kind = kind;
        string attention = $"{path}.{(kind == AttentionKind.Cross ? "EncDecAttention" : "SelfAttention")}";
        (_forward, _backward) = ($"{attention} forward", $"{attention} backward");
        _norm = weights.Vector($"{path}.layer_norm.weight");
        _q = weights.Matrix($"{attention}.q.weight");
        _k = weights.Matrix($"{attention}.k.weight");
        _v = weights.Matrix($"{attention}.v.weight");
        _o = weights.Matrix($"{attention}.o.weight");
    }

    /// <summary>y = x + attention(x).</summary>
    /// <param name="x">f32 [R, D].</param>
    /// <param name="rows">Where x's examples lie.</param>
    /// <param name="memory">Cross: f32 [Rm, D], the encoder's output; else empty.</param>
    /// <param name="memoryRows">Cross: where its examples lie; else <paramref name="rows"/>.</param>
    /// <param name="bias">The stack's position bias; unused by cross-attention.</param>
    /// <param name="y">f32 [R, D], overwritten; not <paramref name="x"/>.</param>
    /// <param name="keep">Query, Key and Value to fill; empty tensors where nothing is kept.</param>
    public void Forward(Tensor x, RaggedRows rows, Tensor memory, RaggedRows memoryRows, PositionBias bias, Tensor y, in SublayerTape keep = default)
    {
        using OpScope trace = OpTrace.Region(_forward);
        ComputeDevice device = _scratch.Device;
        Projections(x, rows.Rows, memory, memoryRows.Rows, keep, out Tensor q, out Tensor k, out Tensor v);
        // Where nothing keeps the queries there, the context takes their place.
        Tensor context = SublayerTape.IsWritten(keep.Query) ? _scratch.Take(Slot.Context, q.Elements) : q;
        PackedAttention.Forward(device, q, k, v, Bias(bias, rows), context, rows.Offsets, memoryRows.Offsets, _config.NumHeads, _config.DKv, _kind == AttentionKind.DecoderSelf, _scratch.Compute);
        Leave(context, x, y, rows.Rows);
    }

    /// <summary>Turns the gradient of y into the gradient of x, in place; cross-attention adds the encoder output's gradient to dmemory.</summary>
    /// <param name="x">f32 [R, D], Forward's input.</param>
    /// <param name="rows">Where x's examples lie.</param>
    /// <param name="memory">Cross: f32 [Rm, D]; else empty.</param>
    /// <param name="memoryRows">Cross: where its examples lie; else <paramref name="rows"/>.</param>
    /// <param name="bias">The stack's position bias; unused by cross-attention.</param>
    /// <param name="dx">f32 [R, D]: dy in, dx out.</param>
    /// <param name="dmemory">Cross: f32 [Rm, D], added to; else empty.</param>
    /// <param name="kept">What Forward kept; overwritten.</param>
    /// <param name="memoryOnly">Cross: leave dx as it is. True in the decoder's first block: below it lies nothing that is tuned.</param>
    public void BackwardInPlace(Tensor x, RaggedRows rows, Tensor memory, RaggedRows memoryRows, PositionBias bias, Tensor dx, Tensor dmemory, in SublayerTape kept = default, bool memoryOnly = false)
    {
        using OpScope trace = OpTrace.Region(_backward);
        ComputeDevice device = _scratch.Device;
        int d = _config.DModel, inner = _config.InnerDim, dKv = _config.DKv;
        Tensor r = _scratch.Take(Slot.InverseRms, rows.Rows);
        Tensor q, k, v;
        if (kept.Query.IsEmpty)
        {
            Projections(x, rows.Rows, memory, memoryRows.Rows, default, out q, out k, out v);
        }
        else
        {
            q = SublayerTape.Read(_scratch, kept.Query, Slot.Query);
            k = SublayerTape.Read(_scratch, kept.Key, Slot.Key);
            v = SublayerTape.Read(_scratch, kept.Value, Slot.Value);
            if (!memoryOnly)
                RmsNorm.InverseRms(device, x, r, rows.Rows, d, _config.LayerNormEpsilon);
        }
        // forward: y = x + c Wo^T, so:
        Tensor dcontext = _scratch.Take(Slot.Context, q.Elements);
        Linear.Backward(device, dx, _o, dcontext, rows.Rows, inner, d);
        // The gradients take the places of q, k and v, which nothing reads any more.
        Tensor dq = memoryOnly ? default : q, dk = k, dv = v;
        PackedAttention.Backward(device, q, k, v, Bias(bias, rows), dcontext, dq, dk, dv, rows.Offsets, memoryRows.Offsets, _config.NumHeads, dKv, _kind == AttentionKind.DecoderSelf);
        if (_kind == AttentionKind.Cross)
        {
            Linear.BackwardAccumulate(device, dk, _k, dmemory, memoryRows.Rows, d, inner);
            Linear.BackwardAccumulate(device, dv, _v, dmemory, memoryRows.Rows, d, inner);
            if (memoryOnly)
                return;
        }
        Tensor dn = _scratch.Take(Slot.Norm, (long)rows.Rows * d);
        Linear.Backward(device, dq, _q, dn, rows.Rows, d, inner);
        if (_kind != AttentionKind.Cross)
        {
            Linear.BackwardAccumulate(device, dk, _k, dn, rows.Rows, d, inner);
            Linear.BackwardAccumulate(device, dv, _v, dn, rows.Rows, d, inner);
        }
        RmsNorm.BackwardAccumulate(device, x, _norm, r, dn, dx, rows.Rows, d);
    }

    // n = RMSNorm(x); q from n; k and v from n or from the encoder's output. The inverse RMS stays in its slot.
    private void Projections(Tensor x, int rows, Tensor memory, int memoryRows, in SublayerTape keep, out Tensor q, out Tensor k, out Tensor v)
    {
        ComputeDevice device = _scratch.Device;
        int d = _config.DModel, inner = _config.InnerDim;
        Tensor n = Queries(x, rows, keep.Query, out q);
        Tensor m = _kind == AttentionKind.Cross ? memory : n;
        k = SublayerTape.Place(_scratch, keep.Key, Slot.Key, (long)memoryRows * inner);
        v = SublayerTape.Place(_scratch, keep.Value, Slot.Value, (long)memoryRows * inner);
        Linear.Forward(_scratch, m, _k, k, memoryRows, d, inner);
        Linear.Forward(_scratch, m, _v, v, memoryRows, d, inner);
        SublayerTape.Keep(device, k, keep.Key);
        SublayerTape.Keep(device, v, keep.Value);
    }

    // n = RMSNorm(x); q from n. The inverse RMS stays in its slot.
    private Tensor Queries(Tensor x, int rows, Tensor keep, out Tensor q)
    {
        int d = _config.DModel, inner = _config.InnerDim;
        Tensor n = _scratch.Take(Slot.Norm, (long)rows * d);
        RmsNorm.Forward(_scratch.Device, x, _norm, _scratch.Take(Slot.InverseRms, rows), n, rows, d, _config.LayerNormEpsilon);
        q = SublayerTape.Place(_scratch, keep, Slot.Query, (long)rows * inner);
        Linear.Forward(_scratch, n, _q, q, rows, d, inner);
        SublayerTape.Keep(_scratch.Device, q, keep);
        return n;
    }

    // y = x + context Wo^T.
    private void Leave(Tensor context, Tensor x, Tensor y, int rows)
    {
        Elementwise.Copy(_scratch.Device, x, y, x.Elements);
        Linear.ForwardAccumulate(_scratch, context, _o, y, rows, _config.InnerDim, _config.DModel);
    }

    private DistanceBias Bias(PositionBias bias, RaggedRows rows) => _kind == AttentionKind.Cross ? default : bias.ByDistance(rows.MaxLength);
}
