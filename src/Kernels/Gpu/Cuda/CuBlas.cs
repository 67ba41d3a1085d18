// Matrix products by NVIDIA's library. Why not ILGPU's own binding: it knows neither CUDA 13 nor the calls that take types and strides.
// cuBLAS is column-major: our row-major C = op(A) op(B) is its C^T = op(B)^T op(A)^T, so the operands change places and nothing is transposed.
using System.Runtime.InteropServices;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Gpu;

/// <summary>cuBLAS on a device's stream.</summary>
internal sealed unsafe class CuBlas : IDisposable
{
    // library_types.h and cublas_api.h.
    private const int R32F = 0;
    private const int R16BF = 14;
    private const int Compute32F = 68;
    private const int Compute32FFastTF32 = 77;
    private const int DefaultAlgorithm = -1;

    private readonly delegate* unmanaged<nint, int, int, int, int, int, float*, nint, int, int, long, nint, int, int, long, float*, nint, int, int, long, int, int, int, int> _multiply;
    private readonly delegate* unmanaged<nint, int> _destroy;
    private nint _handle;

    /// <summary>Makes a handle in the current context.</summary>
    public CuBlas(CuBlasLibrary library, nint stream)
    {
        var create = (delegate* unmanaged<nint*, int>)NativeLibrary.GetExport(library.Handle, "cublasCreate_v2");
        var setStream = (delegate* unmanaged<nint, nint, int>)NativeLibrary.GetExport(library.Handle, "cublasSetStream_v2");
        _destroy = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library.Handle, "cublasDestroy_v2");
        _multiply = (delegate* unmanaged<nint, int, int, int, int, int, float*, nint, int, int, long, nint, int, int, long, float*, nint, int, int, long, int, int, int, int>)
            NativeLibrary.GetExport(library.Handle, "cublasGemmStridedBatchedEx");
        nint handle = 0;
        Require("cublasCreate", create(&handle));
        _handle = handle;
        Require("cublasSetStream", setStream(handle, stream));
    }

    /// <summary>Codes with scales, and activations stored in bf16, are for our own kernels.</summary>
    public static bool Fits(in GemmArgs args) => args.A.DType == DType.F32 && !args.B.Scales.IsPresent && Math.Max(Math.Max(args.StepA, args.StepB), args.StepC) <= int.MaxValue;

    /// <summary>The product.</summary>
    /// <param name="gpu">Where the operands lie.</param>
    /// <param name="args">Validated.</param>
    /// <remarks>F32 keeps every bit of the operands. BF16 rounds them to bf16 where B is stored so; otherwise to tf32, three bits more than asked for.</remarks>
    public void Run(IlgpuDevice gpu, in GemmArgs args)
    {
        bool rounds = args.ComputesIn(gpu) == ComputeType.BF16;
        Tensor a = args.A, b = args.B;
        int type = R32F;
        if (b.DType == DType.BF16 && rounds)
        {
            // The library takes both operands of one type: the activations are rounded, the weight is read as it is stored.
            a = gpu.Scratch(b.DType, args.A.Elements);
            Conversion.FromF32(gpu, args.A, a, a.Elements);
            type = R16BF;
        }
        else if (b.DType != DType.F32)
        {
            b = gpu.Scratch(DType.F32, args.B.Elements);
            Conversion.ToF32(gpu, args.B, b, b.Elements);
        }
        int compute = type == R32F && rounds ? Compute32FFastTF32 : Compute32F;
        float alpha = args.Alpha, beta = args.Accumulate ? 1 : 0;
        // One level of strides to a call: heads of one example, or examples.
        bool nested = args.InnerBatches > 1;
        int calls = nested ? args.Batches / args.InnerBatches : 1, batches = nested ? args.InnerBatches : args.Batches;
        for (int call = 0; call < calls; call++)
        {
            int first = call * batches;
            Require("cublasGemmStridedBatchedEx", _multiply(
                _handle, args.TransB ? 1 : 0, args.TransA ? 1 : 0, args.N, args.M, args.K, &alpha,
                Address(b, args.Offset(args.StrideB, first)), type, checked((int)args.StepB), nested ? args.StrideB.Inner : args.StrideB.Outer,
                Address(a, args.Offset(args.StrideA, first)), type, checked((int)args.StepA), nested ? args.StrideA.Inner : args.StrideA.Outer,
                &beta, Address(args.C, args.Offset(args.StrideC, first)), R32F, checked((int)args.StepC), nested ? args.StrideC.Inner : args.StrideC.Outer,
                batches, compute, DefaultAlgorithm));
        }
    }

    public void Dispose()
    {
        nint handle = Interlocked.Exchange(ref _handle, 0);
        if (handle != 0)
            Require("cublasDestroy", _destroy(handle));
    }

    private static nint Address(Tensor tensor, long elements) => tensor.Address + (nint)tensor.DType.ByteLength(elements);

    private static void Require(string call, int status)
    {
        if (status != 0)
            throw new InvalidOperationException($"cuBLAS: {call} failed with status {status}. Remove the library from the loader's path to use our own kernels, or install the one that belongs to the driver.");
    }
}
