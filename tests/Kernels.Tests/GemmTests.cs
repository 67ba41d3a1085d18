// The packed matrix product against plain double loops, once per micro-kernel, so that one machine tests those of all others.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests;

public sealed class Gemm512Tests() : GemmTests(Gemm.RunWith<MicroKernel512>);

public sealed class Gemm256Tests() : GemmTests(Gemm.RunWith<MicroKernel256>);

public sealed class Gemm128Tests() : GemmTests(Gemm.RunWith<MicroKernel128>);

public sealed class GemmScalarTests() : GemmTests(Gemm.RunWith<MicroKernelScalar>);

public abstract class GemmTests : IDisposable
{
    private static readonly int[] Sizes = [1, 3, 4, 7, 8, 9, 12, 15, 16, 17, 31, 33, 48, 50];
    private static readonly int[] Depths = [1, 3, 4, 16, 17, 33];
    private readonly CpuDevice _device = new(3);
    private readonly Product _product;

    private protected GemmTests(Product product) => _product = product;

    private protected delegate void Product(CpuDevice device, in GemmArgs args);

    public void Dispose()
    {
        _device.Dispose();
        GC.SuppressFinalize(this);
    }

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
    [InlineData(13, 35, 256)]
    [InlineData(13, 35, 257)]
    [InlineData(5, 300, 515)]
    [InlineData(13, 35, 768)]
    [InlineData(13, 35, 769)]
    [InlineData(5, 300, 1540)]
    [InlineData(500, 70, 900)]
    [InlineData(241, 64, 100)]
    [InlineData(500, 70, 300)]
    [InlineData(245, 801, 260)]
    [InlineData(64, 500, 64)]
    public void AgreesWithTheFormulaAcrossBlocks(int M, int N, int K)
    {
        for (int i = 0; i < 4; i++)
            Check(new GemmCase(_device, i, M, N, K, transA: (i & 1) != 0, transB: (i & 2) != 0, accumulate: i is 1 or 2, alpha: i == 3 ? 0.5f : 1, slack: i));
    }

    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void ExpandsStoredHalvesWhilePacking(DType type)
    {
        Check(new GemmCase(_device, 1, 17, 50, 37, false, false, false, slack: 3, typeB: type));
        Check(new GemmCase(_device, 2, 17, 50, 37, false, true, true, slack: 3, typeB: type));
        Check(new GemmCase(_device, 3, 300, 97, 400, false, true, false, typeB: type));
        Check(new GemmCase(_device, 4, 300, 97, 400, true, false, true, typeB: type));
    }

    [Fact]
    public void AddressesAttentionHeadsInPlace()
    {
        const int B = 3, S = 21, H = 4, K = 9, Width = H * K;
        BatchStride heads = new(S * Width, K), maps = new(H * S * S, S * S);
        // scores = Q K^T, context = P V and dV = P^T dO, with heads side by side in each row.
        Check(new GemmCase(_device, 1, S, S, K, false, true, false, batches: B * H, innerBatches: H, strideA: heads, strideB: heads, strideC: maps, ldA: Width, ldB: Width, ldC: S));
        Check(new GemmCase(_device, 2, S, K, S, false, false, true, batches: B * H, innerBatches: H, strideA: maps, strideB: heads, strideC: heads, ldA: S, ldB: Width, ldC: Width));
        Check(new GemmCase(_device, 3, S, K, S, true, false, false, batches: B * H, innerBatches: H, strideA: maps, strideB: heads, strideC: heads, ldA: S, ldB: Width, ldC: Width));
    }

    [Fact]
    public void SharesAnOperandAcrossTheBatch()
    {
        Check(new GemmCase(_device, 1, 20, 40, 30, false, false, false, batches: 5, strideA: new(600, 0), strideC: new(800, 0)));
        Check(new GemmCase(_device, 2, 20, 40, 30, false, true, false, batches: 6, innerBatches: 3, strideB: new(3600, 1200), strideC: new(2400, 800)));
        Check(new GemmCase(_device, 3, 250, 130, 330, false, true, true, batches: 2, strideA: new(82500, 0), strideC: new(32500, 0)));
    }

    [Fact]
    public void GivesTheSameBitsForAnyNumberOfThreads()
    {
        using var alone = new CpuDevice(1);
        using var many = new CpuDevice(5);
        foreach ((int M, int N, int K) in ((int, int, int)[])[(61, 130, 300), (300, 800, 270), (1, 700, 300), (500, 17, 3000)])
        {
            using var expected = new GemmCase(alone, 7, M, N, K, false, true, true, alpha: 0.3f);
            using var actual = new GemmCase(many, 7, M, N, K, false, true, true, alpha: 0.3f);
            _product(alone, expected.Args);
            _product(many, actual.Args);
            Assert.Equal(expected.Result, actual.Result);
        }
    }

    private void Check(GemmCase product)
    {
        using (product)
        {
            _product(_device, product.Args);
            product.AssertCorrect($"A{(product.Args.TransA ? "^T" : "")} B{(product.Args.TransB ? "^T" : "")}");
        }
    }
}
