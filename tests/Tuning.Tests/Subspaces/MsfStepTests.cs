// MSF's objective: its gradient against differences, its switches, and the fixture's first step recomputed without a model.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;
using IptNative.Optimizers;
using IptNative.Tuning.Subspaces;
using Xunit;

namespace IptNative.Tuning.Tests.Subspaces;

public sealed class MsfStepTests : IDisposable
{
    private const int Rows = 3, Length = 2, Width = 5, Elements = Length * Width;

    private readonly CpuDevice _device = new(2);

    [Theory]
    [InlineData(true, true, SubspaceActivation.Identity)]
    [InlineData(true, true, SubspaceActivation.Tanh)]
    [InlineData(true, false, SubspaceActivation.Identity)]
    [InlineData(false, true, SubspaceActivation.Gelu)]
    public void EveryGradientIsTheSlopeOfTheObjective(bool distillation, bool reconstruction, SubspaceActivation proj)
    {
        using AutoencoderSubspace subspace = Create(proj);
        var objective = new MsfObjective { Distillation = distillation, Reconstruction = reconstruction, Alpha = 3 };
        using var step = new MsfStep(subspace, objective, new AdamWOptions());
        Assert.Equal(distillation, step.NeedsModel);
        float[] prompts = Normal(Rows * Elements, 1), pull = Normal(Rows * Elements, 2), shares = [0.5f, 0.25f, 0.25f], scales = [1, 2, 0.5f];
        using DeviceBuffer tp = Upload(prompts), star = Upload(new float[Rows * Elements]), gradient = Upload(pull);
        // A linear "language model": L = pull . P*, whose gradient is pull.
        double Loss()
        {
            step.Reconstruct(tp.Tensor, Rows, star.Tensor, scales);
            double model = star.Tensor.ToArray<float>().Zip(pull, (a, b) => (double)a * b).Sum();
            return (distillation ? model : 0) + (reconstruction ? step.Backward(gradient.Tensor, shares, scales) : 0);
        }

        Loss();
        step.Backward(gradient.Tensor, shares, scales);
        var ours = step.Optimizer.Parameters.ToDictionary(p => p.Name, p => step.Gradient(p.Name));
        double largest = ours.Values.SelectMany(g => g).Max(Math.Abs);
        foreach (FactoredParameter p in step.Optimizer.Parameters)
        {
            float[] values = p.Value.ToArray<float>();
            for (int i = 0; i < values.Length; i++)
            {
                const float H = 1.0f / 256;
                float[] moved = [.. values];
                moved[i] += H;
                p.Value.CopyFrom<float>(moved);
                double up = Loss();
                moved[i] = values[i] - H;
                p.Value.CopyFrom<float>(moved);
                double down = Loss();
                p.Value.CopyFrom<float>(values);
                // Differences of float evaluations: rounding over 2h, and h^2 of curvature.
                Assert.True(Math.Abs((up - down) / (2 * H) - ours[p.Name][i]) <= 2e-3 * largest, $"{p.Name}[{i}]: {(up - down) / (2 * H)}, ours {ours[p.Name][i]}");
            }
        }
    }

    [Fact]
    public void ReconstructionAloneLearnsThePrompts()
    {
        using AutoencoderSubspace subspace = Create(SubspaceActivation.Identity);
        using var step = new MsfStep(subspace, new MsfObjective { Distillation = false, Alpha = 1 }, new AdamWOptions());
        using DeviceBuffer prompts = Upload(Normal(Rows * Elements, 3)), star = Upload(new float[Rows * Elements]);
        float[] shares = [1f / 3, 1f / 3, 1f / 3];
        double first = double.NaN, last = double.NaN;
        for (int t = 0; t < 400; t++)
        {
            step.Reconstruct(prompts.Tensor, Rows, star.Tensor);
            last = step.Backward(default, shares);
            if (t == 0)
                first = last;
            step.Update(0.01);
        }
        Assert.True(last < 1e-3 * first, $"from {first} to {last}");
        Assert.True(subspace.Header.Trained);
    }

    [Fact]
    public void AGradientThatIsNotFiniteLeavesTheSubspaceAsItWas()
    {
        using AutoencoderSubspace subspace = Create(SubspaceActivation.Identity);
        using var step = new MsfStep(subspace, new MsfObjective(), new AdamWOptions());
        float[] bad = new float[Rows * Elements], before = subspace.Outer.Weight.ToArray<float>();
        bad[7] = float.PositiveInfinity;
        using DeviceBuffer prompts = Upload(Normal(Rows * Elements, 3)), star = Upload(new float[Rows * Elements]), gradient = Upload(bad);
        Assert.Throws<InvalidOperationException>(() => step.Backward(gradient.Tensor, [1, 0, 0]));
        Assert.Throws<InvalidOperationException>(() => step.Update(0.1));
        step.Reconstruct(prompts.Tensor, Rows, star.Tensor);
        step.Backward(gradient.Tensor, [1, 0, 0]);
        Assert.False(double.IsFinite(step.Update(0.1, 1)));
        Assert.Equal(before, subspace.Outer.Weight.ToArray<float>());
        Assert.False(subspace.Header.Trained);
    }

    [Fact]
    public void ARunWithNaNStopsAndTheOthersGoOn()
    {
        using AutoencoderSubspace subspace = Create(SubspaceActivation.Identity);
        const int Runs = 16;
        float[] start = Normal(Runs * 3, 4);
        float[][] alone = Tune(start, -1), together = Tune(start, 5);
        for (int run = 0; run < Runs; run++)
            Assert.Equal(run != 5, alone[run].SequenceEqual(together[run]));

        float[][] Tune(float[] from, int poisoned)
        {
            using var batch = new IntrinsicBatch(subspace, from);
            Optimizer[] optimizers = [.. Enumerable.Range(0, Runs).Select(run => new AdamW(_device, [batch.Parameter(run)], new AdamWOptions()))];
            double[] losses = new double[Runs];
            for (int t = 0; t < 6; t++)
            {
                batch.Decode();
                // L = |P|^2 / 2, whose gradient is P.
                float[] gradient = batch.Prompts.ToArray<float>();
                for (int run = 0; run < Runs; run++)
                    losses[run] = gradient.AsSpan(run * Elements, Elements).ToArray().Sum(v => 0.5 * v * v);
                if (t == 3 && poisoned >= 0)
                    gradient[poisoned * Elements + 6] = float.NaN;
                batch.PromptGradients.CopyFrom<float>(gradient);
                batch.Backward(losses, t);
                for (int run = 0; run < Runs; run++)
                {
                    if (batch.StoppedBecause(run) is null)
                        optimizers[run].Step(0.1);
                }
            }
            Assert.Equal(poisoned >= 0 ? Runs - 1 : Runs, batch.Running);
            if (poisoned >= 0)
                Assert.Equal("step 3: the gradient of the prompt has a NaN or infinity in row 1, expected finite numbers. Lower the learning rate.", batch.StoppedBecause(poisoned));
            foreach (Optimizer optimizer in optimizers)
                optimizer.Dispose();
            return [.. Enumerable.Range(0, Runs).Select(batch.Vector)];
        }
    }

    [Fact]
    public void StartsThatMakeNoSenseAreRefused()
    {
        using AutoencoderSubspace subspace = Create(SubspaceActivation.Identity);
        Assert.StartsWith("intrinsic tuning: found 4 numbers to start from, expected a multiple of d_I = 3", Assert.Throws<ArgumentException>(() => new IntrinsicBatch(subspace, new float[4])).Message);
        Assert.StartsWith("intrinsic tuning: found NaN in the vectors", Assert.Throws<ArgumentException>(() => new IntrinsicBatch(subspace, [1, 2, float.NaN])).Message);
    }

    [Fact]
    public void TheFixturesFirstStepFollowsFromOneOfItsGradients()
    {
        // dW3 = dS*^T h has the whole gradient at the prompts in it, because h has full rank: solved for dS*, everything else of the step must follow.
        string folder = Path.Combine(TinyModel.Root, "tests", "Goldens", "t5v11");
        using AutoencoderSubspace subspace = IptAutoencoderFile.Read(_device, Path.Combine(folder, "ae.pt"), dModel: 32);
        Assert.Equal((10, 5, 16), (subspace.Header.PromptLength, subspace.IntrinsicDim, subspace.Header.InnerDim));
        subspace.Header = subspace.Header with { SourceTasks = ["a", "b", "c", "d"] };
        float[] prompts = NumpyFile.Read(Path.Combine(folder, "msf_task_prompts.npy")).ToFloats();
        double[] trace = NumpyFile.Read(Path.Combine(folder, "msf_loss.npy")).ToDoubles();
        using SafetensorsFile expected = SafetensorsFile.Open(Path.Combine(folder, "msf_grad0.safetensors"));
        int n = subspace.PromptElements, rows = prompts.Length / n;
        using DeviceBuffer tp = Upload(prompts), star = Upload(new float[prompts.Length]), gradient = Upload(new float[prompts.Length]);
        using var step = new MsfStep(subspace, new MsfObjective { Alpha = 200 }, new AdamWOptions { Variant = AdamWVariant.HuggingFace });
        step.Reconstruct(tp.Tensor, rows, star.Tensor);
        float[] h = subspace.Hidden(rows).ToArray<float>(), dW3 = expected.ReadFloats("W3.weight"), reconstructed = star.Tensor.ToArray<float>();
        double[] total = Solve(h, dW3, rows, n, 16);
        gradient.Tensor.CopyFrom<float>([.. total.Select((g, i) => (float)(g - 2.0 * 200 / (rows * n) * ((double)reconstructed[i] - prompts[i])))]);
        double loss = step.Backward(gradient.Tensor, [.. Enumerable.Repeat(1f / rows, rows)]);
        Assert.Equal(trace[1], loss, 1e-6 * trace[1]);
        foreach (string name in expected.Names)
        {
            float[] theirs = expected.ReadFloats(name), ours = step.Gradient(name);
            double size = theirs.Max(Math.Abs);
            // float32 on both sides; the solution magnifies its rounding by the condition of h, about 100.
            Assert.All(theirs.Zip(ours), p => Assert.Equal(p.First, p.Second, 2e-5 * size));
        }
        Assert.Equal(trace[2], step.Update(1e-3, 0.1), 1e-5 * trace[2]);
        // The next step's reconstruction loss is the fused optimizer's work.
        step.Reconstruct(tp.Tensor, rows, star.Tensor);
        gradient.Tensor.CopyFrom<float>(new float[prompts.Length]);
        Assert.Equal(trace[4], step.Backward(gradient.Tensor, [.. Enumerable.Repeat(1f / rows, rows)]), 1e-4 * trace[4]);
    }

    public void Dispose() => _device.Dispose();

    // x [rows, n] with G [n, inner] = x^T h: x^T = G h^T (h h^T)^-1, by Gauss with pivoting.
    private static double[] Solve(float[] h, float[] g, int rows, int n, int inner)
    {
        var x = new double[rows * n];
        var a = new double[rows, rows + 1];
        for (int column = 0; column < n; column++)
        {
            for (int i = 0; i < rows; i++)
            {
                for (int j = 0; j < rows; j++)
                    a[i, j] = Enumerable.Range(0, inner).Sum(k => (double)h[i * inner + k] * h[j * inner + k]);
                a[i, rows] = Enumerable.Range(0, inner).Sum(k => (double)h[i * inner + k] * g[column * inner + k]);
            }
            for (int pivot = 0; pivot < rows; pivot++)
            {
                int best = Enumerable.Range(pivot, rows - pivot).MaxBy(i => Math.Abs(a[i, pivot]));
                for (int j = 0; j <= rows; j++)
                    (a[pivot, j], a[best, j]) = (a[best, j], a[pivot, j]);
                for (int i = 0; i < rows; i++)
                {
                    double factor = i == pivot ? 0 : a[i, pivot] / a[pivot, pivot];
                    for (int j = pivot; j <= rows; j++)
                        a[i, j] -= factor * a[pivot, j];
                }
            }
            for (int i = 0; i < rows; i++)
                x[i * n + column] = a[i, rows] / a[i, i];
        }
        return x;
    }

    private AutoencoderSubspace Create(SubspaceActivation proj) => AutoencoderSubspace.Create(
        _device, new SubspaceHeader { Kind = SubspaceKind.Autoencoder, PromptLength = Length, DModel = Width, IntrinsicDim = 3, InnerDim = 8, ProjActivation = proj, SourceTasks = ["a", "b", "c"] }, 1);

    private DeviceBuffer Upload(float[] values)
    {
        DeviceBuffer buffer = _device.Allocate(DType.F32, values.Length, "test");
        buffer.Tensor.CopyFrom<float>(values);
        return buffer;
    }

    private static float[] Normal(int n, int seed)
    {
        var random = new SeededRandom(seed);
        return [.. Enumerable.Range(0, n).Select(_ => (float)random.NextNormal())];
    }
}
