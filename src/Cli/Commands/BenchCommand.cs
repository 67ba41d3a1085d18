// `iptnative bench`: how fast and how large a training step is on this machine, without a checkpoint at hand.
using System.CommandLine;
using System.Text.Json;
using IptNative.Cli.Terminal;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Tuning.Benchmarks;

namespace IptNative.Cli.Commands;

internal static class BenchCommand
{
    public static Command Create()
    {
        var command = new Command("bench", "Measure this machine.") { Step() };
        command.WithExamples("iptnative bench step --shape base --activations full");
        return command;
    }

    private static Command Step()
    {
        var defaults = new StepBenchmarkOptions();
        var shape = new Option<string>("--shape") { Description = "A published T5 v1.1 size; the weights are random.", DefaultValueFactory = _ => defaults.Shape };
        shape.AcceptOnlyFromAmong([.. T5Shapes.Names]);
        var activations = new Option<string>("--activations") { Description = "What the forward pass keeps: less is smaller and slower; auto: everything, or what the budget allows.", DefaultValueFactory = _ => "auto" };
        activations.AcceptOnlyFromAmong("auto", "blocks", "sublayers", "full");
        var forward = new Option<string>("--forward") { Description = "Who computes the forward pass: ONNX Runtime or our own kernels; auto: our own.", DefaultValueFactory = _ => "auto" };
        forward.AcceptOnlyFromAmong("auto", "ort", "native");
        var weights = new Option<string>("--weights") { Description = "Read whole before the first step, mapped from the file, or streamed from it block by block; auto: mapped, or streamed where the budget asks for it.", DefaultValueFactory = _ => "auto" };
        weights.AcceptOnlyFromAmong("auto", "resident", "mapped", "streamed");
        var budget = new SizeOption("--memory-budget", "Memory that the process may take, for example 700MB: the fastest settings that fit are taken.");
        Option<string> compute = ComputeOption.Create();
        var lengths = new Option<string>("--lengths") { Description = "Source lengths: fixed, or gym: 25 tokens in the mean, 96 the longest. --source does not count then.", DefaultValueFactory = _ => "fixed" };
        lengths.AcceptOnlyFromAmong("fixed", "gym");
        var tape = new Option<string>("--tape") { Description = "Type of the activations kept inside sublayers; the residual stream is f32 in either.", DefaultValueFactory = _ => "f32" };
        tape.AcceptOnlyFromAmong("f32", "bf16");
        var spill = new Option<string?>("--spill") { Description = "Folder for a file that holds the activations, a block of them in memory at a time; it is removed afterwards." };
        var dtype = new Option<string>("--dtype") { Description = "Stored type of the weights.", DefaultValueFactory = _ => "f32" };
        dtype.AcceptOnlyFromAmong([.. WeightFormats.Names]);
        Option<int> batch = Number("--batch", "Examples.", defaults.Batch), prompt = Number("--prompt", "Prompt rows.", defaults.Prompt),
            source = Number("--source", "Source tokens beside the prompt.", defaults.Source), target = Number("--target", "Target tokens.", defaults.Target),
            steps = Number("--steps", "Timed steps, after one that is not; medians are printed.", defaults.Steps),
            threads = Number("--threads", "CPU threads; 0 takes every core.", defaults.Threads);
        var device = new DeviceOption();
        var asJson = new Option<bool>("--json") { Description = "One JSON object instead of a table." };
        var command = new Command("step", "One prompt-tuning step on random weights: time by part, share of the cores' peak, peak memory.")
        {
            shape, activations, tape, spill, forward, dtype, compute, weights, budget, lengths, batch, prompt, source, target, steps, threads, device, asJson,
        };
        command.WithExamples(
            "iptnative bench step --shape base --activations full",
            "iptnative bench step --shape base --dtype bf16 --compute bf16",
            "iptnative bench step --shape base --dtype int8 --activations blocks",
            "iptnative bench step --shape xxl --dtype int4 --weights streamed --batch 1 --prompt 20 --source 64 --activations blocks --steps 1");
        command.SetRun((parsed, cancel) =>
        {
            ComputeType products = ComputeOption.Read(parsed, compute);
            ForwardEngine? engine = Word<ForwardEngine>(parsed.GetValue(forward)!);
            using ComputeDevice used = device.Open(parsed, parsed.GetValue(threads), products);
            if (used is CpuDevice)
                ForwardOption.Require(engine, products);
            StepBenchmarkResult result = StepBenchmark.Run(
                new StepBenchmarkOptions
                {
                    Shape = parsed.GetValue(shape)!,
                    Activations = Word<Activations>(parsed.GetValue(activations)!),
                    Forward = engine,
                    Weights = Word<WeightResidence>(parsed.GetValue(weights)!),
                    MemoryBudget = budget.Of(parsed),
                    DType = WeightFormats.Parse(parsed.GetValue(dtype)!)!.Value, // Checked by the option.
                    Compute = products,
                    Tape = Enum.Parse<DType>(parsed.GetValue(tape)!, ignoreCase: true),
                    SpillFolder = parsed.GetValue(spill),
                    Lengths = Enum.Parse<SourceLengths>(parsed.GetValue(lengths)!, ignoreCase: true),
                    Batch = parsed.GetValue(batch),
                    Prompt = parsed.GetValue(prompt),
                    Source = parsed.GetValue(source),
                    Target = parsed.GetValue(target),
                    Steps = parsed.GetValue(steps),
                    Threads = parsed.GetValue(threads),
                },
                cancel,
                used);
            using TextWriter output = StandardOutput.Open();
            if (parsed.GetValue(asJson))
                WriteJson(output, result);
            else
                WriteTable(output, result);
            return ExitCode.Done;
        });
        return command;
    }

    private static Option<int> Number(string name, string description, int value) => new(name) { Description = description, DefaultValueFactory = _ => value };

    private static void WriteTable(TextWriter output, StepBenchmarkResult r)
    {
        StepBenchmarkOptions o = r.Options;
        output.WriteLine($"T5 v1.1 {o.Shape}, {WeightFormats.Name(o.DType)} weights, {Name(r.Plan.Request.Residence)}, {Name(o.Compute)} products, {Name(r.Plan.Request.Forward)} forward, {Name(r.Plan.Request.Activations)} activations{(o.Tape == DType.BF16 ? " in bf16" : "")}{(o.SpillFolder is null ? "" : " on disk")}, batch {o.Batch}{(r.Plan.Request.Examples < o.Batch ? $" in parts of {r.Plan.Request.Examples}" : "")}, {o.Prompt} + {(o.Lengths == SourceLengths.Gym ? "gym" : o.Source)} source tokens, {o.Target} target tokens");
        output.WriteLine($"step        {r.StepSeconds,8:f3} s   median of {o.Steps}; {r.CpuSeconds:f3} s of processor time");
        output.WriteLine($"  forward   {r.ForwardSeconds,8:f3} s");
        output.WriteLine($"  backward  {r.BackwardSeconds,8:f3} s   lm_head and loss included");
        output.WriteLine($"  optimizer {r.OptimizerSeconds,8:f3} s   Adafactor");
        output.WriteLine($"speed       {r.GflopPerSecond,8:f0} GFLOP/s of {r.Gflop:f0} GFLOP that a step needs at least");
        output.WriteLine($"FMA peak    {r.FmaPeak,8:f0} GFLOP/s measured beside the steps: {r.GflopPerSecond / r.FmaPeak:p0} reached");
        if (r.DevicePeakBytes > 0)
            output.WriteLine($"on {r.Device,-8} {r.DevicePeakBytes / 1e6,8:f0} MB taken at the most (planned {r.Plan.Total / 1e6:f0} MB)");
        output.WriteLine($"peak memory {r.PeakBytes / 1e6,8:f0} MB resident, mapped weights included{(r.DevicePeakBytes > 0 ? "" : $" (planned {r.Plan.Total / 1e6:f0} MB)")}; {r.AllocatedBytes} managed bytes allocated in a step");
    }

    private static void WriteJson(TextWriter output, StepBenchmarkResult r) => JsonOutput.WriteObject(output, json =>
    {
        json.WriteString("shape", r.Options.Shape);
        json.WriteString("dtype", WeightFormats.Name(r.Options.DType));
        json.WriteString("activations", Name(r.Plan.Request.Activations));
        json.WriteString("weights", Name(r.Plan.Request.Residence));
        json.WriteString("forward", Name(r.Plan.Request.Forward));
        json.WriteString("tape", r.Options.Tape.Name());
        json.WriteBoolean("spilled", r.Options.SpillFolder is not null);
        json.WriteString("compute", Name(r.Options.Compute));
        json.WriteString("lengths", Name(r.Options.Lengths));
        WriteSizes(json, r.Options);
        json.WriteNumber("step_s", r.StepSeconds);
        json.WriteNumber("forward_s", r.ForwardSeconds);
        json.WriteNumber("backward_s", r.BackwardSeconds);
        json.WriteNumber("optimizer_s", r.OptimizerSeconds);
        json.WriteNumber("step_cpu_s", r.CpuSeconds);
        json.WriteNumber("gflop", r.Gflop);
        json.WriteNumber("gflop_per_s", r.GflopPerSecond);
        json.WriteNumber("fma_peak_gflop_per_s", r.FmaPeak);
        json.WriteNumber("examples_at_once", r.Plan.Request.Examples);
        json.WriteNumber("peak_bytes", r.PeakBytes);
        json.WriteNumber("planned_bytes", r.Plan.Total);
        json.WriteNumber("allocated_bytes", r.AllocatedBytes);
        json.WriteString("device", r.Device);
        json.WriteNumber("device_peak_bytes", r.DevicePeakBytes);
        json.WriteNumber("loss", r.Loss);
    });

    /// <summary>What a step is of, as `profile --json` says it too.</summary>
    internal static void WriteSizes(Utf8JsonWriter json, StepBenchmarkOptions options)
    {
        json.WriteNumber("batch", options.Batch);
        json.WriteNumber("prompt", options.Prompt);
        json.WriteNumber("source", options.Source);
        json.WriteNumber("target", options.Target);
        json.WriteNumber("steps", options.Steps);
    }

    private static T? Word<T>(string word)
        where T : struct, Enum => word == "auto" ? null : Enum.Parse<T>(word, ignoreCase: true);

    private static string Name<T>(T value)
        where T : struct, Enum => value.ToString().ToLowerInvariant();
}
