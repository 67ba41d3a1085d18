// Adafactor against PyTorch's traces and against the formula in double.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests;
using Xunit;

namespace IptNative.Optimizers.Tests;

public sealed class AdafactorTests
{
    private const int P = 10, D = 32, TraceSteps = 20;

    [Theory]
    [InlineData("adafactor", 0.3, true)]
    [InlineData("adafactor_lo", 0.003, true)]
    [InlineData("adafactor_lo", 0.003, false)]
    public void FollowsHuggingFacesTrace(string trace, double learningRate, bool teacherForced)
    {
        float[] prompts = Goldens.Read<float>(trace + "_prompts"), grads = Goldens.Read<float>(trace + "_grads");
        using var device = new CpuDevice(2);
        using var prompt = new TestParameter(device, "prompt", P, D);
        using var optimizer = new Adafactor(device, [prompt.Parameter], new AdafactorOptions { Variant = AdafactorVariant.HuggingFace });
        prompts.AsSpan(0, P * D).CopyTo(prompt.Value);
        for (int t = 0; t < TraceSteps; t++)
        {
            ReadOnlySpan<float> before = prompts.AsSpan(t * P * D, P * D);
            if (teacherForced)
                before.CopyTo(prompt.Value);
            grads.AsSpan(t * P * D, P * D).CopyTo(prompt.Gradient);
            optimizer.Step(learningRate);
            float[] expected = prompts.AsSpan((t + 1) * P * D, P * D).ToArray(), from = before.ToArray();
            // A step makes some ten roundings on each side, all relative to the update or to p, and both are at most |p| + |p'|; a free run adds up the steps.
            double c = teacherForced ? 8 : 8 + 2 * t;
            TensorAssert.Close(Array.ConvertAll(expected, x => (double)x), prompt.Value, i => c * TensorAssert.Eps * (Math.Abs(from[i]) + Math.Abs(expected[i])), $"{trace} step {t}");
        }
        Assert.Equal(["prompt.exp_avg_sq_row", "prompt.exp_avg_sq_col"], optimizer.State.Select(s => s.Name));
        // Means of squares, averaged 20 times: each rounding is relative to a positive sum.
        foreach ((StateTensor state, string name) in optimizer.State.Zip(["_row_final", "_col_final"]))
        {
            double[] expected = Array.ConvertAll(Goldens.Read<float>(trace + name), x => (double)x);
            TensorAssert.Close(expected, TestParameter.Span(state.Value), i => 16 * TensorAssert.Eps * expected[i], trace + name);
        }
    }

    [Theory]
    [InlineData(AdafactorVariant.T5X, 100, 33, 0, false)]
    [InlineData(AdafactorVariant.T5X, 127, 150, 0, false)]
    [InlineData(AdafactorVariant.T5X, 150, 128, 0, true)]
    [InlineData(AdafactorVariant.T5X, 131, 200, -1_100_000, true)]
    [InlineData(AdafactorVariant.T5X, 7, 17, -1_100_000, false)]
    [InlineData(AdafactorVariant.HuggingFace, 1, 3, 0, true)]
    [InlineData(AdafactorVariant.HuggingFace, 33, 31, 0, true)]
    [InlineData(AdafactorVariant.HuggingFace, 200, 15, 0, true)]
    [InlineData(AdafactorVariant.HuggingFace, 0, 47, 0, false)]
    public void AgreesWithTheFormula(AdafactorVariant variant, int rows, int columns, long offset, bool factored)
    {
        // No rows: a vector, which nobody factors.
        using var device = new CpuDevice(3);
        using TestParameter x = rows == 0 ? new TestParameter(device, "x", columns) : new TestParameter(device, "x", rows, columns);
        rows = Math.Max(rows, 1);
        const double Decay = 0.01, LearningRate = 0.3;
        using var optimizer = new Adafactor(device, [x.Parameter], new AdafactorOptions { Variant = variant, WeightDecay = Decay, StepOffset = offset });
        var random = new Random(rows * 1000 + columns);
        float[] start = TestParameter.Random(random, rows * columns);
        start.CopyTo(x.Value);
        double[] expected = Array.ConvertAll(start, v => (double)v);
        double[] scale = Array.ConvertAll(expected, Math.Abs);
        var v = new double[factored ? rows + columns : rows * columns];
        double keep = variant == AdafactorVariant.T5X ? 1 - Decay : 1 - Decay * LearningRate;
        for (int t = 1; t <= 8; t++)
        {
            float[] g = TestParameter.Random(random, rows * columns);
            g.CopyTo(x.Gradient);
            optimizer.Step(LearningRate);
            double[] before = [.. expected];
            // t = step - offset + 1 with steps from 0. The decay itself is rounded to float, as in both originals.
            double beta2 = (float)(1 - Math.Pow(t - offset, -0.8));
            OptimizerReference.Adafactor(expected, g, v, rows, columns, factored, beta2, LearningRate, keep);
            for (int i = 0; i < expected.Length; i++)
                scale[i] += Math.Abs(expected[i] - before[i]) + Math.Abs(expected[i]);
        }
        Assert.Equal(factored ? 2 : 1, optimizer.State.Count);
        // Eight steps of some ten roundings, each relative to an update or to p.
        TensorAssert.Close(expected, x.Value, i => 12 * TensorAssert.Eps * scale[i], $"{variant} {rows}x{columns}");
    }

    [Fact]
    public void AZeroGradientMovesNothingButByDecay()
    {
        using var device = new CpuDevice(1);
        using var x = new TestParameter(device, "x", 3, 20);
        using var optimizer = new Adafactor(device, [x.Parameter], new AdafactorOptions { WeightDecay = 0 });
        x.Value.Fill(1.5f);
        x.Gradient.Clear();
        optimizer.Step(0.3);
        Assert.All(x.Value.ToArray(), p => Assert.Equal(1.5f, p));
    }

    [Fact]
    public void RefusesSettingsThatMakeNoSense()
    {
        using var device = new CpuDevice(1);
        using var x = new TestParameter(device, "x", 3, 20);
        Assert.Equal("AdafactorOptions: WeightDecay is 1, expected 0 to below 1.", Refusal(new AdafactorOptions { WeightDecay = 1 }));
        Assert.Equal("AdafactorOptions: ClipThreshold is 0, expected above 0.", Refusal(new AdafactorOptions { ClipThreshold = 0 }));
        Assert.Equal("AdafactorOptions: StepOffset is 5, expected 0 or less.", Refusal(new AdafactorOptions { StepOffset = 5 }));
        Assert.Equal(
            "AdafactorOptions: StepOffset is -5, expected 0 for the Hugging Face variant, which has none.",
            Refusal(new AdafactorOptions { StepOffset = -5, Variant = AdafactorVariant.HuggingFace }));

        string Refusal(AdafactorOptions options) => Assert.Throws<ArgumentException>(() => new Adafactor(device, [x.Parameter], options)).Message;
    }
}
