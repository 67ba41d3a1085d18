// A stack's relative position bias in its compact form, made once per length and shared by all blocks of the stack.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Config;

namespace IptNative.Model.Blocks;

/// <summary>bias[h, k - q] of one stack (HF: T5Attention.compute_bias, block 0's table).</summary>
internal sealed class PositionBias(BlockWeights weights, string stack, bool bidirectional) : IDisposable
{
    private readonly Tensor _table = weights.Vector($"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    private DeviceBuffer? _byDistance;
    private int _length;

    /// <summary>The bias of self-attention over up to <paramref name="longest"/> positions: one table serves all shorter examples.</summary>
    /// <param name="longest">1 or more.</param>
    public DistanceBias ByDistance(int longest)
    {
        if (_byDistance is null || _length < longest)
        {
            T5Config config = weights.Config;
            _byDistance?.Dispose();
            _byDistance = null;
            _byDistance = weights.Device.Allocate(DType.F32, config.NumHeads * (2L * longest - 1), $"{stack} position bias");
            RelativePositionBias.ForwardByDistance(weights.Device, _table, _byDistance.Tensor, config.RelativeAttentionNumBuckets, config.NumHeads, longest, longest, bidirectional, config.RelativeAttentionMaxDistance);
            _length = longest;
        }
        return new DistanceBias(_byDistance.Tensor, _length);
    }

    public void Dispose() => _byDistance?.Dispose();
}
