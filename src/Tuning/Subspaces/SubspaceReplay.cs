// The fixture's MSF and IST traces, replayed with whatever model is behind a delegate. Deliberately not: the comparison (Parity).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Optimizers;

namespace IptNative.Tuning.Subspaces;

/// <summary>The language model's loss at prompts, and its gradient.</summary>
/// <param name="prompts">f32 [rows, n*D]; row r is a prompt.</param>
/// <param name="rows">Number of prompts.</param>
/// <param name="dPrompts">f32 [rows, n*D], to be overwritten.</param>
/// <param name="losses">[rows], to be overwritten: each row's part of the loss.</param>
public delegate void PromptGradient(Tensor prompts, int rows, Tensor dPrompts, Span<double> losses);

/// <summary>A replay of MSF.</summary>
/// <param name="Losses">[steps][3]: language model, alpha times reconstruction, norm before clipping.</param>
/// <param name="FirstGradients">Every tensor's gradient at step 0 before clipping, by name.</param>
/// <param name="Final">Every tensor after the last step, by name.</param>
public sealed record MsfTrace(IReadOnlyList<double[]> Losses, IReadOnlyDictionary<string, float[]> FirstGradients, IReadOnlyDictionary<string, float[]> Final);

/// <summary>A replay of IST.</summary>
/// <param name="Losses">[steps].</param>
/// <param name="Vectors">[steps + 1][d_I]: z before the first step and after each.</param>
public sealed record IstTrace(IReadOnlyList<double> Losses, IReadOnlyList<float[]> Vectors);

/// <summary>The recipe of an IST replay.</summary>
/// <param name="Options">AdamW's settings.</param>
/// <param name="Schedule">Learning rate by step.</param>
/// <param name="MaxNorm">Largest gradient norm; infinity for none.</param>
public sealed record IstRecipe(AdamWOptions Options, LearningRateSchedule Schedule, double MaxNorm)
{
    /// <summary>ist_code: HF AdamW, clipping at 0.1, warm-up over 0.06 of the steps, then linear decay.</summary>
    /// <param name="rate">The highest rate.</param>
    /// <param name="steps">Steps of the run.</param>
    /// <returns>The recipe of IPT's code.</returns>
    public static IstRecipe Code(double rate, int steps) =>
        new(new AdamWOptions { Variant = AdamWVariant.HuggingFace }, new LearningRateSchedule(ScheduleShape.Linear, rate, 0.06 * steps, steps), 0.1);

    /// <summary>ist_ce: torch AdamW, constant rate, no clipping.</summary>
    /// <param name="rate">The rate.</param>
    /// <param name="steps">Steps of the run.</param>
    /// <returns>The plain recipe.</returns>
    public static IstRecipe CrossEntropy(double rate, int steps) => new(new AdamWOptions(), new LearningRateSchedule(ScheduleShape.Constant, rate, 0, steps), double.PositiveInfinity);
}

/// <summary>Runs the stages of Intrinsic Prompt Tuning as the fixture's script did.</summary>
public static class SubspaceReplay
{
    /// <summary>MSF: row b is example b's task prompt, every row has the same share; HF AdamW, constant rate, clipping over all tensors.</summary>
    /// <param name="subspace">The start; trained in place.</param>
    /// <param name="taskPrompts">[rows, n*D], the tasks' trained prompts.</param>
    /// <param name="alpha">Weight of the reconstruction.</param>
    /// <param name="learningRate">Constant.</param>
    /// <param name="maxNorm">Largest gradient norm.</param>
    /// <param name="steps">1 or more.</param>
    /// <param name="model">The language model.</param>
    /// <returns>What the fixture holds.</returns>
    /// <exception cref="ArgumentException">The prompts are no whole number of rows.</exception>
    public static MsfTrace Msf(AutoencoderSubspace subspace, float[] taskPrompts, double alpha, double learningRate, double maxNorm, int steps, PromptGradient model)
    {
        ArgumentNullException.ThrowIfNull(subspace);
        ArgumentNullException.ThrowIfNull(taskPrompts);
        ArgumentNullException.ThrowIfNull(model);
        int n = subspace.PromptElements, rows = taskPrompts.Length / n;
        if (rows < 1 || taskPrompts.Length % n != 0)
            throw new ArgumentException($"MSF replay: found {taskPrompts.Length} numbers of task prompts, expected a multiple of n*D = {n}.", nameof(taskPrompts));
        // A foreign file does not name its tasks; the rows stand for them.
        if (subspace.Header.SourceTasks.Count == 0)
            subspace.Header = subspace.Header with { SourceTasks = [.. Enumerable.Range(0, rows).Select(r => $"row {r}")] };
        ComputeDevice device = subspace.Device;
        using DeviceBuffer prompts = device.Allocate(DType.F32, taskPrompts.Length, "task prompts"), star = device.Allocate(DType.F32, taskPrompts.Length, "reconstructed prompts");
        using DeviceBuffer gradient = device.Allocate(DType.F32, taskPrompts.Length, "gradients of prompts");
        prompts.Tensor.CopyFrom<float>(taskPrompts);
        float[] shares = [.. Enumerable.Repeat(1f / rows, rows)];
        using var step = new MsfStep(subspace, new MsfObjective { Alpha = alpha }, new AdamWOptions { Variant = AdamWVariant.HuggingFace });
        var trace = new List<double[]>();
        var first = new Dictionary<string, float[]>(StringComparer.Ordinal);
        double[] losses = new double[rows];
        for (int t = 0; t < steps; t++)
        {
            step.Reconstruct(prompts.Tensor, rows, star.Tensor);
            model(star.Tensor, rows, gradient.Tensor, losses);
            double reconstruction = step.Backward(gradient.Tensor, shares);
            if (t == 0)
            {
                foreach (FactoredParameter p in step.Optimizer.Parameters)
                    first[p.Name] = step.Gradient(p.Name);
            }
            trace.Add([losses.Sum(), reconstruction, step.Update(learningRate, maxNorm)]);
        }
        return new MsfTrace(trace, first, subspace.Tensors.ToDictionary(t => t.Name, t => t.Value.ToArray<float>(), StringComparer.Ordinal));
    }

    /// <summary>IST of one vector that all examples share.</summary>
    /// <param name="subspace">Frozen.</param>
    /// <param name="start">d_I numbers.</param>
    /// <param name="recipe">Optimizer, schedule and clipping.</param>
    /// <param name="steps">1 or more.</param>
    /// <param name="model">The language model.</param>
    /// <returns>What the fixture holds.</returns>
    /// <exception cref="ArgumentException">The start is no single vector.</exception>
    public static IstTrace Ist(PromptSubspace subspace, float[] start, IstRecipe recipe, int steps, PromptGradient model)
    {
        ArgumentNullException.ThrowIfNull(subspace);
        ArgumentNullException.ThrowIfNull(recipe);
        ArgumentNullException.ThrowIfNull(model);
        using var batch = new IntrinsicBatch(subspace, start);
        if (batch.Runs != 1)
            throw new ArgumentException($"IST replay: found {batch.Runs} vectors to start from, expected 1.", nameof(start));
        using var optimizer = new AdamW(subspace.Device, [batch.Parameter(0)], recipe.Options);
        var losses = new List<double>();
        var vectors = new List<float[]> { batch.Vector(0) };
        double[] loss = new double[1];
        for (int t = 0; t < steps; t++)
        {
            batch.Decode();
            model(batch.Prompts, 1, batch.PromptGradients, loss);
            losses.Add(loss[0]);
            batch.Backward(loss, t);
            GradientClipping.Clip(subspace.Device, optimizer.Parameters, recipe.MaxNorm);
            optimizer.Step(recipe.Schedule.At(t));
            vectors.Add(batch.Vector(0));
        }
        return new IstTrace(losses, vectors);
    }
}
