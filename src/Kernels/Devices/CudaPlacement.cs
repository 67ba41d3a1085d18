// A CUDA device in CUDA's own terms, for a library that computes beside our kernels (ONNX Runtime). Deliberately no handle that could be used to change anything.
namespace IptNative.Kernels.Devices;

/// <summary>Where a device's memory and work are.</summary>
/// <param name="Ordinal">The GPU's number, as the driver counts.</param>
/// <param name="Stream">The CUstream that all of the device's work goes through; never 0 (the legacy stream), which libraries take for "none given".</param>
/// <param name="NotShared">Why the device is in a context of its own, where another library cannot read its memory; empty where it is in the driver's primary context, the one that CUDA's runtime uses.</param>
public sealed record CudaPlacement(int Ordinal, nint Stream, string NotShared)
{
    /// <summary>Environment variable: <c>own</c> leaves the device in the context that ILGPU makes.</summary>
    public const string Variable = "IPTNATIVE_CUDA_CONTEXT";

    /// <summary>Whether ONNX Runtime may compute on the device's memory.</summary>
    public bool IsShared => NotShared.Length == 0;
}
