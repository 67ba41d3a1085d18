// What a forward pass keeps of one sublayer for the backward sweep. Tensors only; who owns them differs (the graph's outputs, or memory of our own).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Model.Blocks;

/// <summary>Packed rows kept of one sublayer; empty tensors are computed again when needed.</summary>
/// <remarks>All but <see cref="Input"/> may be bf16: then products and attention work in scratch, and the tape holds a rounded copy. Backward may overwrite all of it but <see cref="Input"/>: a tape serves one sweep.</remarks>
internal struct SublayerTape
{
    /// <summary>f32 [R, D], the residual stream at the sublayer's input.</summary>
    public Tensor Input;

    /// <summary>[R, H*K], attention's queries.</summary>
    public Tensor Query;

    /// <summary>[Rm, H*K], attention's keys.</summary>
    public Tensor Key;

    /// <summary>[Rm, H*K], attention's values.</summary>
    public Tensor Value;

    /// <summary>[R, F], feed-forward: the side with the activation, before it.</summary>
    public Tensor Gate;

    /// <summary>[R, F], gated feed-forward: the linear side.</summary>
    public Tensor Up;

    /// <summary>Where a product writes what will be kept: the tape itself, or scratch where the tape has nothing of it or rounds it.</summary>
    public static Tensor Place(BlockScratch scratch, Tensor kept, BlockScratch.Slot slot, long elements) => IsWritten(kept) ? kept : scratch.Take(slot, elements);

    /// <summary>Whether <see cref="Place"/> is the tape's own memory.</summary>
    public static bool IsWritten(Tensor kept) => !kept.IsEmpty && kept.DType == DType.F32;

    /// <summary>Rounds into the tape what was written to scratch.</summary>
    public static void Keep(ComputeDevice device, Tensor made, Tensor kept)
    {
        if (!kept.IsEmpty && !IsWritten(kept))
            Conversion.FromF32(device, made, kept, made.Elements);
    }

    /// <summary>What was kept as f32: the tape itself, or widened into scratch.</summary>
    public static Tensor Read(BlockScratch scratch, Tensor kept, BlockScratch.Slot slot)
    {
        if (kept.IsEmpty || IsWritten(kept))
            return kept;
        Tensor wide = scratch.Take(slot, kept.Elements);
        Conversion.ToF32(scratch.Device, kept, wide, kept.Elements);
        return wide;
    }
}
