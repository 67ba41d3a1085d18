// AdamW, both variants, against the formula in double.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests;
using Xunit;

namespace IptNative.Optimizers.Tests;

public sealed class AdamWTests
{
    [Theory]
    [InlineData(AdamWVariant.Torch, 0, true)]
    [InlineData(AdamWVariant.Torch, 0.1, true)]
    [InlineData(AdamWVariant.HuggingFace, 0, true)]
    [InlineData(AdamWVariant.HuggingFace, 0.1, true)]
    [InlineData(AdamWVariant.HuggingFace, 0.1, false)]
    public void AgreesWithTheFormula(AdamWVariant variant, double decay, bool correctBias)
    {
        using var device = new CpuDevice(3);
        foreach (int n in (int[])[1, 3, 15, 16, 17, 33, 40_000])
        {
            using var x = new TestParameter(device, "x", n);
            using var optimizer = new AdamW(device, [x.Parameter], new AdamWOptions { Variant = variant, WeightDecay = decay, CorrectBias = correctBias });
            var random = new Random(n);
            float[] start = TestParameter.Random(random, n);
            start.CopyTo(x.Value);
            double[] expected = Array.ConvertAll(start, v => (double)v), m = new double[n], v = new double[n];
            double[] scale = Array.ConvertAll(expected, Math.Abs);
            for (int t = 1; t <= 10; t++)
            {
                // Down to 1e-9, so that epsilon's place in the formula shows.
                float[] g = Array.ConvertAll(TestParameter.Random(random, n, 6), e => e * (t == 1 ? 1e-6f : 1));
                g.CopyTo(x.Gradient);
                optimizer.Step(0.02 * t);
                double[] before = [.. expected];
                OptimizerReference.AdamW(expected, g, m, v, t, 0.02 * t, decay, variant == AdamWVariant.HuggingFace, correctBias);
                // The first moment can cancel: its error is relative to the gradients in it, so the step's is to lr (|m| <= sqrt(v) up to the corrections, 10).
                for (int i = 0; i < n; i++)
                    scale[i] += Math.Abs(before[i]) + Math.Abs(expected[i] - before[i]) + 0.02 * t;
            }
            // Some eight roundings a step, each relative to a term of the sum above.
            TensorAssert.Close(expected, x.Value, i => 8 * TensorAssert.Eps * scale[i], $"{variant} {n}");
        }
    }

    [Fact]
    public void TheFirstStepOfTheFixtureIsTheLearningRate()
    {
        // |z1 - z0| = lr g / (|g| + eps): all that the fixture tells of the optimizer alone, because it keeps no gradients of z.
        float[] z = Goldens.Read<float>("ist_ce_z");
        using var device = new CpuDevice(1);
        using var x = new TestParameter(device, "z", 5);
        using var optimizer = new AdamW(device, [x.Parameter], new AdamWOptions());
        z.AsSpan(0, 5).CopyTo(x.Value);
        for (int i = 0; i < 5; i++)
            x.Gradient[i] = z[i] - z[5 + i];
        optimizer.Step(0.01);
        // Two roundings of z and four of an update of 0.01.
        TensorAssert.Close(Array.ConvertAll(z[5..10], v => (double)v), x.Value, i => 2 * TensorAssert.Eps * (Math.Abs(z[i]) + 0.01) + 0.01 * 1e-8 / 0.01, "ist_ce step 0");
    }

    [Fact]
    public void RefusesSettingsThatMakeNoSense()
    {
        using var device = new CpuDevice(1);
        using var x = new TestParameter(device, "x", 3);
        Assert.Equal("AdamWOptions: Beta2 is 1, expected 0 to below 1.", Refusal(new AdamWOptions { Beta2 = 1 }));
        Assert.Equal("AdamWOptions: WeightDecay is -0.1, expected 0 or more.", Refusal(new AdamWOptions { WeightDecay = -0.1 }));
        Assert.Equal("AdamWOptions: CorrectBias is False, expected True for the Torch variant, which has no such switch.", Refusal(new AdamWOptions { CorrectBias = false }));

        string Refusal(AdamWOptions options) => Assert.Throws<ArgumentException>(() => new AdamW(device, [x.Parameter], options)).Message;
    }
}
