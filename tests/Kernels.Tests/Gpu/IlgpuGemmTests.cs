// The matrix product of the ILGPU devices against plain double loops: the same cases as the CPU's, fewer sizes.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;
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

    /// <summary>The kernel of a decoder's steps, whatever a device would choose: more rows than one warp's, columns that do not fill one.</summary>
    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void FewRowsReadTheMatrixAsItIsStored(DType type)
    {
        int seed = 0;
        foreach (int m in (int[])[1, 3, 7, 8, 11])
        {
            foreach ((int n, int k) in ((int, int)[])[(1, 8), (6, 40), (37, 16)])
            {
                seed++;
                using var product = new GemmCase(_device, seed, m, n, k, false, true, accumulate: seed % 2 == 0, alpha: seed % 3 == 0 ? -0.75f : 1, slack: seed % 2 * 8, typeB: type);
                // Where there is a library, it multiplies float32.
                Assert.True(type == DType.F32 || FewRowsGemm.Takes((IlgpuDevice)_device, product.Args));
                FewRowsGemm.Run((IlgpuDevice)_device, product.Args);
                product.AssertCorrect($"{m} rows of {n} x {k}, {type}");
            }
        }
    }

    [Theory]
    [InlineData(DType.I8, true, 64)]
    [InlineData(DType.I8, false, 64)]
    [InlineData(DType.I8, true, 16)]
    [InlineData(DType.U4, true, 32)]
    [InlineData(DType.U4, false, 32)]
    public void CodesAreMultipliedByTheirScales(DType type, bool transB, int block)
    {
        const int M = 9, Outer = 10, Inner = 64;
        int n = transB ? Outer : Inner, k = transB ? Inner : Outer, blocks = Inner / block, zeroBytes = (blocks + 1) / 2;
        var random = new Random(1);
        byte[] codes = new byte[type.ByteLength(Outer * Inner)], zeros = new byte[Outer * zeroBytes];
        random.NextBytes(codes);
        random.NextBytes(zeros);
        float[] a = Numbers.Normal(M * k, 2), scales = [.. Enumerable.Range(0, Outer * blocks).Select(_ => random.NextSingle() + 0.1f)], c = new float[M * n];
        using DeviceBuffer ta = Take(DType.F32, a.Length), tb = Take(type, Outer * Inner), ts = Take(DType.F32, scales.Length), tz = Take(DType.U8, zeros.Length), tc = Take(DType.F32, c.Length);
        ta.Tensor.CopyFrom<float>(a);
        _device.CopyFromHost(codes, tb.Tensor);
        ts.Tensor.CopyFrom<float>(scales);
        tz.Tensor.CopyFrom<byte>(zeros);
        Tensor b = tb.Tensor with { Scales = new BlockScales(ts.Tensor.Address, type == DType.U4 ? tz.Tensor.Address : 0, Inner, block) };
        Gemm.Run(_device, new GemmArgs { A = ta.Tensor, B = b, C = tc.Tensor, M = M, N = n, K = k, TransB = transB });
        tc.Tensor.CopyTo<float>(c);
        static int Nibble(byte[] bytes, int at) => (bytes[at / 2] >> (at % 2 * 4)) & 15;
        double Weight(int row, int column)
        {
            int at = row * Inner + column, part = column / block;
            double code = type == DType.I8 ? (sbyte)codes[at] : Nibble(codes, at) - Nibble(zeros, 2 * row * zeroBytes + part);
            return code * scales[row * blocks + part];
        }
        var expected = new double[M * n];
        for (int row = 0; row < M; row++)
        {
            for (int column = 0; column < n; column++)
            {
                for (int i = 0; i < k; i++)
                    expected[row * n + column] += a[row * k + i] * (transB ? Weight(column, i) : Weight(i, column));
            }
        }
        // Higham, gamma_n with a rounding for the scale.
        TensorAssert.CloseToLargest(expected, c, 2 * k, $"{type} codes with scales");
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

    private DeviceBuffer Take(DType type, long elements) => _device.Allocate(type, elements, "test data");

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
