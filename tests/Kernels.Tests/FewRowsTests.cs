// Products of few rows against double loops at every vector width, and what a step builds on: a row's bits are its own.
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests;

public sealed class FewRows512Tests() : FewRowsTests(FewRows.RunWith<F32x16>);

public sealed class FewRows256Tests() : FewRowsTests(FewRows.RunWith<F32x8>);

public sealed class FewRows128Tests() : FewRowsTests(FewRows.RunWith<F32x4>);

public sealed class FewRowsScalarTests() : FewRowsTests(FewRows.RunWith<F32x1>);

/// <summary>As callers call it: the widest vector that the machine has.</summary>
public sealed class FewRowsWidestTests() : FewRowsTests((CpuDevice device, in GemmArgs args) => FewRows.Run(device, args))
{
    [Fact]
    public void AllocatesNothing()
    {
        using var device = new CpuDevice(2);
        foreach (DType type in (DType[])[DType.F32, DType.F16])
        {
            foreach (ComputeType compute in Enum.GetValues<ComputeType>())
            {
                using var product = new GemmCase(device, 1, 9, 300, 400, false, true, false, typeB: type, compute: compute);
                FewRows.Run(device, product.Args);
                long before = GC.GetAllocatedBytesForCurrentThread();
                for (int i = 0; i < 10; i++)
                    FewRows.Run(device, product.Args);
                Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
            }
        }
    }

    [Fact]
    public void WhatItDoesNotDoIsRefused()
    {
        using var device = new CpuDevice(1);
        using var plain = new GemmCase(device, 1, 3, 5, 7, false, false, false);
        using var across = new GemmCase(device, 1, 3, 5, 7, true, true, false);
        using var half = new GemmCase(device, 1, 3, 5, 7, false, true, false, typeA: DType.BF16);
        using var many = new GemmCase(device, 1, 3, 5, 7, false, true, false, batches: 2, strideA: new(21, 0), strideC: new(15, 0));
        foreach ((GemmCase refused, string found) in ((GemmCase, string)[])[(plain, "found A B, A f32, 1 batches"), (across, "found A^T B^T"), (half, "A bf16"), (many, "2 batches")])
            Assert.Contains(found, Assert.Throws<ArgumentException>(() => FewRows.Run(device, refused.Args)).Message, StringComparison.Ordinal);
        Assert.Contains("expected M, N and K of 1 or more", Assert.Throws<ArgumentException>(() => FewRows.Run(device, across.Args with { M = 0 })).Message, StringComparison.Ordinal);
    }
}

public abstract unsafe class FewRowsTests : IDisposable
{
    private static readonly int[] Rows = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 33];
    private static readonly int[] Columns = [1, 2, 3, 4, 5, 8, 15, 33];
    private static readonly int[] Depths = [1, 3, 4, 15, 16, 17, 31, 32, 33, 100];
    private readonly CpuDevice _device = new(3);
    private readonly Product _product;

    private protected FewRowsTests(Product product) => _product = product;

    private protected delegate void Product(CpuDevice device, in GemmArgs args);

    public void Dispose()
    {
        _device.Dispose();
        GC.SuppressFinalize(this);
    }

    [Theory]
    [InlineData(DType.F32, ComputeType.F32)]
    [InlineData(DType.BF16, ComputeType.F32)]
    [InlineData(DType.F16, ComputeType.F32)]
    [InlineData(DType.F32, ComputeType.BF16)]
    [InlineData(DType.BF16, ComputeType.BF16)]
    [InlineData(DType.F16, ComputeType.BF16)]
    public void AgreesWithTheFormulaAtOddSizes(DType type, ComputeType compute)
    {
        int seed = 0;
        foreach (int m in Rows)
        {
            foreach (int n in Columns)
            {
                foreach (int k in Depths)
                {
                    seed++;
                    using var product = new GemmCase(_device, seed, m, n, k, false, true, accumulate: seed % 2 == 0, alpha: seed % 3 == 0 ? -0.75f : 1, slack: seed % 4, typeB: type, compute: compute);
                    _product(_device, product.Args);
                    product.AssertCorrect($"{type} in {compute}");
                }
            }
        }
    }

    // Deep and wide enough for several pieces of work.
    [Theory]
    [InlineData(8, 768, 768)]
    [InlineData(5, 131, 2049)]
    [InlineData(1, 1030, 513)]
    public void AgreesWithTheFormulaAtRealSizes(int m, int n, int k)
    {
        foreach (DType type in (DType[])[DType.F32, DType.BF16, DType.F16])
        {
            using var product = new GemmCase(_device, 5, m, n, k, false, true, accumulate: true, alpha: 0.5f, typeB: type);
            _product(_device, product.Args);
            product.AssertCorrect($"{type}");
        }
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    [InlineData(DType.I8)]
    [InlineData(DType.U4)]
    public void ARowsBitsAreItsOwn(DType type)
    {
        const int Most = 33, Outer = 301, Inner = 448;
        using var here = new StoredTensors(_device);
        Tensor w = here.Matrix(type, Outer, Inner, 32, seed: 7), x = here.Random(Most * Inner, 8), all = here.Take(Most * Outer), some = here.Take(Most * Outer);
        foreach (ComputeType compute in Enum.GetValues<ComputeType>())
        {
            var args = new GemmArgs { A = x, B = w, C = all, M = Most, N = Outer, K = Inner, TransB = true, Compute = compute };
            _product(_device, args);
            foreach (int rows in (int[])[1, 2, 3, 5, 8, 13])
            {
                int first = Most - rows;
                _product(_device, args with { A = x.Slice(first * Inner, rows * Inner), C = some, M = rows });
                TensorAssert.SameBits(StoredTensors.Floats(all).AsSpan(first * Outer), StoredTensors.Floats(some).AsSpan(0, rows * Outer), $"{rows} rows of {type} in {compute}");
            }
            foreach (int threads in (int[])[1, 2, 5])
            {
                using var other = new CpuDevice(threads);
                using var there = new StoredTensors(other);
                Tensor c = there.Take(Most * Outer);
                _product(other, args with { A = there.Random(Most * Inner, 8), B = there.Matrix(type, Outer, Inner, 32, seed: 7), C = c });
                TensorAssert.SameBits(StoredTensors.Floats(all), StoredTensors.Floats(c), $"{threads} threads, {type} in {compute}");
            }
        }
    }

    // Blocks of 64, of 16, and one scale a row at an odd length.
    [Theory]
    [InlineData(DType.I8, 37, 192, 64)]
    [InlineData(DType.I8, 50, 48, 16)]
    [InlineData(DType.I8, 33, 37, 37)]
    [InlineData(DType.U4, 37, 192, 32)]
    [InlineData(DType.BF16, 37, 100, 0)]
    [InlineData(DType.F16, 37, 100, 0)]
    public void ProductsAreThoseOfTheExpandedMatrix(DType type, int outer, int inner, int block)
    {
        using var tensors = new StoredTensors(_device);
        Tensor w = tensors.Matrix(type, outer, inner, block, seed: outer), expanded = tensors.Take(outer * inner);
        if (w.Scales.IsPresent)
            Dequantisation.Forward(_device, w, expanded);
        else
            Conversion.ToF32(_device, w, expanded, outer * inner);
        foreach (int rows in (int[])[1, 2, 4, 5, 19])
        {
            Tensor x = tensors.Random(rows * inner, rows), stored = tensors.Take(rows * outer), plain = tensors.Take(rows * outer);
            foreach (ComputeType compute in Enum.GetValues<ComputeType>())
            {
                var args = new GemmArgs { A = x, B = w, C = stored, M = rows, N = outer, K = inner, TransB = true, Compute = compute };
                args.Validate(_device);
                _product(_device, args);
                _product(_device, args with { B = expanded, C = plain });
                TensorAssert.SameBits(StoredTensors.Floats(plain), StoredTensors.Floats(stored), $"{rows} rows of {type} in {compute}");
            }
        }
    }

    [Fact]
    public void InfinityAndNaNComeOutWhereTheyWentIn()
    {
        using var tensors = new StoredTensors(_device);
        const int Rows = 6, Outer = 9, Inner = 40;
        Tensor x = tensors.Random(Rows * Inner, 1), w = tensors.Random(Outer * Inner, 2), y = tensors.Take(Rows * Outer);
        ((float*)x.Address)[2 * Inner + 37] = float.NaN;
        ((float*)x.Address)[4 * Inner + 3] = float.PositiveInfinity;
        _product(_device, new GemmArgs { A = x, B = w, C = y, M = Rows, N = Outer, K = Inner, TransB = true });
        float[] made = StoredTensors.Floats(y);
        for (int i = 0; i < made.Length; i++)
        {
            bool right = (i / Outer) switch { 2 => float.IsNaN(made[i]), 4 => float.IsInfinity(made[i]), _ => float.IsFinite(made[i]) };
            Assert.True(right, $"row {i / Outer}: {made[i]}");
        }
    }
}
