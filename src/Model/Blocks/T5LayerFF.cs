// The feed-forward sublayer made of kernels: forward (to recompute) and input gradient. No weight gradient: weights are frozen.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Config;
using static IptNative.Model.Blocks.BlockScratch;

namespace IptNative.Model.Blocks;

/// <summary>y = x + wo(act(wi RMSNorm(x))) (HF: T5LayerFF), gated or not.</summary>
/// <remarks>
/// Forward   n = RMSNorm(x);  h0 = n wi_0^T, h1 = n wi_1^T;  g = act(h0) h1;  y = x + g wo^T
/// Backward  dg = dy wo;  (dh0, dh1) from g's vjp;  dn = dh0 wi_0 + dh1 wi_1;  dx = dy + RMSNorm's vjp of dn.
/// Shapes    x, y, dy: [R, D] packed rows;  h0, h1: [R, F], taken from the tape where it has them, else computed again from x.
/// </remarks>
internal sealed class T5LayerFF
{
    private readonly BlockScratch _scratch;
    private readonly T5Config _config;
    private readonly string _forward;
    private readonly string _backward;
    private readonly Tensor _norm;
    private readonly Tensor _wi0;
    private readonly Tensor _wi1;
    private readonly Tensor _wo;

    /// <summary>Finds the sublayer's weights.</summary>
    /// <param name="weights">The checkpoint.</param>
    /// <param name="path">HF path of the sublayer: encoder.block.0.layer.1.</param>
    /// <param name="scratch">Shared by all sublayers.</param>
    public T5LayerFF(BlockWeights weights, string path, BlockScratch scratch)
    {
        _scratch = scratch;
        _config = weights.Config;
        (_forward, _backward) = ($"{path}.DenseReluDense forward", $"{path}.DenseReluDense backward");
        _norm = weights.Vector($"{path}.layer_norm.weight");
        _wi0 = weights.Matrix(_config.IsGated ? $"{path}.DenseReluDense.wi_0.weight" : $"{path}.DenseReluDense.wi.weight");
        _wi1 = _config.IsGated ? weights.Matrix($"{path}.DenseReluDense.wi_1.weight") : default;
        _wo = weights.Matrix($"{path}.DenseReluDense.wo.weight");
    }

    /// <summary>y = x + FF(x).</summary>
    /// <param name="x">f32 [R, D].</param>
    /// <param name="y">f32 [R, D], overwritten; not <paramref name="x"/>.</param>
    /// <param name="rows">R, 1 or more.</param>
    /// <param name="keep">Gate and Up to fill; empty tensors where nothing is kept.</param>
    public void Forward(Tensor x, Tensor y, int rows, in SublayerTape keep = default)
    {
        using OpScope trace = OpTrace.Region(_forward);
        ComputeDevice device = _scratch.Device;
        Inner(x, rows, keep, out Tensor h0, out Tensor h1);
        Tensor g = _scratch.Take(Slot.DInner, h0.Elements);
        Activate(device, _config, h0, h1, g);
        Elementwise.Copy(device, x, y, x.Elements);
        Linear.ForwardAccumulate(_scratch, g, _wo, y, rows, _config.DFf, _config.DModel);
    }

    /// <summary>g = act(h0) h1, or act(h0) where the layer has no gate.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="config">Says which activation it is.</param>
    /// <param name="h0">f32 [elements].</param>
    /// <param name="h1">f32 [elements]; not read where there is no gate.</param>
    /// <param name="g">f32 [elements], overwritten; may be <paramref name="h0"/>.</param>
    public static void Activate(ComputeDevice device, T5Config config, Tensor h0, Tensor h1, Tensor g)
    {
        if (config.IsGated && config.IsRelu)
            GatedRelu.Forward(device, h0, h1, g, g.Elements);
        else if (config.IsGated)
            GatedGelu.Forward(device, h0, h1, g, g.Elements);
        else if (config.IsRelu)
            Relu.Forward(device, h0, g, g.Elements);
        else
            Gelu.Forward(device, h0, g, g.Elements);
    }

    /// <summary>Turns the gradient of y into the gradient of x, in place.</summary>
    /// <param name="x">f32 [R, D], Forward's input.</param>
    /// <param name="dx">f32 [R, D]: dy in, dx out.</param>
    /// <param name="rows">R, 1 or more.</param>
    /// <param name="kept">What Forward kept; overwritten.</param>
    public void BackwardInPlace(Tensor x, Tensor dx, int rows, in SublayerTape kept = default)
    {
        using OpScope trace = OpTrace.Region(_backward);
        ComputeDevice device = _scratch.Device;
        int d = _config.DModel, f = _config.DFf;
        Tensor r = _scratch.Take(Slot.InverseRms, rows);
        Tensor h0 = SublayerTape.Read(_scratch, kept.Gate, Slot.Gate), h1 = SublayerTape.Read(_scratch, kept.Up, Slot.Up);
        if (h0.IsEmpty)
            Inner(x, rows, default, out h0, out h1);
        else
            RmsNorm.InverseRms(device, x, r, rows, d, _config.LayerNormEpsilon);
        // forward: y = x + g wo^T, so:
        Tensor dg = _scratch.Take(Slot.DInner, h0.Elements);
        Linear.Backward(device, dx, _wo, dg, rows, f, d);
        // The gradients take the place of h0 and h1, which nothing reads any more.
        if (_config.IsGated && _config.IsRelu)
            GatedRelu.Backward(device, h0, h1, dg, h0, h1, dg.Elements);
        else if (_config.IsGated)
            GatedGelu.Backward(device, h0, h1, dg, h0, h1, dg.Elements);
        else if (_config.IsRelu)
            Relu.Backward(device, h0, dg, h0, dg.Elements);
        else
            Gelu.Backward(device, h0, dg, h0, dg.Elements);
        Tensor dn = _scratch.Take(Slot.Norm, (long)rows * d);
        Linear.Backward(device, h0, _wi0, dn, rows, d, f);
        if (_config.IsGated)
            Linear.BackwardAccumulate(device, h1, _wi1, dn, rows, d, f);
        RmsNorm.BackwardAccumulate(device, x, _norm, r, dn, dx, rows, d);
    }

    // n = RMSNorm(x), h0 = n wi_0^T, h1 = n wi_1^T; the inverse RMS stays in its slot.
    private void Inner(Tensor x, int rows, in SublayerTape keep, out Tensor h0, out Tensor h1)
    {
        ComputeDevice device = _scratch.Device;
        int d = _config.DModel, f = _config.DFf;
        Tensor n = _scratch.Take(Slot.Norm, (long)rows * d);
        RmsNorm.Forward(device, x, _norm, _scratch.Take(Slot.InverseRms, rows), n, rows, d, _config.LayerNormEpsilon);
        h0 = SublayerTape.Place(_scratch, keep.Gate, Slot.Gate, (long)rows * f);
        Linear.Forward(_scratch, n, _wi0, h0, rows, d, f);
        SublayerTape.Keep(device, h0, keep.Gate);
        h1 = default;
        if (!_config.IsGated)
            return;
        h1 = SublayerTape.Place(_scratch, keep.Up, Slot.Up, (long)rows * f);
        Linear.Forward(_scratch, n, _wi1, h1, rows, d, f);
        SublayerTape.Keep(device, h1, keep.Up);
    }
}
