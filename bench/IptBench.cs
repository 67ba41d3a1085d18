// What Intrinsic Prompt Tuning costs beside prompt tuning: a step of each on the same batch. Runs side by side: SideBySideBench.cs.
// Timed: prompts, model forward and backward, update. Not timed: evaluation, files, the choice of examples. Compare the lines of one run only.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Optimizers;
using IptNative.Tuning.Subspaces;

namespace IptNative.Bench;

internal static class IptBench
{
    private const int Batch = 8, Prompt = 100, Source = 128, Target = 8, Tasks = 8;

    /// <summary>One step of prompt tuning, IST and MSF, in turn: whatever else the machine does, it does to all three.</summary>
    public static void Run(BenchOptions options, Ledger ledger)
    {
        int repeats = options.Repeats > 0 ? options.Repeats : 7;
        using var device = new CpuDevice(options.Threads);
        using var checkpoint = new RandomCheckpoint(ForwardBench.Base);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device, Threads = options.Threads, AllowSpinning = false });
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = ForwardEngine.Native });
        int d = checkpoint.Config.DModel;
        using AutoencoderSubspace subspace = AutoencoderSubspace.Create(device, new SubspaceHeader
        {
            Kind = SubspaceKind.Autoencoder,
            PromptLength = Prompt,
            DModel = d,
            IntrinsicDim = 5,
            InnerDim = 768,
            SourceTasks = [.. Enumerable.Range(0, Tasks).Select(t => $"task {t}")],
        }, 1);
        long elements = (long)Tasks * Prompt * d;
        using DeviceBuffer prompts = device.Allocate(DType.F32, elements, "prompts"), star = device.Allocate(DType.F32, elements, "reconstructed prompts"), gradient = device.Allocate(DType.F32, elements, "gradients");
        var random = new SeededRandom(1);
        prompts.Tensor.CopyFrom<float>([.. Enumerable.Range(0, (int)elements).Select(_ => (float)random.NextNormal())]);
        var shape = new TensorShape(Prompt, d);
        Parameter[] parameters = [.. Enumerable.Range(0, Tasks).Select(t => new Parameter($"prompt {t}", shape, Row(prompts.Tensor, t), Row(gradient.Tensor, t)))];
        using var direct = new AdamW(device, parameters, new AdamWOptions());
        using var vectors = new IntrinsicBatch(subspace, [.. Enumerable.Range(0, Tasks * 5).Select(_ => (float)random.NextNormal())]);
        AdamW[] intrinsic = [.. Enumerable.Range(0, Tasks).Select(t => new AdamW(device, [vectors.Parameter(t)], new AdamWOptions()))];
        using var msf = new MsfStep(subspace, new MsfObjective { Alpha = 1 }, new AdamWOptions());
        var batch = new T5Batch();
        for (int b = 0; b < Batch; b++)
            batch.Add(Ids(random, Source, checkpoint.Config), Ids(random, Target, checkpoint.Config), prompt: b % Tasks);
        int[] groups = [.. Enumerable.Range(0, Batch).Select(b => b % Tasks)];
        double[] weights = [.. Enumerable.Repeat(1.0 / Target, Tasks)], losses = new double[Tasks];
        float[] shares = [.. Enumerable.Repeat(1f / Tasks, Tasks)];
        (string Name, Action Step)[] lines =
        [
            ("prompt tuning", () =>
            {
                Model(prompts.Tensor, gradient.Tensor);
                direct.Step(1e-3);
            }),
            ("ist", () =>
            {
                vectors.Decode();
                Model(vectors.Prompts, vectors.PromptGradients);
                vectors.Backward();
                foreach (AdamW one in intrinsic)
                    one.Step(1e-3);
            }),
            ("msf", () =>
            {
                msf.Reconstruct(prompts.Tensor, Tasks, star.Tensor);
                Model(star.Tensor, gradient.Tensor);
                msf.Backward(gradient.Tensor, shares);
                msf.Update(1e-5);
            }),
        ];
        Console.WriteLine($"T5-base-shaped, {Batch} examples of {Tasks} prompts, {Prompt} + {Source} tokens, {options.Threads} threads: CPU time and clock of a step");
        TurnTimes[] times = InTurn.Time(repeats, [.. lines.Select(l => l.Step)]);
        for (int i = 0; i < lines.Length; i++)
        {
            double cpu = InTurn.Ratio(times[i].Cpu, times[0].Cpu), clock = InTurn.Ratio(times[i].Clock, times[0].Clock);
            Console.WriteLine($"  {lines[i].Name,-14} {InTurn.Median(times[i].Cpu) * 1e3,8:f0} ms CPU {InTurn.Median(times[i].Clock) * 1e3,8:f0} ms   against prompt tuning: {cpu:f3} by CPU time, {clock:f3} by clock");
            ledger.Add("base 8x(100+128), 8 tasks", $"{lines[i].Name}; median of {repeats} in turn", "cpu_time_p50", InTurn.Median(times[i].Cpu) * 1e3, "ms");
            ledger.Add("base 8x(100+128), 8 tasks", $"{lines[i].Name}; median of {repeats} ratios in turn", "against_prompt_tuning_cpu", cpu, "1");
            ledger.Add("base 8x(100+128), 8 tasks", $"{lines[i].Name}; median of {repeats} ratios in turn", "against_prompt_tuning_clock", clock, "1");
        }
        foreach (AdamW one in intrinsic)
            one.Dispose();

        void Model(Tensor table, Tensor to)
        {
            Elementwise.Fill(device, to, to.Elements, 0);
            Array.Clear(losses);
            pass.Run(batch, new PromptTable(table, d, [.. Enumerable.Repeat(Prompt, Tasks)]), groups, weights, losses, to);
        }

        Tensor Row(Tensor table, int row) => table.Slice((long)row * Prompt * d, (long)Prompt * d);
    }

    private static int[] Ids(SeededRandom random, int count, T5Config config) => [.. Enumerable.Range(0, count).Select(_ => 3 + random.Next(config.VocabSize - 200))];
}
