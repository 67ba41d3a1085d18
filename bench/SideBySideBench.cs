// 16 runs side by side against one after another on the shipped checkpoint: steps of prompt tuning and of IST at several batch sizes, beside what the machine
// could do at best; whole trainings in this process; and whole commands, start and scoring included.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Optimizers;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;
using ForwardEngine = IptNative.Model.Backward.ForwardEngine;

namespace IptNative.Bench;

internal static class SideBySideBench
{
    private const int Runs = 16, Rows = 20, Input = 12, Answer = 4, IntrinsicDim = 5;
    private const string Shape = "tiny 16 runs";
    private static readonly string Model = Path.Combine(Ledger.Root, "models", "t5-gym-tiny");

    public static void Run(BenchOptions options, Ledger ledger)
    {
        if ("steps".Contains(options.Only, StringComparison.Ordinal))
            Steps(options, ledger);
        if ("training".Contains(options.Only, StringComparison.Ordinal))
            Training(options, ledger);
        if ("commands".Contains(options.Only, StringComparison.Ordinal))
            Commands(options, ledger);
    }

    private static void Steps(BenchOptions options, Ledger ledger)
    {
        using var device = new CpuDevice(options.Threads);
        using Checkpoint checkpoint = Checkpoint.Open(Model);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device, Threads = options.Threads, AllowSpinning = false });
        using var lanes = new GradientPass(checkpoint, model, new GradientOptions { Forward = ForwardEngine.Native });
        // Whoever asks for each pass' own time gets no lanes.
        using var opByOp = new GradientPass(checkpoint, model, new GradientOptions { Forward = ForwardEngine.Native, TimesPasses = true });
        double peak = FmaPeak.Measure(device, 0.2);
        Console.WriteLine($"t5-gym-tiny, {Runs} runs, {Rows} + {Input} tokens and {Answer} of an answer, {options.Threads} threads, {peak:f0} GFLOP/s at best; ms by the clock, least disturbed fifth");
        Console.WriteLine("examples        ------ op by op ------        ------- lanes --------                  lanes over   one run's share   gain if side by side");
        Console.WriteLine("of a run        alone  together   gain        alone  together   gain    gain, CPU     op by op    of the peak      were at the peak");
        foreach (bool intrinsic in (ReadOnlySpan<bool>)[false, true])
        {
            foreach (int examples in (ReadOnlySpan<int>)[1, 2, 4, 8, 16])
                Steps(options, ledger, device, checkpoint, lanes, opByOp, examples, intrinsic, peak);
        }
    }

    private static void Steps(BenchOptions options, Ledger ledger, CpuDevice device, Checkpoint checkpoint, GradientPass lanes, GradientPass opByOp, int examples, bool intrinsic, double peak)
    {
        int rounds = options.Repeats > 0 ? options.Repeats : 9;
        var random = new SeededRandom(2);
        T5Batch together = new();
        T5Batch[] alone = [.. Enumerable.Range(0, Runs).Select(_ => new T5Batch())];
        for (int r = 0; r < Runs; r++)
        {
            for (int e = 0; e < examples; e++)
            {
                int[] input = Ids(random, Input, checkpoint.Config), answer = Ids(random, Answer, checkpoint.Config);
                together.Add(input, answer, prompt: r);
                alone[r].Add(input, answer, prompt: 0);
            }
        }
        using var all = new Tuned(device, checkpoint.Config.DModel, Runs, intrinsic);
        Tuned[] each = [.. Enumerable.Range(0, Runs).Select(_ => new Tuned(device, checkpoint.Config.DModel, 1, intrinsic))];
        TurnTimes[] times = InTurn.Time(rounds, untimed: 3,
        [
            () => One(opByOp),
            () => all.Step(opByOp, together, examples),
            () => One(lanes),
            () => all.Step(lanes, together, examples),
        ]);
        foreach (Tuned one in each)
            one.Dispose();
        double[] best = [.. times.Select(t => InTurn.Best(t.Clock))];
        double before = InTurn.Ratio(times[0].Clock, times[1].Clock), gain = InTurn.Ratio(times[2].Clock, times[3].Clock), cpu = InTurn.Ratio(times[2].Cpu, times[3].Cpu);
        var flops = new T5Flops(checkpoint.Config, Runs * examples, Rows + Input, Answer);
        double least = (flops.Forward + flops.InputGradient) / (peak * 1e9), alonePeak = least / best[2], together16 = least / best[3], bound = best[2] / least;
        double faster = InTurn.Ratio(times[1].Clock, times[3].Clock);
        string name = intrinsic ? $"ist d_I {IntrinsicDim}" : "prompts";
        Console.WriteLine($"{examples,2} {name,-9} {best[0] * 1e3,8:f1} {best[1] * 1e3,9:f1} {before,6:f2}     {best[2] * 1e3,8:f1} {best[3] * 1e3,9:f1} {gain,6:f2} {cpu,12:f2} {faster,12:f2} {alonePeak,17:p0} {bound,14:f2}");
        string settings = $"{(intrinsic ? $"steps of ist d_I {IntrinsicDim}" : "steps of prompt tuning")}; median of {rounds} ratios in turn", shape = $"{Shape} of {examples}x({Rows}+{Input})+{Answer}";
        ledger.Add(shape, settings, "side_by_side_gain_clock", gain, "1");
        ledger.Add(shape, settings, "side_by_side_gain_cpu", cpu, "1");
        ledger.Add(shape, settings, "side_by_side_gain_clock_op_by_op", before, "1");
        ledger.Add(shape, settings, "lanes_gain_side_by_side", faster, "1");
        ledger.Add(shape, settings, "lanes_gain_alone", InTurn.Ratio(times[0].Clock, times[2].Clock), "1");
        ledger.Add(shape, settings, "share_of_peak_alone_p20", alonePeak, "1");
        ledger.Add(shape, settings, "share_of_peak_side_by_side_p20", together16, "1");
        ledger.Add(shape, settings, "gain_if_side_by_side_ran_at_the_peak", bound, "1");

        void One(GradientPass pass)
        {
            for (int r = 0; r < Runs; r++)
                each[r].Step(pass, alone[r], examples);
        }
    }

    private static void Training(BenchOptions options, Ledger ledger)
    {
        int rounds = options.Repeats > 0 ? options.Repeats : 1;
        using var folder = new ScratchFolder();
        int next = 0;
        TurnTimes[] times = InTurn.Time(rounds, untimed: 0,
        [
            () =>
            {
                for (int seed = 0; seed < Runs; seed++)
                    Train(seed, 1);
            },
            () => Train(0, Runs),
        ]);
        Tell("in one process", rounds, times, ledger);

        void Train(int seed, int runs) =>
            TrainRun.Execute(RunConfig.Load(Path.Combine(Ledger.Root, "examples", "quickstart.json"), Settings(folder.Path, next++, seed, runs)), resume: false, new Quiet(), _ => { }, CancellationToken.None);
    }

    private static void Commands(BenchOptions options, Ledger ledger)
    {
        string program = Path.Combine(Ledger.Root, "artifacts", "bin", "Cli", "release", "iptnative.dll");
        if (!File.Exists(program))
            throw new ArgumentException($"{program}: timing commands; there is no such file. Build it: dotnet build src/Cli -c Release.");
        int rounds = options.Repeats > 0 ? options.Repeats : 1;
        using var folder = new ScratchFolder();
        int next = 0;
        var times = new TurnTimes[] { new(new double[rounds], new double[rounds]), new(new double[rounds], new double[rounds]) };
        for (int round = 0; round < rounds; round++)
        {
            ChildTime[] each = [.. Enumerable.Range(0, Runs).Select(seed => Train(seed, 1))];
            (times[0].Clock[round], times[0].Cpu[round]) = (each.Sum(t => t.Seconds), each.Sum(t => t.CpuSeconds));
            ChildTime all = Train(0, Runs);
            (times[1].Clock[round], times[1].Cpu[round]) = (all.Seconds, all.CpuSeconds);
        }
        Tell("as commands", rounds, times, ledger);

        ChildTime Train(int seed, int runs) =>
            ChildProcess.Run($"dotnet {program} train examples/quickstart.json {string.Join(' ', Settings(folder.Path, next++, seed, runs).Select(s => $"--set '{s}'"))}");
    }

    // One of the quickstart's tasks, and a quarter of its steps: 16 runs one after another are long.
    private static string[] Settings(string folder, int number, int seed, int runs) =>
    [
        $$"""tasks=[{"name":"words-second","data":"{{Path.Combine(Ledger.Root, "examples", "gym")}}"}]""", $"training.seed={seed}", $"training.runs={runs}", "training.steps=50", "training.eval_every=25", $"output={Path.Combine(folder, $"{number}")}",
    ];

    private static void Tell(string how, int rounds, TurnTimes[] times, Ledger ledger)
    {
        double clock = InTurn.Ratio(times[0].Clock, times[1].Clock), cpu = InTurn.Ratio(times[0].Cpu, times[1].Cpu);
        Console.WriteLine($"trainings {how}: {Runs} one after another {InTurn.Median(times[0].Clock):f1} s, side by side {InTurn.Median(times[1].Clock):f1} s: {clock:f2} times by clock, {cpu:f2} by CPU time");
        string settings = $"quickstart's words-second, 50 steps of 16, two evaluations, 300 test lines, {how}; median of {rounds}";
        ledger.Add(Shape, settings, "side_by_side_gain_clock", clock, "1");
        ledger.Add(Shape, settings, "side_by_side_gain_cpu", cpu, "1");
    }

    private static int[] Ids(SeededRandom random, int count, T5Config config) => [.. Enumerable.Range(0, count).Select(_ => 3 + random.Next(config.VocabSize - 200))];

    /// <summary>Prompts of some runs, or vectors that decode to them, each with an optimizer.</summary>
    private sealed class Tuned : IDisposable
    {
        private readonly CpuDevice _device;
        private readonly DeviceBuffer? _prompts, _gradients;
        private readonly AutoencoderSubspace? _subspace;
        private readonly IntrinsicBatch? _vectors;
        private readonly AdamW[] _updates;
        private readonly PromptTable _table;
        private readonly Tensor _to;
        private readonly double[] _losses, _weights;
        private int[] _groups = [];

        public Tuned(CpuDevice device, int d, int runs, bool intrinsic)
        {
            var random = new SeededRandom(runs);
            _device = device;
            (_losses, _weights) = (new double[runs], new double[runs]);
            if (intrinsic)
            {
                _subspace = AutoencoderSubspace.Create(device, new SubspaceHeader { Kind = SubspaceKind.Autoencoder, PromptLength = Rows, DModel = d, IntrinsicDim = IntrinsicDim, InnerDim = 128, SourceTasks = ["one", "two"] }, 1);
                _vectors = new IntrinsicBatch(_subspace, [.. Enumerable.Range(0, runs * IntrinsicDim).Select(_ => (float)random.NextNormal())]);
                _updates = [.. Enumerable.Range(0, runs).Select(r => new AdamW(device, [_vectors.Parameter(r)], new AdamWOptions()))];
                (_table, _to) = (new PromptTable(_vectors.Prompts, d, [.. Enumerable.Repeat(Rows, runs)]), _vectors.PromptGradients);
                return;
            }
            long one = (long)Rows * d;
            _prompts = device.Allocate(DType.F32, runs * one, "prompts");
            _gradients = device.Allocate(DType.F32, runs * one, "gradients");
            _prompts.Tensor.CopyFrom<float>([.. Enumerable.Range(0, (int)(runs * one)).Select(_ => (float)random.NextNormal())]);
            (_table, _to) = (new PromptTable(_prompts.Tensor, d, [.. Enumerable.Repeat(Rows, runs)]), _gradients.Tensor);
            _updates = [.. Enumerable.Range(0, runs).Select(r => new AdamW(device, [new Parameter("prompt", new TensorShape(Rows, d), _prompts.Tensor.Slice(r * one, one), _to.Slice(r * one, one))], new AdamWOptions()))];
        }

        public void Step(GradientPass pass, T5Batch batch, int examples)
        {
            if (_groups.Length != batch.Count)
                _groups = [.. Enumerable.Range(0, batch.Count).Select(i => i / examples)];
            Array.Fill(_weights, 1.0 / (examples * Answer));
            _vectors?.Decode();
            Elementwise.Fill(_device, _to, _to.Elements, 0);
            pass.Run(batch, _table, _groups, _weights, _losses, _to);
            _vectors?.Backward();
            foreach (AdamW update in _updates)
                update.Step(1e-3);
        }

        public void Dispose()
        {
            foreach (AdamW update in _updates)
                update.Dispose();
            _vectors?.Dispose();
            _subspace?.Dispose();
            _prompts?.Dispose();
            _gradients?.Dispose();
        }
    }

    private sealed class ScratchFolder : IDisposable
    {
        public string Path { get; } = Directory.CreateTempSubdirectory("iptnative-bench-").FullName;

        public void Dispose() => Directory.Delete(Path, recursive: true);
    }

    private sealed class Quiet : IRunObserver
    {
        public void Started(RunStart start)
        {
            // Nobody looks.
        }

        public void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows)
        {
            // Likewise.
        }

        public void Evaluated(EvalReport report)
        {
            // Likewise.
        }

        public void RowEnded(RowFinished row)
        {
            // Likewise.
        }

        public void Finished(RunFinished report)
        {
            // Likewise.
        }
    }
}
