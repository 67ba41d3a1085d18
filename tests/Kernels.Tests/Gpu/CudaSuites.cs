// The suites on an NVIDIA GPU. They exist where ILGPU's package is; without a GPU they are reported skipped, with the driver's reason.
#if !ILGPU_EMULATION
using ILGPU.Runtime.Cuda;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Ops;
using Xunit;

namespace IptNative.Kernels.Tests.Gpu;

public sealed class CudaTestDevice : ITestDevice
{
    // Kernels are compiled once for all tests.
    private static readonly Lazy<CudaAccelerator> Shared = new(() => CudaComputeDevice.Create(0).Accelerator);

    public static ComputeDevice Create(int threads)
    {
        var driver = CudaDriver.Query();
        Assert.SkipWhen(driver.Problem.Length > 0, driver.Problem);
        return new CudaComputeDevice(Shared.Value, null, ComputeType.F32);
    }
}

public sealed class CudaActivationTests : ActivationTests<CudaTestDevice>;

public sealed class CudaAttentionProbabilitiesTests : AttentionProbabilitiesTests<CudaTestDevice>;

public sealed class CudaCachedAttentionTests : CachedAttentionTests<CudaTestDevice>;

public sealed class CudaCrossEntropyTests : CrossEntropyTests<CudaTestDevice>;

public sealed class CudaElementwiseTests : ElementwiseTests<CudaTestDevice>;

public sealed class CudaLayoutTests : LayoutTests<CudaTestDevice>;

public sealed class CudaPackedAttentionTests : PackedAttentionTests<CudaTestDevice>
{
    [Theory]
    [MemberData(nameof(PackedAttentionShapes.Large), MemberType = typeof(PackedAttentionShapes))]
    public void LargeShapesMatchTheReference(int[] queries, int[] keys, int K, bool causal, bool biased) => MatchesTheReference(queries, keys, K, causal, biased);
}

public sealed class CudaSubspaceOpsTests : SubspaceOpsTests<CudaTestDevice>;

public sealed class CudaDequantisationTests : DequantisationTests<CudaTestDevice>;

public sealed class CudaLstmCellTests : LstmCellTests<CudaTestDevice>;

public sealed class CudaRmsNormTests : RmsNormTests<CudaTestDevice>;

public sealed class CudaGemmTests : IlgpuGemmTests<CudaTestDevice>;

public sealed class CudaTiledAttentionTests : TiledAttentionTests<CudaTestDevice>;

public sealed class CudaUpdateTests : UpdateTests<CudaTestDevice>;

/// <summary>Tensor cores against f32 products of operands rounded as the tensor cores round them.</summary>
public sealed class CudaTensorGemmTests : OpTests<CudaTestDevice>
{
    [Theory]
    [InlineData(64, 128, 64, true, DType.BF16)]
    [InlineData(70, 152, 72, true, DType.BF16)]
    [InlineData(70, 152, 72, false, DType.BF16)]
    [InlineData(1, 8, 8, false, DType.BF16)]
    [InlineData(300, 768, 2048, true, DType.BF16)]
    [InlineData(64, 128, 64, true, DType.F32)]
    [InlineData(70, 152, 72, true, DType.F32)]
    [InlineData(70, 152, 72, false, DType.F32)]
    [InlineData(300, 768, 2048, false, DType.F32)]
    public void IsTheProductOfTheRoundedOperands(int M, int N, int K, bool transB, DType type)
    {
        Assert.SkipWhen(!((CudaComputeDevice)Device).HasTensorCores, $"{Device.Name} has no bf16 and tf32 tensor cores.");
        // Half the distance of two bf16 numbers (8 bits) or tf32 numbers (11 bits).
        int kept = type == DType.BF16 ? 8 : 11;
        float[] a = Array.ConvertAll(Normal(M * K, 1), x => Rounded(x, kept)), b = Array.ConvertAll(Normal(N * K, 2), x => Rounded(x, kept));
        Tensor c = Empty((long)M * N), tb = type == DType.F32 ? Upload(b) : Upload(Array.ConvertAll(b, x => (ushort)(BitConverter.SingleToUInt32Bits(x) >> 16)), DType.BF16);
        var args = new GemmArgs { A = Upload(a), B = tb, C = c, M = M, N = N, K = K, TransB = transB, Alpha = 0.5f };
        Assert.True(TensorGemm.Fits(args));
        TensorGemm.Run((IlgpuDevice)Device, args);
        var expected = new double[M * N];
        for (int m = 0; m < M; m++)
        {
            for (int n = 0; n < N; n++)
            {
                for (int k = 0; k < K; k++)
                    expected[m * N + n] += 0.5 * a[m * K + k] * b[transB ? n * K + k : k * N + n];
            }
        }
        // The products are exact; the sums are f32, in the tensor cores' own order and with their own truncation.
        TensorAssert.CloseToLargest(expected, Download(c), 4 * Math.Sqrt(K), $"{type} {M}x{N}x{K}");
    }

    private static float Rounded(float x, int bits)
    {
        double unit = Math.ScaleB(1, Math.ILogB(x) - bits + 1);
        return (float)(Math.Round(x / unit) * unit);
    }
}
#endif
