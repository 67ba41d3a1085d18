using IptNative.Kernels.Devices;
using IptNative.Optimizers;
using IptNative.Tuning.PTuning;
using Xunit;

namespace IptNative.Tuning.Tests.PTuning;

/// <summary>The whole encoder against plain loops in double, whose gradient is taken by central differences.</summary>
public sealed class PromptEncoderTests
{
    [Theory]
    [InlineData(PromptEncoderKind.Lstm, 5, 7, 6, 2)]
    [InlineData(PromptEncoderKind.Lstm, 1, 3, 4, 1)]
    [InlineData(PromptEncoderKind.Lstm, 3, 4, 9, 2)]
    [InlineData(PromptEncoderKind.Mlp, 4, 9, 5, 1)]
    public void IsTheReferenceForwardAndBackward(PromptEncoderKind kind, int rows, int dModel, int hidden, int layers)
    {
        using var device = new CpuDevice(2);
        var shape = new PromptEncoderShape(kind, rows, dModel, hidden, layers);
        float[] embedding = Draw(rows * dModel, 3), dPrompt = Draw(rows * dModel, 4);
        using var encoder = new PromptEncoder(device, shape, embedding, seed: 7);
        Dictionary<string, double[]> weights = encoder.Parameters.ToDictionary(p => p.Name, p => Array.ConvertAll(p.Value.ToArray<float>(), x => (double)x));
        Assert.Equal(Array.ConvertAll(embedding, x => (double)x), weights["embedding.weight"]);

        using DeviceBuffer prompt = device.Allocate(Kernels.DType.F32, rows * dModel, "test"), gradient = device.Allocate(Kernels.DType.F32, rows * dModel, "test");
        gradient.Tensor.CopyFrom<float>(dPrompt);
        encoder.Forward(prompt.Tensor);
        double[] expected = Reference(shape, weights);
        // Some tens of float operations one after another on numbers of about 1.
        Close(expected, prompt.Tensor.ToArray<float>(), 2e-6, "prompt");

        // Twice: a step leaves nothing behind for the next one.
        for (int pass = 0; pass < 2; pass++)
        {
            encoder.Forward(prompt.Tensor);
            encoder.Backward(gradient.Tensor);
        }
        foreach (Parameter parameter in encoder.Parameters)
        {
            double[] values = weights[parameter.Name];
            double[] slopes = new double[values.Length];
            for (int i = 0; i < values.Length; i++)
            {
                // The difference's own error: 1e-10 from its curvature, 1e-16 / 1e-5 from rounding. Within relu's bend both sides differ; none lies there by the seed.
                const double H = 1e-5;
                double at = values[i];
                values[i] = at + H;
                double above = Dot(Reference(shape, weights), dPrompt);
                values[i] = at - H;
                double below = Dot(Reference(shape, weights), dPrompt);
                values[i] = at;
                slopes[i] = (above - below) / (2 * H);
            }
            Close(slopes, parameter.Gradient.ToArray<float>(), 1e-5 * (1 + slopes.Max(Math.Abs)), parameter.Name);
        }
    }

    [Fact]
    public void NamesAndSizesArePeftsAndTheSeedDecides()
    {
        using var device = new CpuDevice(1);
        var shape = new PromptEncoderShape(PromptEncoderKind.Lstm, 2, 3, 4, 2);
        using var one = new PromptEncoder(device, shape, new float[6], seed: 1);
        using var same = new PromptEncoder(device, shape, new float[6], seed: 1);
        using var other = new PromptEncoder(device, shape, new float[6], seed: 2);
        Assert.Equal(
            [
                "embedding.weight [2, 3]", "lstm_head.weight_ih_l0 [16, 3]", "lstm_head.weight_hh_l0 [16, 4]", "lstm_head.bias_ih_l0 [16]", "lstm_head.bias_hh_l0 [16]",
                "lstm_head.weight_ih_l0_reverse [16, 3]", "lstm_head.weight_hh_l0_reverse [16, 4]", "lstm_head.bias_ih_l0_reverse [16]", "lstm_head.bias_hh_l0_reverse [16]",
                "lstm_head.weight_ih_l1 [16, 8]", "lstm_head.weight_hh_l1 [16, 4]", "lstm_head.bias_ih_l1 [16]", "lstm_head.bias_hh_l1 [16]",
                "lstm_head.weight_ih_l1_reverse [16, 8]", "lstm_head.weight_hh_l1_reverse [16, 4]", "lstm_head.bias_ih_l1_reverse [16]", "lstm_head.bias_hh_l1_reverse [16]",
                "mlp_head.0.weight [8, 8]", "mlp_head.0.bias [8]", "mlp_head.2.weight [3, 8]", "mlp_head.2.bias [3]",
            ],
            one.Parameters.Select(p => $"{p.Name} {p.Shape}"));
        for (int i = 1; i < one.Parameters.Count; i++)
        {
            Assert.Equal(one.Parameters[i].Value.ToArray<float>(), same.Parameters[i].Value.ToArray<float>());
            Assert.NotEqual(one.Parameters[i].Value.ToArray<float>(), other.Parameters[i].Value.ToArray<float>());
        }
        Assert.Contains("hidden 0", Assert.Throws<ArgumentException>(() => new PromptEncoder(device, shape with { Hidden = 0 }, new float[6], 1)).Message, StringComparison.Ordinal);
        Assert.Contains("found 5 embedding numbers, expected 2 rows of 3", Assert.Throws<ArgumentException>(() => new PromptEncoder(device, shape, new float[5], 1)).Message, StringComparison.Ordinal);
    }

    private static double[] Reference(PromptEncoderShape s, Dictionary<string, double[]> w)
    {
        double[][] x = Rows(w["embedding.weight"], s.DModel);
        if (s.Kind == PromptEncoderKind.Mlp)
            return [.. x.SelectMany(r => Dense(Relu(Dense(Relu(Dense(r, w, "mlp_head.0")), w, "mlp_head.2")), w, "mlp_head.4"))];
        for (int l = 0; l < s.Layers; l++)
        {
            double[][] forward = Lstm(x, w, $"_l{l}", s.Hidden), backward = Lstm([.. x.Reverse()], w, $"_l{l}_reverse", s.Hidden);
            x = [.. forward.Zip(backward.Reverse(), (a, b) => (double[])[.. a, .. b])];
        }
        return [.. x.SelectMany(r => Dense(Relu(Dense(r, w, "mlp_head.0")), w, "mlp_head.2"))];
    }

    private static double[][] Lstm(double[][] x, Dictionary<string, double[]> w, string suffix, int h)
    {
        double[] cell = new double[h], y = new double[h];
        var all = new double[x.Length][];
        for (int t = 0; t < x.Length; t++)
        {
            double[] a = Dense(x[t], w[$"lstm_head.weight_ih{suffix}"], w[$"lstm_head.bias_ih{suffix}"]), b = Dense(y, w[$"lstm_head.weight_hh{suffix}"], w[$"lstm_head.bias_hh{suffix}"]);
            var next = new double[h];
            for (int i = 0; i < h; i++)
            {
                double Sum(int gate) => a[gate * h + i] + b[gate * h + i];
                static double Sigmoid(double v) => 1 / (1 + Math.Exp(-v));
                cell[i] = Sigmoid(Sum(1)) * cell[i] + Sigmoid(Sum(0)) * Math.Tanh(Sum(2));
                next[i] = Sigmoid(Sum(3)) * Math.Tanh(cell[i]);
            }
            all[t] = y = next;
        }
        return all;
    }

    private static double[] Dense(double[] x, Dictionary<string, double[]> w, string name) => Dense(x, w[$"{name}.weight"], w[$"{name}.bias"]);

    private static double[] Dense(double[] x, double[] weight, double[] bias) => [.. bias.Select((b, o) => b + x.Select((v, i) => v * weight[o * x.Length + i]).Sum())];

    private static double[] Relu(double[] x) => Array.ConvertAll(x, v => Math.Max(0, v));

    private static double[][] Rows(double[] x, int width) => [.. x.Chunk(width)];

    private static double Dot(double[] x, float[] y) => x.Zip(y, (a, b) => a * b).Sum();

    private static float[] Draw(int n, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, n).Select(_ => (float)(2 * random.NextDouble() - 1))];
    }

    private static void Close(double[] expected, float[] actual, double tolerance, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(expected[i] - actual[i]) <= tolerance, $"{what}[{i}]: {actual[i]}, expected {expected[i]} within {tolerance}");
    }
}
