// The optimizers' updates on ILGPU devices against the CPU's, which Optimizers.Tests holds to PyTorch's and T5X's.
using System.Runtime.InteropServices;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests.Gpu;

public abstract class UpdateTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    private static readonly AdafactorCoefficients Adafactor = new(0.9f, 0.1f, 1e-30f, 1f, 0.3f, 0.99f, -0.01f);

    [Theory]
    [InlineData(1)]
    [InlineData(33)]
    [InlineData(768)]
    public void AdamWIsTheCpus(int n)
    {
        var c = new AdamWCoefficients(0.99f, 0.9f, 0.1f, 0.999f, 0.001f, 0.7f, 1e-8f, 0.3f, -0.01f);
        float[] g = Normal(n, 1), m = Normal(n, 2), v = [.. Normal(n, 3).Select(x => x * x)], p = Normal(n, 4);
        Compare([g, m, v, p], 4, (device, t) => AdamWUpdate.Run(device, t[0], t[1], t[2], t[3], n, c), "AdamW");
    }

    [Theory]
    [InlineData(1, 33)]
    [InlineData(7, 5)]
    [InlineData(40, 96)]
    public void AdafactorWithTheWholeMomentIsTheCpus(int rows, int columns)
    {
        int n = rows * columns;
        float[] g = Normal(n, 1), v = [.. Normal(n, 3).Select(x => x * x)], p = Normal(n, 4);
        Compare([g, v, p], 8, (device, t) => AdafactorUpdate.RunFull(device, t[0], t[1], t[2], Doubles(device, rows + columns), rows, columns, Adafactor), "Adafactor, whole moment");
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(7, 5)]
    [InlineData(100, 33)]
    public void FactoredAdafactorIsTheCpus(int rows, int columns)
    {
        float[] g = Normal(rows * columns, 1), r = [.. Normal(rows, 2).Select(x => x * x + 0.1f)], c = [.. Normal(columns, 3).Select(x => x * x + 0.1f)], p = Normal(rows * columns, 4);
        Compare([g, r, c, p], 8, (device, t) => AdafactorUpdate.RunFactored(device, t[0], t[1], t[2], t[3], Doubles(device, rows + columns), On(device, new float[rows + columns]), rows, columns, Adafactor), "Adafactor, factored");
    }

    [Fact]
    public void ABrokenGradientBreaksTheParameter()
    {
        float[] g = Normal(50, 1);
        g[7] = float.NaN;
        Tensor p = Upload(Normal(50, 2));
        AdafactorUpdate.RunFull(Device, Upload(g), Upload(new float[50]), p, Doubles(Device, 15), 5, 10, Adafactor);
        Assert.All(Download(p), v => Assert.True(float.IsNaN(v)));
    }

    private readonly List<DeviceBuffer> _elsewhere = [];

    // Elementwise and fused or not: a few roundings, of the largest number.
    private void Compare(float[][] data, double c, Action<ComputeDevice, Tensor[]> step, string what)
    {
        using var cpu = new CpuDevice(1);
        Tensor[] expected = [.. data.Select(x => On(cpu, x))], actual = [.. data.Select(x => On(Device, x))];
        step(cpu, expected);
        step(Device, actual);
        for (int i = 0; i < data.Length; i++)
            TensorAssert.CloseToLargest(Widen(Download(expected[i])), Download(actual[i]), c, $"{what}, tensor {i}");
        foreach (DeviceBuffer buffer in _elsewhere)
            buffer.Dispose();
        _elsewhere.Clear();
    }

    private Tensor On(ComputeDevice device, float[] data)
    {
        if (device == Device)
            return Upload(data);
        DeviceBuffer buffer = device.Allocate(DType.F32, data.Length, "test data");
        _elsewhere.Add(buffer);
        device.CopyFromHost(MemoryMarshal.AsBytes(data.AsSpan()), buffer.Tensor);
        return buffer.Tensor;
    }

    private Tensor Doubles(ComputeDevice device, int n)
    {
        if (device == Device)
            return Upload(new double[n]);
        DeviceBuffer buffer = device.Allocate(DType.F64, n, "test data");
        _elsewhere.Add(buffer);
        return buffer.Tensor;
    }
}

public sealed class IlgpuUpdateTests : UpdateTests<IlgpuTestDevice>;
