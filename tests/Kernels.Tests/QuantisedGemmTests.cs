// A product with int8 codes must be the product with their expansion, bit for bit, on every path: only the way of reading B differs.
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests;

public sealed unsafe class QuantisedGemmTests : IDisposable
{
    private readonly CpuDevice _device = new(3);

    private delegate void Product(CpuDevice device, in GemmArgs args);

    public void Dispose() => _device.Dispose();

    [Theory]
    [InlineData(ComputeType.F32)]
    [InlineData(ComputeType.BF16)]
    public void IsTheProductWithTheExpandedCodes(ComputeType compute)
    {
        Product[] ways = [Gemm.RunWith<MicroKernel512>, Gemm.RunWith<MicroKernel256>, Gemm.RunWith<MicroKernel128>, Gemm.RunWith<MicroKernelScalar>];
        if (compute == ComputeType.BF16 && MachineCodeStatus.Current.IsActive)
            ways = [.. ways, BF16Gemm.Run];
        int seed = 0;
        foreach ((int M, int N, int K) in ((int, int, int)[])[(1, 1, 1), (5, 33, 31), (13, 50, 97), (17, 64, 128), (250, 130, 801)])
        {
            foreach (int block in (int[])[0, 16, 32, 128])
            {
                foreach (bool transB in (bool[])[false, true])
                {
                    foreach (Product way in ways)
                        Compare(++seed, M, N, K, transB, block, slack: seed % 3, compute, way);
                }
            }
        }
    }

    [Fact]
    public void SharesTheOperandAcrossTheBatch()
    {
        using DeviceBuffer a = Random(1, 3 * 20 * 40), codes = Codes(2, 50 * 40), scales = Scales(3, 50), c = _device.Allocate(DType.F32, 3 * 20 * 50, "test"), one = _device.Allocate(DType.F32, 20 * 50, "test");
        var args = new GemmArgs { A = a.Tensor, B = codes.Tensor, ScalesB = scales.Tensor, C = c.Tensor, M = 20, N = 50, K = 40, TransB = true, Batches = 3, StrideA = new(800, 0), StrideC = new(1000, 0) };
        Gemm.Run(_device, args);
        for (int i = 0; i < 3; i++)
        {
            Gemm.Run(_device, args with { A = a.Tensor.Slice(i * 800, 800), C = one.Tensor, Batches = 1 });
            Assert.Equal(Floats(one), Floats(c).AsSpan(i * 1000, 1000).ToArray());
        }
    }

    [Fact]
    public void RefusesWhatDoesNotFitAndSaysWhy()
    {
        using DeviceBuffer a = Random(1, 5 * 40), codes = Codes(2, 40 * 50), scales = Scales(3, 100), c = _device.Allocate(DType.F32, 5 * 50, "test");
        var args = new GemmArgs { A = a.Tensor, B = codes.Tensor, ScalesB = scales.Tensor, BlockB = 32, C = c.Tensor, M = 5, N = 50, K = 40, TransB = true };
        Gemm.Run(_device, args);
        Assert.Equal("Gemm: B i8 is stored [50, 40] with a scale for 32 and needs 100 f32 scales on cpu, found 99 f32 on cpu.", Refusal(args with { ScalesB = scales.Tensor.Slice(0, 99) }));
        Assert.Equal("Gemm: B i8 is stored [50, 40] with one scale a row and needs 50 f32 scales on cpu, found 0 f32 on no device.", Refusal(args with { ScalesB = default, BlockB = 0 }));
        Assert.Equal("Gemm: found blocks of 24 in B i8, expected a power of two of 16 or more, or 0 for one scale a row.", Refusal(args with { BlockB = 24 }));
        Assert.Equal("Gemm: found blocks of 8 in B i8, expected a power of two of 16 or more, or 0 for one scale a row.", Refusal(args with { BlockB = 8 }));
        Assert.Contains("a quantised operand is shared by all batch entries", Refusal(args with { M = 2, Batches = 2, StrideB = new(1, 0), StrideC = new(100, 0), K = 20, BlockB = 0 }));
        Assert.Equal("Gemm: found scales (blocks of 32) for B f32, expected them only for i8.", Refusal(args with { B = c.Tensor, N = 5 }));
    }

    private void Compare(int seed, int M, int N, int K, bool transB, int block, int slack, ComputeType compute, Product way)
    {
        int rows = transB ? N : K, columns = transB ? K : N, ld = columns + slack, perRow = block == 0 ? 1 : (columns + block - 1) / block;
        using DeviceBuffer a = Random(seed, M * K), codes = Codes(seed + 1, rows * ld), scales = Scales(seed + 2, rows * perRow);
        using DeviceBuffer expanded = _device.Allocate(DType.F32, (long)rows * ld, "test"), c = _device.Allocate(DType.F32, (long)M * N, "test"), expected = _device.Allocate(DType.F32, (long)M * N, "test");
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < ld; j++)
            {
                float scale = j < columns ? ((float*)scales.Tensor.Address)[i * perRow + (block == 0 ? 0 : j / block)] : float.NaN;
                ((float*)expanded.Tensor.Address)[i * ld + j] = ((sbyte*)codes.Tensor.Address)[i * ld + j] * scale;
            }
        }
        var plain = new GemmArgs { A = a.Tensor, B = expanded.Tensor, C = expected.Tensor, M = M, N = N, K = K, TransB = transB, LdB = ld, Compute = compute };
        GemmArgs quantised = plain with { B = codes.Tensor, ScalesB = scales.Tensor, BlockB = block, C = c.Tensor };
        quantised.Validate(_device);
        way(_device, plain);
        way(_device, quantised);
        TensorAssert.SameBits(Floats(expected), Floats(c), $"{M}x{N}x{K}, transposed {transB}, blocks of {block}, {compute}");
    }

    private string Refusal(GemmArgs args) => Assert.Throws<ArgumentException>(() => Gemm.Run(_device, args)).Message;

    private DeviceBuffer Random(int seed, int n)
    {
        var random = new Random(seed);
        var values = new float[n];
        for (int i = 0; i < n; i++)
            values[i] = random.NextSingle() * 2 - 1;
        return GemmCase.Upload(_device, values, DType.F32);
    }

    private DeviceBuffer Scales(int seed, int n)
    {
        DeviceBuffer scales = Random(seed, n);
        foreach (ref float scale in new Span<float>((float*)scales.Tensor.Address, n))
            scale = 0.001f + Math.Abs(scale) / 50;
        return scales;
    }

    private DeviceBuffer Codes(int seed, int n)
    {
        DeviceBuffer codes = _device.Allocate(DType.I8, n, "test");
        new Random(seed).NextBytes(new Span<byte>((byte*)codes.Tensor.Address, n));
        return codes;
    }

    private static float[] Floats(DeviceBuffer buffer) => buffer.Tensor.ToArray<float>();
}
