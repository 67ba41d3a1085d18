// What a suite needs of the device it runs on. One abstract suite per op; subclasses only name the device: the CPU here, ILGPU's in Gpu/GpuSuites.cs.
using System.Runtime.InteropServices;
using IptNative.Kernels.Devices;
using Xunit;

namespace IptNative.Kernels.Tests;

/// <summary>Makes a device.</summary>
public interface ITestDevice
{
    static abstract ComputeDevice Create(int threads);
}

public sealed class CpuTestDevice : ITestDevice
{
    public static ComputeDevice Create(int threads) => new CpuDevice(threads);
}

/// <summary>Sizes shared by the suites.</summary>
public static class OpSizes
{
    /// <summary>Around every vector width, and two real ones.</summary>
    public static TheoryData<int> Widths => [1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 768, 1024];
}

/// <summary>Seeded test data.</summary>
public static class Numbers
{
    /// <summary>Normal numbers of mean 0 and standard deviation <paramref name="scale"/>.</summary>
    public static float[] Normal(int n, int seed, double scale = 1)
    {
        var random = new Random(seed);
        var x = new float[n];
        for (int i = 0; i < n; i++)
            x[i] = (float)(scale * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        return x;
    }
}

/// <summary>Base of the suites: a device, buffers that die with the test, seeded data, and shared sizes.</summary>
public abstract class OpTests<TDevice> : IDisposable
    where TDevice : ITestDevice
{
    private readonly List<DeviceBuffer> _buffers = [];

    protected ComputeDevice Device { get; private set; } = TDevice.Create(2);

    /// <summary>Runs the same work on 1 and on 2 threads and returns both results.</summary>
    protected (float[] One, float[] Two) OnOneAndTwoThreads(Func<float[]> work)
    {
        Restart(1);
        float[] one = work();
        Restart(2);
        return (one, work());
    }

    protected Tensor Upload(float[] data) => Upload(data, DType.F32);

    protected Tensor Upload(double[] data) => Upload(data, DType.F64);

    protected Tensor Upload(int[] data) => Upload(data, DType.I32);

    protected Tensor Upload(ushort[] data, DType type) => Upload<ushort>(data, type);

    /// <summary>Memory filled with NaN, so that what a kernel forgets to write is seen.</summary>
    protected Tensor Empty(long elements) => Upload(Enumerable.Repeat(float.NaN, (int)elements).ToArray());

    protected static float[] Download(Tensor tensor) => Download<float>(tensor);

    protected static T[] Download<T>(Tensor tensor)
        where T : unmanaged
    {
        var data = new T[tensor.Elements];
        tensor.Device.CopyToHost(tensor, MemoryMarshal.AsBytes(data.AsSpan()));
        return data;
    }

    /// <summary>Normal numbers; the seed is part of the test's name or fixed.</summary>
    protected static float[] Normal(int n, int seed, double scale = 1) => Numbers.Normal(n, seed, scale);

    /// <summary>What an op says of ids, lengths or places out of range: at once on the CPU, when one waits for it on a GPU.</summary>
    protected ArgumentException Refusal(Action op) => Assert.Throws<ArgumentException>(() =>
    {
        op();
        Device.Synchronize();
    });

    protected static double[] Widen(float[] x) => Array.ConvertAll(x, v => (double)v);

    protected Tensor Upload<T>(T[] data, DType type)
        where T : unmanaged
    {
        DeviceBuffer buffer = Device.Allocate(type, Math.Max(1, data.Length), "test data");
        _buffers.Add(buffer);
        Tensor tensor = buffer.Tensor.Slice(0, data.Length);
        Device.CopyFromHost(MemoryMarshal.AsBytes(data.AsSpan()), tensor);
        return tensor;
    }

    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _buffers)
            buffer.Dispose();
        Device.Dispose();
        GC.SuppressFinalize(this);
    }

    private void Restart(int threads)
    {
        foreach (DeviceBuffer buffer in _buffers)
            buffer.Dispose();
        _buffers.Clear();
        Device.Dispose();
        Device = TDevice.Create(threads);
    }
}

/// <summary>A device that no op knows.</summary>
internal sealed class ForeignDevice : ComputeDevice
{
    public override string Name => "abacus";

    public override DeviceBuffer Allocate(DType type, long elements, string purpose) => throw new InsufficientMemoryException(purpose);

    public override void CopyFromHost(ReadOnlySpan<byte> source, Tensor target) => throw new NotSupportedException("An abacus is set by hand.");

    public override void CopyToHost(Tensor source, Span<byte> target) => throw new NotSupportedException("An abacus is read by eye.");

    protected override void Dispose(bool disposing)
    {
    }
}
