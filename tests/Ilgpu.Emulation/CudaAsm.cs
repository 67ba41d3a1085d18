// Inline PTX is never run here: kernels ask IsSupported first, and the real compiler is the only one that can judge the text.
namespace ILGPU.Runtime.Cuda;

/// <summary>Inline PTX; absent.</summary>
public static class CudaAsm
{
    public static bool IsSupported => false;
}
