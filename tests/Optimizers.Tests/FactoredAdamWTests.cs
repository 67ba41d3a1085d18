// The step on factors against AdamW and GradientClipping on the stored gradient.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests;
using Xunit;

namespace IptNative.Optimizers.Tests;

public sealed class FactoredAdamWTests
{
    private const int Count = 3, Outputs = 37, Inputs = 18;

    [Theory]
    [InlineData(AdamWVariant.Torch, 0.01, double.PositiveInfinity)]
    [InlineData(AdamWVariant.HuggingFace, 0.0, 0.1)]
    [InlineData(AdamWVariant.HuggingFace, 0.1, 1e9)]
    public void IsTheClippedStepOnTheStoredGradient(AdamWVariant variant, double decay, double maxNorm)
    {
        using var device = new CpuDevice(2);
        using var layer = new Layer(device);
        using var weight = new TestParameter(device, "W.weight", Outputs, Inputs);
        using var bias = new TestParameter(device, "W.bias", Outputs);
        layer.Weight.CopyTo(weight.Value);
        layer.Bias.CopyTo(bias.Value);
        var options = new AdamWOptions { Variant = variant, WeightDecay = decay };
        using var plain = new AdamW(device, [weight.Parameter, bias.Parameter], options);
        using var factored = new FactoredAdamW(device, layer.Parameters, options);
        Assert.Equal([.. plain.State.Select(s => s.Name)], factored.State.Select(s => s.Name));
        Assert.Equal(plain.Bytes, factored.Bytes);
        for (int t = 1; t <= 8; t++)
        {
            layer.Draw(t);
            weight.Gradient.Clear();
            bias.Gradient.Clear();
            for (int c = 0; c < Count; c++)
            {
                for (int o = 0; o < Outputs; o++)
                {
                    bias.Gradient[o] += layer.Dy[c * Outputs + o];
                    for (int i = 0; i < Inputs; i++)
                        weight.Gradient[o * Inputs + i] += layer.Dy[c * Outputs + o] * layer.X[c * Inputs + i];
                }
            }
            double expected = GradientClipping.Clip(device, plain.Parameters, maxNorm);
            double norm = factored.Step(layer.Factors, Count, 0.01, maxNorm);
            plain.Step(0.01);
            // The stored gradients are rounded, their norm's error is below a rounding of one element.
            Assert.InRange(norm, expected * (1 - 1e-6), expected * (1 + 1e-6));
        }
        // Each of 8 steps of at most 0.01 (0.1 where AdamW's first moments outrun its second) with some ten roundings.
        TensorAssert.Close(Array.ConvertAll(weight.Value.ToArray(), v => (double)v), layer.Weight, _ => 8 * 10 * TensorAssert.Eps * 0.2, "weight");
        TensorAssert.Close(Array.ConvertAll(bias.Value.ToArray(), v => (double)v), layer.Bias, _ => 8 * 10 * TensorAssert.Eps * 0.2, "bias");
    }

    [Fact]
    public void ResumesBitForBit()
    {
        using var device = new CpuDevice(2);
        float[] through = Train(-1);
        Assert.Equal(through, Train(3));

        float[] Train(int resumeAfter)
        {
            using var layer = new Layer(device);
            var optimizer = new FactoredAdamW(device, layer.Parameters, new AdamWOptions());
            for (int t = 0; t < 6; t++)
            {
                if (t == resumeAfter)
                {
                    float[][] saved = [.. optimizer.State.Select(s => TestParameter.Span(s.Value).ToArray())];
                    optimizer.Dispose();
                    optimizer = new FactoredAdamW(device, layer.Parameters, new AdamWOptions());
                    for (int i = 0; i < saved.Length; i++)
                        saved[i].CopyTo(TestParameter.Span(optimizer.State[i].Value));
                    optimizer.Restore(t);
                }
                layer.Draw(t);
                optimizer.Step(layer.Factors, Count, 0.01, 0.5);
            }
            optimizer.Dispose();
            return [.. layer.Weight, .. layer.Bias];
        }
    }

    [Fact]
    public void ANonFiniteGradientChangesNothing()
    {
        using var device = new CpuDevice(1);
        using var layer = new Layer(device);
        using var optimizer = new FactoredAdamW(device, layer.Parameters, new AdamWOptions());
        float[] before = layer.Weight.ToArray();
        layer.Draw(1);
        layer.Dy[5] = float.NaN;
        Assert.True(double.IsNaN(optimizer.Step(layer.Factors, Count, 0.1, 1)));
        Assert.Equal(before, layer.Weight);
        Assert.Equal(0, optimizer.Steps);
    }

    [Fact]
    public void RefusesWhatDoesNotFitAndSaysWhy()
    {
        using var device = new CpuDevice(1);
        using var layer = new Layer(device);
        FactoredParameter[] p = layer.Parameters;
        Assert.StartsWith("FactoredAdamW: found no parameter, expected at least one.", Assert.Throws<ArgumentException>(() => new FactoredAdamW(device, [], new AdamWOptions())).Message);
        Assert.StartsWith("FactoredAdamW: found two parameters named 'W.weight', expected unique names.", Assert.Throws<ArgumentException>(() => new FactoredAdamW(device, [p[0], p[0]], new AdamWOptions())).Message);
        Assert.StartsWith(
            "FactoredAdamW: 'W.weight' holds 666 f32 on cpu, expected [36, 18] f32 on cpu.",
            Assert.Throws<ArgumentException>(() => new FactoredAdamW(device, [p[0] with { Rows = 36 }], new AdamWOptions())).Message);
        using var optimizer = new FactoredAdamW(device, p, new AdamWOptions());
        GradientFactors[] factors = layer.Factors;
        Assert.StartsWith("FactoredAdamW: found 1 gradients, expected 2, one per parameter.", Assert.Throws<ArgumentException>(() => optimizer.Step(factors.AsSpan(0, 1), Count, 0.1, 1)).Message);
        Assert.Contains("FactoredAdamW.Step: found a largest norm of 0, expected a number above 0.", Assert.Throws<ArgumentOutOfRangeException>(() => optimizer.Step(factors, Count, 0.1, 0)).Message);
        Assert.Contains("FactoredAdamW.Step: found a learning rate of -1 at step 0", Assert.Throws<ArgumentOutOfRangeException>(() => optimizer.Step(factors, Count, -1, 1)).Message);
    }

    // Its "gradient" members serve as the factors' memory: any f32 memory does.
    private sealed class Layer : IDisposable
    {
        private readonly TestParameter _weight, _bias, _x, _dy, _ones;

        public Layer(CpuDevice device)
        {
            _weight = new TestParameter(device, "W.weight", Outputs, Inputs);
            _bias = new TestParameter(device, "W.bias", Outputs);
            _x = new TestParameter(device, "x", Count, Inputs);
            _dy = new TestParameter(device, "dy", Count, Outputs);
            _ones = new TestParameter(device, "ones", Count);
            _ones.Value.Fill(1);
            var random = new Random(3);
            for (int i = 0; i < Outputs * Inputs; i++)
                Weight[i] = (float)(random.NextDouble() - 0.5) * 0.2f;
            Bias.Clear();
        }

        public Span<float> Weight => _weight.Value;

        public Span<float> Bias => _bias.Value;

        public Span<float> X => _x.Value;

        public Span<float> Dy => _dy.Value;

        public FactoredParameter[] Parameters => [new("W.weight", Outputs, Inputs, _weight.Parameter.Value), new("W.bias", 1, Outputs, _bias.Parameter.Value)];

        public GradientFactors[] Factors => [new(_dy.Parameter.Value, _x.Parameter.Value), new(_ones.Parameter.Value, _dy.Parameter.Value)];

        public void Draw(int seed)
        {
            var random = new Random(seed);
            // Bounded away from 0, where AdamW's quotient would magnify the rounding of the stored gradient.
            for (int i = 0; i < X.Length; i++)
                X[i] = (float)(0.5 + random.NextDouble());
            for (int i = 0; i < Dy.Length; i++)
                Dy[i] = (float)(0.5 + random.NextDouble()) * (i % Outputs % 2 == 0 ? 1 : -1);
        }

        public void Dispose()
        {
            foreach (TestParameter p in (TestParameter[])[_weight, _bias, _x, _dy, _ones])
                p.Dispose();
        }
    }
}
