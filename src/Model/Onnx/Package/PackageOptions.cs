// What an export is asked for and what it reports.
using IptNative.Kernels;

namespace IptNative.Model.Onnx.Package;

/// <summary>How a package is written.</summary>
/// <param name="DType">Format of the matrices: F32, BF16, F16, I8 or U4; which tensors keep another, <see cref="Checkpoints.WeightFormats.Stored"/> says.</param>
/// <param name="Overwrite">Whether an existing package at the place may be replaced. Any other folder is never replaced.</param>
public sealed record PackageOptions(DType DType = DType.F32, bool Overwrite = false);

/// <summary>How far an export is.</summary>
/// <param name="Bytes">Bytes of weights written.</param>
/// <param name="TotalBytes">Bytes of weights to write.</param>
/// <param name="Tensor">The tensor just written.</param>
public readonly record struct PackageProgress(long Bytes, long TotalBytes, string Tensor);
