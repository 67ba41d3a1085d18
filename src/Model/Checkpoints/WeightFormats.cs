// In which formats weights are stored: their names, and which tensor of a model gets which. Deliberately not: conversion (Onnx/Package), reading (Kernels).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Config;

namespace IptNative.Model.Checkpoints;

/// <summary>Weight formats as users name them: f32, bf16, f16, int8 and int4.</summary>
public static class WeightFormats
{
    // Small enough that one outlier spoils little, at 6 % of the codes' bytes.
    private const long I8Block = 64;

    /// <summary>All names, widest first.</summary>
    public static IReadOnlyList<string> Names { get; } = ["f32", "bf16", "f16", "int8", "int4"];

    /// <summary>The format of a name.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <returns>F32, BF16, F16, I8 or U4; null for any other name.</returns>
    public static DType? Parse(string name) => name switch
    {
        "f32" => DType.F32,
        "bf16" => DType.BF16,
        "f16" => DType.F16,
        "int8" => DType.I8,
        "int4" => DType.U4,
        _ => null,
    };

    /// <summary>A stored type's name as a weight format.</summary>
    /// <param name="type">The type.</param>
    /// <returns>One of <see cref="Names"/>, or the type's own name.</returns>
    public static string Name(DType type) => type switch
    {
        DType.I8 => "int8",
        DType.U4 => "int4",
        _ => type.Name(),
    };

    /// <summary>Whether a format has scales.</summary>
    /// <param name="type">The format.</param>
    /// <returns>True for int8 and int4.</returns>
    public static bool IsQuantised(DType type) => type is DType.I8 or DType.U4;

    /// <summary>The type in which a parameter is stored when a model is exported in a format.</summary>
    /// <param name="parameter">The parameter.</param>
    /// <param name="format">F32, BF16, F16, I8 or U4.</param>
    /// <returns>
    /// f32 for norms and position biases, which are tiny and sensitive. In a quantised model bf16 for the embeddings, lm_head and wo: rows are gathered from the
    /// first, every logit is a sum over the second, and T5's wo has outliers that 8 bits lose (Hugging Face keeps it in float32 for that reason); bf16 too for a
    /// matrix whose rows are not whole blocks.
    /// </returns>
    public static DType Stored(T5Parameter parameter, DType format)
    {
        string name = parameter.Name;
        if (name.EndsWith("layer_norm.weight", StringComparison.Ordinal) || name.EndsWith("relative_attention_bias.weight", StringComparison.Ordinal))
            return DType.F32;
        if (!IsQuantised(format))
            return format;
        bool kept = name is T5Parameters.Shared or T5Parameters.LmHead || name.EndsWith("DenseReluDense.wo.weight", StringComparison.Ordinal);
        return kept || Block(format, parameter.Shape[1]) == 0 ? DType.BF16 : format;
    }

    /// <summary>Elements that share a scale.</summary>
    /// <param name="format">I8 or U4.</param>
    /// <param name="rowLength">Elements of a row, 1 or more.</param>
    /// <returns>0 where such rows cannot be stored: 4-bit rows are pairs of blocks of 32, so that a row's zero points are whole bytes.</returns>
    public static long Block(DType format, long rowLength)
    {
        if (format == DType.U4)
            return rowLength % (2 * BlockScales.U4Block) == 0 ? BlockScales.U4Block : 0;
        for (long block = I8Block; block >= 16; block /= 2)
        {
            if (rowLength % block == 0)
                return block;
        }
        return rowLength;
    }

    /// <summary>Bytes of a parameter with its scales and zero points.</summary>
    /// <param name="parameter">The parameter.</param>
    /// <param name="stored">Its type, as <see cref="Stored"/> gives it.</param>
    /// <returns>Bytes, without padding between tensors.</returns>
    public static long Bytes(T5Parameter parameter, DType stored)
    {
        long elements = parameter.Shape.Elements, bytes = stored.ByteLength(elements);
        if (!IsQuantised(stored))
            return bytes;
        long blocks = elements / Block(stored, parameter.Shape[1]);
        return bytes + sizeof(float) * blocks + (stored == DType.U4 ? (blocks + 1) / 2 : 0);
    }
}
