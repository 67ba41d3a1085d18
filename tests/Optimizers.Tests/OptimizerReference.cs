// The optimizers in double, written from the papers' and PyTorch's formulas, one element after the other; and tensors to run ours on.
using IptNative.Kernels;
using IptNative.Kernels.Devices;

namespace IptNative.Optimizers.Tests;

internal static class OptimizerReference
{
    /// <summary>Adafactor over [rows, columns]; <paramref name="v"/> holds rows then columns where factored, else all.</summary>
    public static void Adafactor(double[] p, float[] g, double[] v, int rows, int columns, bool factored, double beta2, double lr, double keep)
    {
        var y = new double[p.Length];
        double mean = 0;
        if (factored)
        {
            for (int i = 0; i < rows; i++)
            {
                double sum = 0;
                for (int j = 0; j < columns; j++)
                    sum += (double)g[i * columns + j] * g[i * columns + j] + 1e-30;
                v[i] = beta2 * v[i] + (1 - beta2) * sum / columns;
                mean += v[i] / rows;
            }
            for (int j = 0; j < columns; j++)
            {
                double sum = 0;
                for (int i = 0; i < rows; i++)
                    sum += (double)g[i * columns + j] * g[i * columns + j] + 1e-30;
                v[rows + j] = beta2 * v[rows + j] + (1 - beta2) * sum / rows;
            }
        }
        double squares = 0;
        for (int i = 0; i < p.Length; i++)
        {
            if (!factored)
                v[i] = beta2 * v[i] + (1 - beta2) * ((double)g[i] * g[i] + 1e-30);
            y[i] = g[i] / (factored ? Math.Sqrt(v[i / columns] / mean) * Math.Sqrt(v[rows + i % columns]) : Math.Sqrt(v[i]));
            squares += y[i] * y[i];
        }
        double divisor = Math.Max(1, Math.Sqrt(squares / p.Length));
        for (int i = 0; i < p.Length; i++)
            p[i] = keep * p[i] - lr * y[i] / divisor;
    }

    /// <summary>torch.optim.AdamW, or transformers.AdamW.</summary>
    public static void AdamW(double[] p, float[] g, double[] m, double[] v, int t, double lr, double decay, bool huggingFace, bool correctBias)
    {
        double bias1 = correctBias ? 1 - Math.Pow(0.9, t) : 1, bias2 = correctBias ? 1 - Math.Pow(0.999, t) : 1;
        for (int i = 0; i < p.Length; i++)
        {
            m[i] = 0.9 * m[i] + 0.1 * g[i];
            v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
            if (huggingFace)
            {
                p[i] -= lr * Math.Sqrt(bias2) / bias1 * m[i] / (Math.Sqrt(v[i]) + 1e-8);
                p[i] -= lr * decay * p[i];
            }
            else
            {
                p[i] -= lr * decay * p[i];
                p[i] -= lr / bias1 * m[i] / (Math.Sqrt(v[i]) / Math.Sqrt(bias2) + 1e-8);
            }
        }
    }
}

/// <summary>A parameter with its memory.</summary>
internal sealed unsafe class TestParameter : IDisposable
{
    private readonly DeviceBuffer _value, _gradient;

    public TestParameter(CpuDevice device, string name, params ReadOnlySpan<long> dims)
    {
        var shape = new TensorShape(dims);
        _value = device.Allocate(DType.F32, shape.Elements, name);
        _gradient = device.Allocate(DType.F32, shape.Elements, name);
        Parameter = new Parameter(name, shape, _value.Tensor, _gradient.Tensor);
    }

    public Parameter Parameter { get; }

    public Span<float> Value => Span(Parameter.Value);

    public Span<float> Gradient => Span(Parameter.Gradient);

    public static Span<float> Span(Tensor tensor) => new((float*)tensor.Address, (int)tensor.Elements);

    /// <summary>Gradients over some orders of magnitude, as real ones are.</summary>
    public static float[] Random(Random random, int n, double spread = 3)
    {
        var x = new float[n];
        for (int i = 0; i < n; i++)
            x[i] = (float)((random.NextDouble() * 2 - 1) * Math.Pow(10, (random.NextDouble() - 0.5) * spread));
        return x;
    }

    public void Dispose()
    {
        _value.Dispose();
        _gradient.Dispose();
    }
}
