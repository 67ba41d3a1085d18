// bf16 products against double loops over rounded operands: once on machine code, and once per managed way, which must agree with the same formula.
using System.Runtime.InteropServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests.MachineCode;

/// <summary>The machine code, where this machine can run it.</summary>
public sealed class MachineCodeGemmTests : BF16GemmTests
{
    public MachineCodeGemmTests()
        : base(BF16Gemm.Run) => LoaderTests.SkipWithoutMachineCode();

    [Fact]
    public void IsWhatTheMatrixProductTakesWhenAskedForBF16()
    {
        using var device = new CpuDevice(2, ComputeType.BF16);
        using var plain = new CpuDevice(2);
        using var asked = new GemmCase(plain, 3, 37, 50, 90, false, true, false, compute: ComputeType.BF16);
        using var set = new GemmCase(device, 3, 37, 50, 90, false, true, false);
        using var expected = new GemmCase(plain, 3, 37, 50, 90, false, true, false, compute: ComputeType.BF16);
        BF16Gemm.Run(plain, expected.Args);
        Gemm.Run(plain, asked.Args);
        Gemm.Run(device, set.Args);
        Assert.Equal(expected.Result, asked.Result);
        Assert.Equal(expected.Result, set.Result);
        // And a product that insists on float32 gets it on a device that is set to bf16.
        using var insists = new GemmCase(device, 3, 37, 50, 90, false, true, false, compute: ComputeType.F32);
        Gemm.Run(device, insists.Args);
        insists.AssertCorrect("float32 on a bf16 device");
    }

    // Rows enough to pack B for all threads, columns beyond one shared block, depth beyond one visit to C.
    [Theory]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public void AgreesWithTheFormulaAcrossSharedBlocks(bool transA, bool transB)
    {
        using var device = new CpuDevice(3);
        using var product = new GemmCase(device, 4, 251, 1090, 769, transA, transB, accumulate: transA, alpha: 0.5f, slack: 1, typeB: DType.BF16, compute: ComputeType.BF16);
        Gemm.Run(device, product.Args);
        product.AssertCorrect("shared blocks");
    }

    [Fact]
    public void DoesNotKeepTheCollectorWaiting()
    {
        using var device = new CpuDevice(2);
        using var product = new GemmCase(device, 1, 250, 200, 800, false, true, false, compute: ComputeType.BF16);
        bool stop = false;
        var collector = new Thread(() =>
        {
            while (!Volatile.Read(ref stop))
                GC.Collect(0, GCCollectionMode.Forced, blocking: true);
        });
        collector.Start();
        for (int i = 0; i < 50; i++)
            Gemm.Run(device, product.Args);
        Volatile.Write(ref stop, true);
        collector.Join();
        product.AssertCorrect("under collections");
    }

    [Fact]
    public void WorksInsideAnotherOpsBodyAndAllocatesNothing()
    {
        using var device = new CpuDevice(3);
        using var product = new GemmCase(device, 1, 250, 140, 800, false, true, false, compute: ComputeType.BF16);
        var body = new Nested { Product = GCHandle.Alloc(product), Device = GCHandle.Alloc(device) };
        device.Pool.Run(5, ref body);
        body.Product.Free();
        body.Device.Free();
        product.AssertCorrect("nested");
        Gemm.Run(device, product.Args);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10; i++)
            Gemm.Run(device, product.Args);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private struct Nested : IParallelBody
    {
        public GCHandle Product;
        public GCHandle Device;

        public readonly void Invoke(int task, int worker)
        {
            if (task == 2)
                Gemm.Run((CpuDevice)Device.Target!, ((GemmCase)Product.Target!).Args);
        }
    }
}

public sealed class ManagedBF16GemmTests() : BF16GemmTests(Gemm.RunManaged);

public sealed class ScalarBF16GemmTests() : BF16GemmTests(Gemm.RunWith<MicroKernelScalar>);

public abstract unsafe class BF16GemmTests : IDisposable
{
    private static readonly int[] Sizes = [1, 3, 4, 5, 12, 13, 16, 17, 31, 33, 50];
    private static readonly int[] Depths = [1, 2, 3, 16, 31, 32, 33, 65];
    private static readonly DType[] TypesA = [DType.F32, DType.BF16];
    private static readonly DType[] TypesB = [DType.F32, DType.BF16, DType.F16];
    private readonly CpuDevice _device = new(3);
    private readonly Product _product;

    private protected BF16GemmTests(Product product) => _product = product;

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
                    Check(new GemmCase(_device, seed, m, n, k, transA, transB, accumulate: seed % 2 == 0, alpha: seed % 3 == 0 ? -0.75f : 1, slack: seed % 4,
                        typeA: TypesA[seed % 2], typeB: TypesB[seed % 3], compute: ComputeType.BF16));
                }
            }
        }
    }

    [Theory]
    [InlineData(13, 35, 767)]
    [InlineData(13, 35, 768)]
    [InlineData(13, 35, 769)]
    [InlineData(5, 300, 1537)]
    [InlineData(241, 64, 100)]
    [InlineData(500, 70, 801)]
    [InlineData(64, 500, 64)]
    public void AgreesWithTheFormulaAcrossBlocks(int M, int N, int K)
    {
        for (int i = 0; i < 4; i++)
        {
            Check(new GemmCase(_device, i, M, N, K, transA: (i & 1) != 0, transB: (i & 2) != 0, accumulate: i is 1 or 2, alpha: i == 3 ? 0.5f : 1, slack: i,
                typeA: TypesA[i / 2], typeB: TypesB[i % 3], compute: ComputeType.BF16));
        }
    }

    [Fact]
    public void AddressesAttentionHeadsInPlace()
    {
        const int B = 3, S = 21, H = 4, K = 9, Width = H * K;
        BatchStride heads = new(S * Width, K), maps = new(H * S * S, S * S);
        Check(new GemmCase(_device, 1, S, S, K, false, true, false, batches: B * H, innerBatches: H, strideA: heads, strideB: heads, strideC: maps, ldA: Width, ldB: Width, ldC: S, compute: ComputeType.BF16));
        Check(new GemmCase(_device, 2, S, K, S, false, false, true, batches: B * H, innerBatches: H, strideA: maps, strideB: heads, strideC: heads, ldA: S, ldB: Width, ldC: Width, compute: ComputeType.BF16));
        Check(new GemmCase(_device, 3, S, K, S, true, false, false, batches: B * H, innerBatches: H, strideA: maps, strideB: heads, strideC: heads, ldA: S, ldB: Width, ldC: Width, compute: ComputeType.BF16));
        Check(new GemmCase(_device, 4, 250, 130, 330, false, true, true, batches: 2, strideA: new(82500, 0), strideC: new(32500, 0), typeB: DType.BF16, compute: ComputeType.BF16));
    }

    [Fact]
    public void GivesTheSameBitsForAnyNumberOfThreads()
    {
        using var alone = new CpuDevice(1);
        using var many = new CpuDevice(5);
        foreach ((int M, int N, int K) in ((int, int, int)[])[(61, 130, 300), (300, 1100, 270), (1, 700, 300), (500, 17, 3000)])
        {
            using var expected = new GemmCase(alone, 7, M, N, K, false, true, true, alpha: 0.3f, compute: ComputeType.BF16);
            using var actual = new GemmCase(many, 7, M, N, K, false, true, true, alpha: 0.3f, compute: ComputeType.BF16);
            _product(alone, expected.Args);
            _product(many, actual.Args);
            Assert.Equal(expected.Result, actual.Result);
        }
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void SpecialValuesComeOutWhereTheyWentIn(bool transA, bool transB)
    {
        const int M = 14, N = 37, K = 69;
        // Row 2 of A holds a NaN whose payload lies in the dropped half, row 5 an infinity, row 7 the largest float, row 9 the largest bf16; column 20 of B is zero.
        float[] a = new float[M * K], b = new float[K * N];
        Array.Fill(a, 1f);
        Array.Fill(b, 0.5f);
        for (int k = 0; k < K; k++)
            b[B(k, 20)] = 0;
        float quietlyLost = BitConverter.UInt32BitsToSingle(0x7F80_0001), largest = BitConverter.UInt32BitsToSingle(0x7F7F_0000);
        foreach (int at in (int[])[3, 66, 68])
        {
            a[A(2, at)] = quietlyLost;
            a[A(5, at)] = float.NegativeInfinity;
            a[A(7, at)] = float.MaxValue;
        }
        for (int k = 0; k < K; k++)
            a[A(9, k)] = k == 4 ? largest : 0;
        float[] c = Multiply(a, b, M, N, K, transA, transB);
        for (int m = 0; m < M; m++)
        {
            for (int n = 0; n < N; n++)
            {
                bool zero = n == 20;
                float expected = m switch
                {
                    2 => float.NaN,
                    5 => zero ? float.NaN : float.NegativeInfinity,
                    7 => zero ? float.NaN : float.PositiveInfinity,
                    9 => zero ? 0 : largest / 2,
                    _ => zero ? 0 : K / 2f,
                };
                Assert.True(expected.Equals(c[m * N + n]), $"C[{m}, {n}]: expected {expected}, actual {c[m * N + n]}");
            }
        }

        int A(int m, int k) => transA ? k * M + m : m * K + k;
        int B(int k, int n) => transB ? n * K + k : k * N + n;
    }

    [Fact]
    public void SubnormalOperandsAreZeroAndSubnormalSumsAtMostThat()
    {
        // Just below the smallest normal number, where rounding reaches it; subnormal; the smallest normal; negative subnormal.
        float[] a = [BitConverter.UInt32BitsToSingle(0x007F_FFFF), BitConverter.UInt32BitsToSingle(0x007F_0000), BitConverter.UInt32BitsToSingle(0x0080_0000), -1e-40f];
        float[] c = Multiply(a, [1e38f], 4, 1, 1, false, false);
        float product = BF16Reference.Round(1e38f) * BitConverter.UInt32BitsToSingle(0x0080_0000);
        Assert.Equal([product, 0, product, 0], c);
        // Normal operands whose product is subnormal: zero on AVX512-BF16, itself elsewhere; never further off than that.
        c = Multiply([1e-30f, -1e-30f, 1e-30f], [1e-9f], 3, 1, 1, false, false);
        float tiny = BF16Reference.Round(1e-30f) * BF16Reference.Round(1e-9f);
        Assert.True(c[0] == 0 || c[0] == tiny, $"{c[0]}");
        Assert.True(c[1] == 0 || c[1] == -tiny, $"{c[1]}");
    }

    private float[] Multiply(float[] a, float[] b, int M, int N, int K, bool transA, bool transB)
    {
        using DeviceBuffer left = GemmCase.Upload(_device, a, DType.F32), right = GemmCase.Upload(_device, b, DType.F32), c = _device.Allocate(DType.F32, (long)M * N, "test");
        _product(_device, new GemmArgs { A = left.Tensor, B = right.Tensor, C = c.Tensor, M = M, N = N, K = K, TransA = transA, TransB = transB, Compute = ComputeType.BF16 });
        return new ReadOnlySpan<float>((float*)c.Tensor.Address, M * N).ToArray();
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
