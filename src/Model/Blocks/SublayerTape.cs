// What a forward pass keeps of one sublayer for the backward sweep. Tensors only; who owns them differs (the graph's outputs, or memory of our own).
using IptNative.Kernels.Devices;

namespace IptNative.Model.Blocks;

/// <summary>Packed rows kept of one sublayer; empty tensors are computed again when needed.</summary>
/// <remarks>Backward may overwrite all of it but <see cref="Input"/>: a tape serves one sweep.</remarks>
internal struct SublayerTape
{
    /// <summary>f32 [R, D], the residual stream at the sublayer's input.</summary>
    public Tensor Input;

    /// <summary>f32 [R, H*K], attention's queries.</summary>
    public Tensor Query;

    /// <summary>f32 [Rm, H*K], attention's keys.</summary>
    public Tensor Key;

    /// <summary>f32 [Rm, H*K], attention's values.</summary>
    public Tensor Value;

    /// <summary>f32 [R, F], feed-forward: the side with the activation, before it.</summary>
    public Tensor Gate;

    /// <summary>f32 [R, F], gated feed-forward: the linear side.</summary>
    public Tensor Up;
}
