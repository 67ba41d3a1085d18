// A stack's relative position bias in its compact form, made once per length and shared by all blocks of the stack.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Config;

namespace IptNative.Model.Blocks;

/// <summary>bias[h, k - q] of one stack (HF: T5Attention.compute_bias, block 0's table).</summary>
/// <remarks>A length's bias is the middle of a longer one's, but its rows lie tight: each length has its own [H, 2 T - 1] table, made when first met and kept.</remarks>
internal sealed class PositionBias(BlockWeights weights, string stack, bool bidirectional) : IDisposable
{
    private readonly Dictionary<int, DeviceBuffer> _byLength = [];
    private readonly Tensor _table = weights.Vector($"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");

    /// <summary>The bias of self-attention over <paramref name="length"/> positions.</summary>
    /// <param name="length">T, 1 or more.</param>
    /// <returns>f32 [H, 2 T - 1].</returns>
    public Tensor ByDistance(int length)
    {
        if (_byLength.TryGetValue(length, out DeviceBuffer? held))
            return held.Tensor;
        T5Config config = weights.Config;
        DeviceBuffer made = weights.Device.Allocate(DType.F32, config.NumHeads * (2L * length - 1), $"{stack} position bias");
        RelativePositionBias.ForwardByDistance(weights.Device, _table, made.Tensor, config.RelativeAttentionNumBuckets, config.NumHeads, length, length, bidirectional, config.RelativeAttentionMaxDistance);
        _byLength.Add(length, made);
        return made.Tensor;
    }

    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _byLength.Values)
            buffer.Dispose();
    }
}
