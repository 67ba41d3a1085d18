// What Intrinsic Prompt Tuning costs beside prompt tuning: a step of each on the same batch, and 16 runs side by side against one after another.
// Timed: prompts, model forward and backward, update. Not timed: evaluation, files, the choice of examples. Compare the lines of one run only.
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Optimizers;
using IptNative.Tuning.Subspaces;

namespace IptNative.Bench;

internal static class IptBench
{
    private const int Batch = 8, Prompt = 100, Source = 128, Target = 8, Tasks = 8;

    public static void Run(BenchOptions options, Ledger ledger)
    {
        if ("steps base".Contains(options.Only, StringComparison.Ordinal))
            Steps(options, ledger);
        if ("side by side tiny".Contains(options.Only, StringComparison.Ordinal))
            SideBySide(options, ledger);
    }

    /// <summary>One step of prompt tuning, IST and MSF, in turn: whatever else the machine does, it does to all three.</summary>
    private static void Steps(BenchOptions options, Ledger ledger)
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
        (double[] Cpu, double[] Clock)[] times = Time(lines, repeats);
        for (int i = 0; i < lines.Length; i++)
        {
            double cpu = Ratio(times[i].Cpu, times[0].Cpu), clock = Ratio(times[i].Clock, times[0].Clock);
            Console.WriteLine($"  {lines[i].Name,-14} {Median(times[i].Cpu) * 1e3,8:f0} ms CPU {Median(times[i].Clock) * 1e3,8:f0} ms   against prompt tuning: {cpu:f3} by CPU time, {clock:f3} by clock");
            ledger.Add("base 8x(100+128), 8 tasks", $"{lines[i].Name}; median of {repeats} in turn", "cpu_time_p50", Median(times[i].Cpu) * 1e3, "ms");
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

    /// <summary>16 runs of few-shot batches on the shipped model, as one batch and as 16.</summary>
    private static void SideBySide(BenchOptions options, Ledger ledger)
    {
        const int Runs = 16, Rows = 20, Examples = 4, Input = 16, Answer = 4;
        int repeats = options.Repeats > 0 ? options.Repeats : 15;
        using var device = new CpuDevice(options.Threads);
        using Checkpoint checkpoint = Checkpoint.Open(Path.Combine(Ledger.Root, "models", "t5-gym-tiny"));
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device, Threads = options.Threads, AllowSpinning = false });
        int d = checkpoint.Config.DModel;
        using DeviceBuffer prompts = device.Allocate(DType.F32, (long)Runs * Rows * d, "prompts"), gradient = device.Allocate(DType.F32, (long)Runs * Rows * d, "gradients");
        var random = new SeededRandom(2);
        prompts.Tensor.CopyFrom<float>([.. Enumerable.Range(0, Runs * Rows * d).Select(_ => (float)random.NextNormal())]);
        AdamW[] updates = [.. Enumerable.Range(0, Runs).Select(r => new AdamW(device, [new Parameter("prompt", new TensorShape(Rows, d), Row(prompts.Tensor, r), Row(gradient.Tensor, r))], new AdamWOptions()))];
        var table = new PromptTable(prompts.Tensor, d, [.. Enumerable.Repeat(Rows, Runs)]);
        T5Batch all = new();
        T5Batch[] alone = [.. Enumerable.Range(0, Runs).Select(_ => new T5Batch())];
        for (int r = 0; r < Runs; r++)
        {
            for (int e = 0; e < Examples; e++)
            {
                int[] input = Ids(random, Input, checkpoint.Config), answer = Ids(random, Answer, checkpoint.Config);
                all.Add(input, answer, prompt: r);
                alone[r].Add(input, answer, prompt: r);
            }
        }
        int[] groups = [.. Enumerable.Range(0, Runs * Examples).Select(i => i / Examples)];
        double[] weights = [.. Enumerable.Repeat(1.0 / (Examples * Answer), Runs)], losses = new double[Runs];
        Console.WriteLine($"t5-gym-tiny, {Runs} runs of {Examples} examples a step, {Rows} + {Input} tokens, {options.Threads} threads");
        foreach (ForwardEngine engine in (ForwardEngine[])[ForwardEngine.Native, ForwardEngine.Ort])
        {
            using var pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = engine });
            (string Name, Action Step)[] lines =
            [
                ("side by side", () =>
                {
                    Elementwise.Fill(device, gradient.Tensor, gradient.Tensor.Elements, 0);
                    pass.Run(all, table, groups, weights, losses, gradient.Tensor);
                    foreach (AdamW update in updates)
                        update.Step(1e-3);
                }),
                ("one after another", () =>
                {
                    for (int r = 0; r < Runs; r++)
                    {
                        Elementwise.Fill(device, gradient.Tensor, gradient.Tensor.Elements, 0);
                        pass.Run(alone[r], table, [.. Enumerable.Repeat(r, Examples)], weights, losses, gradient.Tensor);
                        updates[r].Step(1e-3);
                    }
                }),
            ];
            (double[] Cpu, double[] Clock)[] times = Time(lines, repeats);
            double clock = Ratio(times[1].Clock, times[0].Clock), cpu = Ratio(times[1].Cpu, times[0].Cpu);
            Console.WriteLine($"  {engine,-7} side by side {Median(times[0].Clock) * 1e3:f1} ms, one after another {Median(times[1].Clock) * 1e3:f1} ms: {clock:f2} times by clock, {cpu:f2} by CPU time");
            string settings = $"{engine} forward; median of {repeats} ratios in turn".ToLowerInvariant();
            ledger.Add("tiny 16 runs of 4x(20+16)", settings, "side_by_side_gain_clock", clock, "1");
            ledger.Add("tiny 16 runs of 4x(20+16)", settings, "side_by_side_gain_cpu", cpu, "1");
        }
        foreach (AdamW update in updates)
            update.Dispose();

        Tensor Row(Tensor whole, int run) => whole.Slice((long)run * Rows * d, (long)Rows * d);
    }

    private static (double[] Cpu, double[] Clock)[] Time((string Name, Action Step)[] lines, int repeats)
    {
        (double[] Cpu, double[] Clock)[] times = [.. lines.Select(_ => (new double[repeats], new double[repeats]))];
        using var process = Process.GetCurrentProcess();
        for (int repeat = -1; repeat < repeats; repeat++)
        {
            for (int i = 0; i < lines.Length; i++)
            {
                process.Refresh();
                double cpu = process.TotalProcessorTime.TotalSeconds;
                long begin = Stopwatch.GetTimestamp();
                lines[i].Step();
                double clock = Stopwatch.GetElapsedTime(begin).TotalSeconds;
                process.Refresh();
                // The first time takes memory and compiles.
                if (repeat >= 0)
                    (times[i].Clock[repeat], times[i].Cpu[repeat]) = (clock, process.TotalProcessorTime.TotalSeconds - cpu);
            }
        }
        return times;
    }

    private static int[] Ids(SeededRandom random, int count, T5Config config) => [.. Enumerable.Range(0, count).Select(_ => 3 + random.Next(config.VocabSize - 200))];

    private static double Median(double[] values) => Summary.At([.. values.Order()], 0.5);

    private static double Ratio(double[] of, double[] to) => Median([.. of.Zip(to).Select(p => p.First / p.Second)]);
}
