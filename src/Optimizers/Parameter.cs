// What an optimizer sees of a trained tensor. Deliberately not: what it means, or who owns its memory.
using IptNative.Kernels;
using IptNative.Kernels.Devices;

namespace IptNative.Optimizers;

/// <summary>A trained tensor and its gradient.</summary>
/// <param name="Name">Unique among the optimizer's; names its state in checkpoints and messages.</param>
/// <param name="Shape">Dimensions: a vector or a matrix.</param>
/// <param name="Value">f32, updated in place; the caller's. May be a part of a larger table.</param>
/// <param name="Gradient">f32, read (and scaled by clipping); the caller's.</param>
public readonly record struct Parameter(string Name, TensorShape Shape, Tensor Value, Tensor Gradient)
{
    internal long Rows => Shape.Rank == 2 ? Shape[0] : 1;

    internal long Columns => Shape[Shape.Rank - 1];
}

/// <summary>A tensor that an optimizer must have back to go on bit for bit.</summary>
/// <param name="Name">Parameter name, dot, Hugging Face's name of the moment: prompt.exp_avg_sq_row.</param>
/// <param name="Shape">Dimensions.</param>
/// <param name="Value">f32; the optimizer's. Copied out to save, written to restore.</param>
public readonly record struct StateTensor(string Name, TensorShape Shape, Tensor Value);
