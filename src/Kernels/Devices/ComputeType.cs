// What matrix products multiply. Deliberately not the type that a tensor is stored in: DType.cs.
namespace IptNative.Kernels.Devices;

/// <summary>Precision of a matrix product's operands; sums and results are float32 in either.</summary>
public enum ComputeType
{
    /// <summary>Operands as float32.</summary>
    F32,

    /// <summary>Operands rounded to bfloat16 (nearest, ties to even; beyond its range infinity; NaN kept; subnormals zero).</summary>
    BF16,
}
