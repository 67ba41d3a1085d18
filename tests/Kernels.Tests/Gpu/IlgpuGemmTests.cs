// The matrix product of the ILGPU devices against plain double loops: the same cases as the CPU's, fewer sizes.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests.Gpu;

public abstract class IlgpuGemmTests<TDevice> : IDisposable
    where TDevice : ITestDevice
{
    private static readonly int[] Sizes = [1, 3, 8, 17, 33];
    private static readonly int[] Depths = [1, 16, 17, 33];
    private readonly ComputeDevice _device = TDevice.Create(1);

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void AgreesWithTheFormulaAtOddSizes(bool transA, bool transB)
    {
        int seed = 0;
        foreach (int m in Sizes)
        {
            foreach (int n in Sizes)
            {
                foreach (int k in Depths)
                {
                    seed++;
                    Check(new GemmCase(_device, seed, m, n, k, transA, transB, accumulate: seed % 2 == 0, alpha: seed % 3 == 0 ? -0.75f : 1, slack: seed % 4));
                }
            }
        }
    }

    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void ExpandsStoredHalves(DType type)
    {
        Check(new GemmCase(_device, 1, 17, 50, 37, false, false, false, slack: 3, typeB: type));
        Check(new GemmCase(_device, 2, 17, 50, 37, false, true, true, slack: 3, typeB: type));
        Check(new GemmCase(_device, 3, 70, 97, 100, true, true, false, typeB: type));
    }

    [Fact]
    public void ActivationsMayBeHalvesAndOperandsRounded()
    {
        Check(new GemmCase(_device, 1, 17, 30, 37, false, true, false, slack: 1, typeA: DType.BF16, typeB: DType.BF16));
        Check(new GemmCase(_device, 2, 17, 30, 37, false, true, true, slack: 1, typeB: DType.F32, compute: ComputeType.BF16));
        Check(new GemmCase(_device, 3, 17, 30, 37, true, false, false, typeB: DType.F16, compute: ComputeType.BF16));
    }

    [Theory]
    [InlineData(true, 0)]
    [InlineData(false, 0)]
    [InlineData(true, 16)]
    [InlineData(false, 16)]
    public void CodesAreMultipliedByTheirScales(bool transB, int block)
    {
        const int M = 9, N = 33, K = 40;
        var random = new Random(1);
        int storedRows = transB ? N : K, storedColumns = transB ? K : N, scalesPerRow = block == 0 ? 1 : (storedColumns + block - 1) / block;
        sbyte[] codes = [.. Enumerable.Range(0, N * K).Select(_ => (sbyte)random.Next(-127, 128))];
        float[] a = Numbers.Normal(M * K, 2), scales = [.. Enumerable.Range(0, storedRows * scalesPerRow).Select(_ => random.NextSingle() + 0.1f)], c = new float[M * N];
        using DeviceBuffer ta = _device.Allocate(DType.F32, a.Length, "test"), tb = _device.Allocate(DType.I8, codes.Length, "test"), ts = _device.Allocate(DType.F32, scales.Length, "test"), tc = _device.Allocate(DType.F32, c.Length, "test");
        ta.Tensor.CopyFrom<float>(a);
        tb.Tensor.CopyFrom<sbyte>(codes);
        ts.Tensor.CopyFrom<float>(scales);
        Gemm.Run(_device, new GemmArgs { A = ta.Tensor, B = tb.Tensor, ScalesB = ts.Tensor, BlockB = block, C = tc.Tensor, M = M, N = N, K = K, TransB = transB });
        tc.Tensor.CopyTo<float>(c);
        var expected = new double[M * N];
        for (int m = 0; m < M; m++)
        {
            for (int n = 0; n < N; n++)
            {
                for (int k = 0; k < K; k++)
                {
                    int row = transB ? n : k, column = transB ? k : n;
                    expected[m * N + n] += (double)a[m * K + k] * codes[row * storedColumns + column] * scales[row * scalesPerRow + (block == 0 ? 0 : column / block)];
                }
            }
        }
        TensorAssert.CloseToLargest(expected, c, 2 * K, "codes with scales");
    }

    [Fact]
    public void AddressesAttentionHeadsInPlace()
    {
        const int B = 3, S = 21, H = 4, K = 9, Width = H * K;
        BatchStride heads = new(S * Width, K), maps = new(H * S * S, S * S);
        Check(new GemmCase(_device, 1, S, S, K, false, true, false, batches: B * H, innerBatches: H, strideA: heads, strideB: heads, strideC: maps, ldA: Width, ldB: Width, ldC: S));
        Check(new GemmCase(_device, 2, S, K, S, false, false, true, batches: B * H, innerBatches: H, strideA: maps, strideB: heads, strideC: heads, ldA: S, ldB: Width, ldC: Width));
        Check(new GemmCase(_device, 3, S, K, S, true, false, false, batches: B * H, innerBatches: H, strideA: maps, strideB: heads, strideC: heads, ldA: S, ldB: Width, ldC: Width));
    }

    [Fact]
    public void SharesAnOperandAcrossTheBatch()
    {
        Check(new GemmCase(_device, 1, 20, 40, 30, false, false, false, batches: 5, strideA: new(600, 0), strideC: new(800, 0)));
        Check(new GemmCase(_device, 2, 20, 40, 30, false, true, false, batches: 6, innerBatches: 3, strideB: new(3600, 1200), strideC: new(2400, 800)));
    }

    public void Dispose()
    {
        _device.Dispose();
        GC.SuppressFinalize(this);
    }

    private void Check(GemmCase product)
    {
        using (product)
        {
            Gemm.Run(_device, product.Args);
            product.AssertCorrect($"A{(product.Args.TransA ? "^T" : "")} B{(product.Args.TransB ? "^T" : "")}");
        }
    }
}

public sealed class IlgpuGemmTests : IlgpuGemmTests<IlgpuTestDevice>;
