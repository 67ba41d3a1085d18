// A run among others is the run alone: what is shared is the frozen model and the shape of the batch, so only the rounding of sums may differ.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Optimizers;
using IptNative.Tuning.Data;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Training;
using Xunit;
using Engine = IptNative.Model.Backward.ForwardEngine;

namespace IptNative.Tuning.Tests.Training;

public sealed class SideBySideTests(TrainingModel model) : IClassFixture<TrainingModel>
{
    private const int Runs = 16;

    private static readonly int[] Lengths = [5, 20, 1, 7, 3, 12, 9, 2, 16, 4, 31, 8, 6, 1, 10, 17];

    // Different tasks, and so different lengths of inputs and targets, beside each other.
    private TrainingRow[] Rows()
    {
        EncodedExamples[] tasks = [model.Examples("words-second", "train", 12), model.Examples("clinc150-domain", "train", 11), model.Examples("wiki_split", "train", 5)];
        return [.. Enumerable.Range(0, Runs).Select(i => TrainingModel.Row(i, tasks[i % 5 == 4 ? 2 : i % 2], 42 + i))];
    }

    private Prompt[] Start() => [.. Lengths.Select((length, i) => model.Start(length, 42 + i))];

    [Theory]
    [InlineData(Engine.Native)]
    [InlineData(Engine.Ort)]
    public void FreeRunningItFollowsItsSoloTrajectory(Engine engine)
    {
        // At a small rate: at 0.3 the trajectory itself is chaotic, and two machines differ after a few steps.
        var options = new TrainerOptions
        {
            Training = new TrainingConfig { Steps = 20, BatchSize = 3, EvalEvery = 1000 },
            Optimizer = new OptimizerConfig { LearningRate = 0.003 },
            Limit = TrainingModel.Whole,
        };
        TrainingRow[] rows = Rows();
        Prompt[] start = Start();
        var beside = new Told();
        (_, Prompt[] prompts) = model.Train(rows, start, options, beside, engine);
        foreach (int i in (ReadOnlySpan<int>)[0, 1, 2, 4])
        {
            var alone = new Told();
            (_, Prompt[] solo) = model.Train([rows[i] with { Row = rows[i].Row with { Index = 0 } }], [start[i]], options, alone, engine);
            // Twenty updates of at most 0.003 a number, whose sign is that of a gradient that is known to about 2e-5 of the largest: near zero it may flip.
            Assert.InRange(TrainingModel.Distance(prompts[i].Values, solo[0].Values), 0, 1e-4);
            Assert.InRange(TrainingModel.Distance(start[i].Values, solo[0].Values), 2e-3, 1);
            (long Step, RowStep Row)[] same = [.. beside.Steps.Where(s => s.Row.Row == i)];
            Assert.Equal(20, same.Length);
            for (int s = 0; s < same.Length; s++)
            {
                Assert.Equal(alone.Steps[s].Row.Loss, same[s].Row.Loss, 1e-4 * Math.Abs(alone.Steps[s].Row.Loss));
                Assert.Equal(alone.Steps[s].Row.GradientNorm, same[s].Row.GradientNorm, 1e-3 * alone.Steps[s].Row.GradientNorm);
                Assert.Equal(alone.Steps[s].Row.LearningRate, same[s].Row.LearningRate);
            }
        }
    }

    [Theory]
    [InlineData(Engine.Native)]
    [InlineData(Engine.Ort)]
    public void TeacherForcedAtAHighRateItsGradientsAndUpdatesAreThoseAlone(Engine engine)
    {
        const int Run = 1;
        TrainingRow[] rows = Rows();
        Prompt[] start = Start();
        using var alone = new DirectPrompts(model.Device, [start[Run]]);
        using var beside = new DirectPrompts(model.Device, start);
        using var soloOptimizer = new Adafactor(model.Device, [.. alone.Parameters(0)], new AdafactorOptions());
        using var optimizer = new Adafactor(model.Device, [.. beside.Parameters(Run)], new AdafactorOptions());
        var soloLoss = new PromptLoss(model.Pass(engine), 1, LossReduction.Mean, TrainingModel.Whole);
        var loss = new PromptLoss(model.Pass(engine), Runs, LossReduction.Mean, TrainingModel.Whole);
        Parameter solo = alone.Parameters(0)[0], among = beside.Parameters(Run)[0];
        for (int step = 0; step < 6; step++)
        {
            soloLoss.Clear();
            loss.Clear();
            for (int i = 0; i < Runs; i++)
            {
                for (int e = 0; e < 3; e++)
                {
                    int example = (3 * step + e) % rows[i].Train.Count;
                    loss.Add(rows[i].Train, example, i, i);
                    if (i == Run)
                        soloLoss.Add(rows[i].Train, example, 0, 0);
                }
            }
            // The teacher: whatever the run became among the others, the next step starts from the prompt that it had alone.
            float[] before = solo.Value.ToArray<float>();
            among.Value.CopyFrom<float>(before);
            soloLoss.Run(alone.Table, alone.Gradients);
            loss.Run(beside.Table, beside.Gradients);
            Assert.Equal(soloLoss.Losses[0], loss.Losses[Run], 1e-5 * Math.Abs(soloLoss.Losses[0]));
            // The bound that gradients keep against PyTorch: sums of a few hundred float32 products in another order, through four blocks twice.
            float[] expected = solo.Gradient.ToArray<float>(), gradient = among.Gradient.ToArray<float>();
            double largest = expected.Max(Math.Abs);
            for (int k = 0; k < expected.Length; k++)
                Assert.Equal(expected[k], gradient[k], 2e-5 * largest);
            soloOptimizer.Step(0.3);
            optimizer.Step(0.3);
            float[] update = Difference(among.Value.ToArray<float>(), before), soloUpdate = Difference(solo.Value.ToArray<float>(), before);
            // Adafactor divides a number's gradient by its own history, so that what is nearly zero may differ by much; few are.
            Assert.InRange(TrainingModel.Distance(update, soloUpdate), 0, 1e-3);
        }
    }

    private static float[] Difference(float[] a, float[] b) => [.. a.Zip(b, (x, y) => x - y)];
}
