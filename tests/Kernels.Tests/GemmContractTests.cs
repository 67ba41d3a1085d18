// What holds for the matrix product on any machine: refusals, no allocation, use from several threads and from inside a body, stored formats.
using System.Runtime.InteropServices;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests;

public sealed class GemmContractTests
{
    [Fact]
    public void RefusesWhatDoesNotFitAndSaysWhy()
    {
        using var device = new CpuDevice(1);
        using var other = new CpuDevice(1);
        using DeviceBuffer small = device.Allocate(DType.F32, 6, "test"), large = device.Allocate(DType.F32, 100, "test"), integers = device.Allocate(DType.I8, 100, "test"), bytes = device.Allocate(DType.U8, 100, "test");
        var args = new GemmArgs { A = small.Tensor, B = large.Tensor, C = large.Tensor, M = 2, N = 5, K = 4 };
        Assert.Equal("Gemm: A is stored [2, 4] with row step 4 in 1 batches (C[2, 5] from A[2, 4] B[4, 5]) and needs 8 elements, found 6.", Refusal(device, args));
        Assert.Equal("Gemm: found C[0, 5] from A[0, 4] B[4, 5], expected M, N and K of 1 or more.", Refusal(device, args with { M = 0 }));
        Assert.Equal("Gemm: found 6 batches in groups of 4, expected 1 or more and whole groups.", Refusal(device, args with { A = large.Tensor, Batches = 6, InnerBatches = 4 }));
        Assert.Contains("found a row step of 3 and batch strides (0, 0); expected a step of 4 or more", Refusal(device, args with { A = large.Tensor, LdA = 3 }));
        Assert.Equal("Gemm: A lies on cpu, expected cpu, the device it runs on.", Refusal(other, args));
        Assert.Equal("Gemm: found B u8, expected f32, bf16, f16, i8 or u4.", Refusal(device, args with { A = large.Tensor, B = bytes.Tensor }));
        Assert.Equal("Gemm: found A i8 and C f32, expected f32 or bf16 for A and f32 for C.", Refusal(device, args with { A = integers.Tensor }));
        using var foreign = new ForeignDevice();
        Tensor elsewhere = large.Tensor with { Device = foreign };
        Assert.Contains("found device 'abacus'", Assert.Throws<NotSupportedException>(() => Gemm.Run(foreign, args with { A = elsewhere, B = elsewhere, C = elsewhere })).Message);
        Assert.Contains("C's rows or batch entries overlap", Refusal(device, args with { A = large.Tensor, Batches = 2, StrideC = new(9, 0) }));
    }

    [Fact]
    public void AllocatesNothing()
    {
        using var device = new CpuDevice(1);
        using var serial = new GemmCase(device, 1, 20, 30, 40, false, true, false);
        using var blocked = new GemmCase(device, 1, 300, 100, 400, false, false, false);
        Gemm.Run(device, serial.Args);
        Gemm.Run(device, blocked.Args);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10; i++)
        {
            Gemm.Run(device, serial.Args);
            Gemm.Run(device, blocked.Args);
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void ThreadsThatCallAtTheSameTimeTakeTurns()
    {
        using var device = new CpuDevice(3);
        var failures = new List<Exception>();
        var threads = new Thread[4];
        for (int i = 0; i < threads.Length; i++)
        {
            int seed = i;
            threads[i] = new Thread(() =>
            {
                try
                {
                    using var shared = new GemmCase(device, seed, 250, 140, 300, false, seed % 2 == 0, false);
                    using var piecewise = new GemmCase(device, seed, 40, 140, 300, false, seed % 2 == 0, false);
                    for (int round = 0; round < 10; round++)
                    {
                        shared.Reset();
                        Gemm.Run(device, shared.Args);
                        Gemm.Run(device, piecewise.Args);
                    }
                    shared.AssertCorrect("shared");
                    piecewise.AssertCorrect("piecewise");
                }
                catch (Exception e)
                {
                    lock (failures)
                        failures.Add(e);
                }
            });
            threads[i].Start();
        }
        foreach (Thread thread in threads)
            thread.Join();
        Assert.Empty(failures);
    }

    [Fact]
    public void WorksInsideAnotherOpsBody()
    {
        using var device = new CpuDevice(3);
        using var product = new GemmCase(device, 1, 250, 140, 300, false, true, false);
        var body = new Nested { Product = GCHandle.Alloc(product), Device = GCHandle.Alloc(device) };
        device.Pool.Run(5, ref body);
        body.Product.Free();
        body.Device.Free();
        product.AssertCorrect("nested");
    }

    [Fact]
    public void PeakIsPositiveAndAsksForTime()
    {
        using var device = new CpuDevice(1);
        Assert.True(FmaPeak.Measure(device, 0.001) > 0);
        Assert.Throws<ArgumentOutOfRangeException>(() => FmaPeak.Measure(device, 0));
    }

    private static string Refusal(CpuDevice device, GemmArgs args) => Assert.Throws<ArgumentException>(() => Gemm.Run(device, args)).Message;

    private struct Nested : IParallelBody
    {
        public GCHandle Product;
        public GCHandle Device;

        // Only one piece writes C; the others make sure that several threads are inside.
        public readonly void Invoke(int task, int worker)
        {
            if (task == 2)
                Gemm.Run((CpuDevice)Device.Target!, ((GemmCase)Product.Target!).Args);
        }
    }
}
