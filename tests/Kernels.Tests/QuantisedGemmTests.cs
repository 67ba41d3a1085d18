// Products with quantised matrices: bit for bit those with the expanded matrix, in every micro-kernel, since packing hands both the same floats.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests;

public sealed unsafe class QuantisedGemmTests : IDisposable
{
    private readonly CpuDevice _device = new(2);
    private readonly StoredTensors _tensors;

    public QuantisedGemmTests() => _tensors = new StoredTensors(_device);

    private delegate void Product(CpuDevice device, in GemmArgs args);

    public void Dispose()
    {
        _tensors.Dispose();
        _device.Dispose();
    }

    [Theory]
    [InlineData(DType.I8, 50, 37, 37)]
    [InlineData(DType.I8, 33, 48, 16)]
    [InlineData(DType.I8, 97, 320, 64)]
    [InlineData(DType.U4, 33, 64, 32)]
    [InlineData(DType.U4, 97, 320, 32)]
    [InlineData(DType.U4, 800, 576, 32)]
    public void ProductsAreThoseOfTheExpandedMatrix(DType type, int outer, int inner, int block)
    {
        Tensor w = _tensors.Matrix(type, outer, inner, block, seed: outer + inner);
        Tensor expanded = _tensors.Take((long)outer * inner);
        Dequantisation.Forward(_device, w, expanded);
        Assert.Equal(Expected(w), StoredTensors.Floats(expanded));

        foreach (Product product in (Product[])[Gemm.RunWith<MicroKernel512>, Gemm.RunWith<MicroKernel256>, Gemm.RunWith<MicroKernel128>, Gemm.RunWith<MicroKernelScalar>])
        {
            foreach (int rows in (int[])[1, 5, 250])
            {
                foreach (bool transposed in (bool[])[true, false])
                {
                    // y = x W^T and dx = dy W read the same bytes.
                    (int n, int k) = transposed ? (outer, inner) : (inner, outer);
                    Tensor a = _tensors.Random(rows * k, rows + k), plain = _tensors.Take((long)rows * n), packed = _tensors.Take((long)rows * n);
                    var args = new GemmArgs { A = a, B = expanded, C = plain, M = rows, N = n, K = k, TransB = transposed };
                    product(_device, args);
                    args = args with { B = w, C = packed };
                    args.Validate(_device);
                    product(_device, args);
                    Assert.Equal(StoredTensors.Floats(plain), StoredTensors.Floats(packed));
                }
            }
        }
    }

    [Theory]
    [InlineData(DType.I8, 64)]
    [InlineData(DType.U4, 32)]
    public void BF16ProductsAreThoseOfTheExpandedMatrix(DType type, int block)
    {
        const int Outer = 200, Inner = 832, Rows = 300;
        Tensor w = _tensors.Matrix(type, Outer, Inner, block, seed: 3);
        Tensor expanded = _tensors.Take((long)Outer * Inner);
        Dequantisation.Forward(_device, w, expanded);
        foreach (bool transposed in (bool[])[true, false])
        {
            (int n, int k) = transposed ? (Outer, Inner) : (Inner, Outer);
            Tensor a = _tensors.Random(Rows * k, 1), plain = _tensors.Take((long)Rows * n), packed = _tensors.Take((long)Rows * n);
            var args = new GemmArgs { A = a, B = expanded, C = plain, M = Rows, N = n, K = k, TransB = transposed, Compute = ComputeType.BF16 };
            Gemm.Run(_device, args);
            Gemm.Run(_device, args with { B = w, C = packed });
            Assert.Equal(StoredTensors.Floats(plain), StoredTensors.Floats(packed));
        }
    }

    [Fact]
    public void SharesTheOperandAcrossTheBatch()
    {
        const int Batches = 3, Rows = 20, Outer = 50, Inner = 64;
        Tensor w = _tensors.Matrix(DType.U4, Outer, Inner, 32, seed: 4), a = _tensors.Random(Batches * Rows * Inner, 5), c = _tensors.Take(Batches * Rows * Outer), one = _tensors.Take(Rows * Outer);
        var args = new GemmArgs { A = a, B = w, C = c, M = Rows, N = Outer, K = Inner, TransB = true, Batches = Batches, StrideA = new(Rows * Inner, 0), StrideC = new(Rows * Outer, 0) };
        Gemm.Run(_device, args);
        for (int i = 0; i < Batches; i++)
        {
            Gemm.Run(_device, args with { A = a.Slice(i * Rows * Inner, Rows * Inner), C = one, Batches = 1 });
            Assert.Equal(StoredTensors.Floats(one), StoredTensors.Floats(c)[(i * Rows * Outer)..((i + 1) * Rows * Outer)]);
        }
    }

    [Fact]
    public void RefusesWhatTheScalesDoNotFit()
    {
        Tensor w = _tensors.Matrix(DType.U4, 40, 64, 32, seed: 1);
        Tensor x = _tensors.Take(64), y = _tensors.Take(64);
        var args = new GemmArgs { A = x, B = w, C = y, M = 1, N = 40, K = 64, TransB = true };
        Refuses(args with { B = w with { Scales = default } }, "without scales");
        Refuses(args with { B = w with { Scales = w.Scales with { ZeroPoints = 0 } } }, "expected i8 with scales, or u4 with scales and zero points");
        Refuses(args with { B = w with { Scales = w.Scales with { RowLength = 40 } } }, "scales for rows of 40 in blocks of 32");
        Refuses(args with { B = w with { Scales = w.Scales with { Block = 24 } } }, "in blocks of 24");
        Refuses(args with { A = _tensors.Take(128), B = w, N = 20, K = 128 }, "scales for rows of 64");
        Assert.Contains("quantised", Assert.Throws<ArgumentException>(() => w.Slice(0, 64)).Message, StringComparison.Ordinal);

        void Refuses(GemmArgs wrong, string message) => Assert.Contains(message, Assert.Throws<ArgumentException>(() => Gemm.Run(_device, wrong)).Message, StringComparison.Ordinal);
    }

    // From the formula, element by element.
    private static float[] Expected(Tensor w)
    {
        BlockScales s = w.Scales;
        var values = new float[w.Elements];
        for (int i = 0; i < values.Length; i++)
        {
            long row = i / s.RowLength, blockOfRow = i % s.RowLength / s.Block;
            float scale = ((float*)s.Address)[row * s.PerRow + blockOfRow];
            int code = ((sbyte*)w.Address)[w.DType == DType.I8 ? i : i / 2];
            if (w.DType == DType.U4)
            {
                byte zero = ((byte*)s.ZeroPoints)[row * ((s.PerRow + 1) / 2) + blockOfRow / 2];
                code = (code >> (i % 2 * 4) & 15) - (zero >> (int)(blockOfRow % 2 * 4) & 15);
            }
            values[i] = code * scale;
        }
        return values;
    }
}
