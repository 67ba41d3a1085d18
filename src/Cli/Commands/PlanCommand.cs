// `iptnative plan`: the memory that a training step will take, without running anything.
using System.CommandLine;
using IptNative.Cli.Terminal;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Tuning.Benchmarks;
using IptNative.Tuning.Memory;

namespace IptNative.Cli.Commands;

internal static class PlanCommand
{
    // What products reach of the cores' peak in a whole step, on an idle machine (bench/results.csv).
    private const double ShareOfPeak = 0.7;

    // CUDA's contexts and libraries: what a process holds on a device before its first tensor; what the driver calls free is without them. A guess.
    private const long DeviceRuntime = 600_000_000;

    public static Command Create()
    {
        var model = new Option<string?>("--model") { Description = "Package, checkpoint folder, weight file or Hub name; its own formats count." };
        var shape = new Option<string?>("--shape") { Description = "A published T5 v1.1 size in place of a model." };
        shape.AcceptOnlyFromAmong([.. T5Shapes.Names]);
        var dtype = new Option<string>("--dtype") { Description = "Weight format of the shape.", DefaultValueFactory = _ => "f32" };
        dtype.AcceptOnlyFromAmong([.. WeightFormats.Names]);
        Option<string> activations = Words("--activations", "What the forward pass keeps.", "blocks", "sublayers", "full"),
            weights = Words("--weights", "Where the weights are.", "resident", "mapped", "streamed"),
            forward = Words("--forward", "Who computes the forward pass.", "ort", "native");
        var tape = new Option<string>("--tape") { Description = "Type of the activations kept inside sublayers; bf16 needs our own forward pass.", DefaultValueFactory = _ => "f32" };
        tape.AcceptOnlyFromAmong("f32", "bf16");
        var spill = new Option<bool>("--spill") { Description = "The activations are kept in a file, a block of them in memory at a time." };
        var defaults = new StepBenchmarkOptions();
        Option<int> batch = Number("--batch", "Examples of a step.", defaults.Batch), prompt = Number("--prompt", "Prompt rows.", defaults.Prompt),
            source = Number("--source", "Source tokens of the longest example, beside the prompt.", defaults.Source), target = Number("--target", "Target tokens of the longest example.", defaults.Target);
        var budget = new SizeOption("--memory-budget", "Memory of the process, for example 6GiB: the fastest settings that fit are planned.");
        var device = new DeviceOption();
        var memory = new SizeOption("--device-memory", "Memory of the GPU that is planned for, for example 16GiB; then none is asked, and none need be here. Without it: what the driver calls free on --device.");
        Option<string> compute = ComputeOption.Create();
        var speed = new Option<double?>("--device-tflops") { Description = "What that GPU's products reach, in 10^12 operations a second (its profile's ceiling, not its data sheet's peak): a step's time is estimated with it." };
        var table = new Option<bool>("--table") { Description = "Every published size in every format as a Markdown table." };
        var asJson = new Option<bool>("--json") { Description = "One JSON object instead of a table." };
        var threads = new ThreadsOption();
        var command = new Command("plan", "Say what a training step will hold in memory, without running it.")
        {
            model, shape, dtype, compute, activations, tape, spill, weights, forward, batch, prompt, source, target, budget, device, memory, speed, table, threads, asJson,
        };
        command.WithExamples(
            "iptnative plan --model models/t5-gym-tiny",
            "iptnative plan --shape xl --dtype int8 --batch 4 --memory-budget 6GiB",
            "iptnative plan --shape xl --dtype bf16 --batch 32 --source 256 --device cuda:0",
            "iptnative plan --shape xxl --dtype int4 --batch 1 --device-memory 16GiB --device-tflops 40");
        command.SetRun((parsed, _) =>
        {
            using TextWriter output = StandardOutput.Open();
            if (parsed.GetValue(table))
            {
                if (parsed.CommandResult.Command.Options.FirstOrDefault(o => o != table && o != threads && parsed.GetResult(o) is { Implicit: false }) is { } other)
                    throw new UsageException($"plan: found --table with {other.Name}, expected --table alone or with --threads: its rows and columns are fixed.");
                WriteShapes(output, threads.Of(parsed));
                return ExitCode.Done;
            }
            if ((parsed.GetValue(model) is null) == (parsed.GetValue(shape) is null))
                throw new UsageException("plan: expected either --model DIR or --shape NAME.");
            if (parsed.GetValue(model) is not null && parsed.GetResult(dtype) is { Implicit: false })
                throw new UsageException("plan: found --dtype with --model, expected one of them: a model's weights have formats of their own. 'export --dtype' writes it in another one.");
            ComputeType products = Enum.Parse<ComputeType>(parsed.GetValue(compute)!, ignoreCase: true); // Checked by the option.
            (string? gpu, long? room, string where) = Gpu(parsed, device, memory, budget);
            bool onDevice = gpu is not null;
            if (parsed.GetValue(speed) is { } ceiling && (!onDevice || !(ceiling > 0 && double.IsFinite(ceiling))))
                throw new UsageException($"--device-tflops is {ceiling}, expected a positive number beside --device-memory or --device: these cores are measured instead.");
            StoredWeights stored = Stored(parsed.GetValue(model), parsed.GetValue(shape), WeightFormats.Parse(parsed.GetValue(dtype)!)!.Value); // Checked by the option.
            DType inside = Enum.Parse<DType>(parsed.GetValue(tape)!, ignoreCase: true);
            ForwardEngine? engine = Word<ForwardEngine>(parsed.GetValue(forward)!) ?? (onDevice ? ForwardEngine.Native : null);
            WeightResidence? residence = Word<WeightResidence>(parsed.GetValue(weights)!);
            if (onDevice && (parsed.GetValue(spill) || residence is WeightResidence.Mapped or WeightResidence.Streamed))
                throw new UsageException($"plan: found {(parsed.GetValue(spill) ? "--spill" : $"--weights {parsed.GetValue(weights)}")} with {gpu}, expected weights and activations that the device holds. Leave it out, or plan for --device cpu.");
            if (onDevice)
                residence = WeightResidence.Resident;
            if (onDevice && engine == ForwardEngine.Ort && stored.IsQuantised)
                throw new UsageException($"plan: found --forward ort with {stored.Formats} on {gpu}, expected f32, bf16 or f16 weights: ONNX Runtime would widen the codes. Choose --forward native, or --dtype bf16.");
            if (!onDevice)
                ForwardOption.Require(engine, products);
            if (inside != DType.F32 || parsed.GetValue(spill) || residence == WeightResidence.Streamed)
            {
                if (engine == ForwardEngine.Ort)
                {
                    string other = inside != DType.F32 ? "--tape bf16" : parsed.GetValue(spill) ? "--spill" : "--weights streamed";
                    throw new UsageException($"plan: found --forward ort with {other}, expected --forward native: ONNX Runtime keeps float32 in memory and binds all weights at once.");
                }
                engine = ForwardEngine.Native;
            }
            var request = new MemoryRequest
            {
                Weights = stored,
                Residence = residence ?? WeightResidence.Mapped,
                Forward = engine ?? ForwardEngines.Training,
                Activations = Word<Activations>(parsed.GetValue(activations)!) ?? Activations.Full,
                Tape = inside,
                Spilled = parsed.GetValue(spill),
                Examples = Positive(parsed, batch),
                Source = Positive(parsed, prompt) + Positive(parsed, source),
                Target = Positive(parsed, target),
                PromptRows = Positive(parsed, prompt),
                Threads = threads.Of(parsed) is > 0 and var given ? given : Environment.ProcessorCount,
                Device = gpu,
                Compute = products,
            };
            long? limit = room ?? budget.Of(parsed);
            MemoryPlan plan = limit is not { } most ? MemoryPlan.Of(request)
                : MemoryPlanner.Fit(request, new MemoryFreedom(Word<Activations>(parsed.GetValue(activations)!), residence, engine, request.Examples), most);
            double? seconds = !onDevice ? Seconds(plan, parsed.GetValue(batch), threads.Of(parsed)) : parsed.GetValue(speed) is { } tflops ? plan.Seconds(1000 * tflops, parsed.GetValue(batch)) : null;
            if (parsed.GetValue(asJson))
                WriteJson(output, plan, seconds);
            else
                WriteTable(output, plan, onDevice || limit is null ? where : $"in {ByteSize.Text(limit.Value)}", seconds, onDevice);
            return ExitCode.Done;
        });
        return command;
    }

    // The GPU that is planned for, null for the CPU; the memory there is; in words.
    private static (string? Name, long? Room, string Where) Gpu(ParseResult parsed, DeviceOption option, SizeOption memory, SizeOption budget)
    {
        DeviceChoice choice = option.Of(parsed);
        bool given = parsed.GetResult(option) is { Implicit: false };
        if (memory.Of(parsed) is { } stated)
        {
            if (budget.Of(parsed) is not null)
                throw new UsageException("plan: found --memory-budget and --device-memory, expected one of them: the first is the process' memory, the second a GPU's.");
            if (given && choice.Kind == DeviceKind.Cpu)
                throw new UsageException("plan: found --device cpu with --device-memory, expected a GPU: --device cuda:0, or --memory-budget for the CPU.");
            return ($"cuda:{choice.Ordinal}", Math.Max(1, stated - DeviceRuntime), $"on a GPU of {ByteSize.Text(stated)}, {ByteSize.Text(DeviceRuntime)} of it left to CUDA itself");
        }
        if (choice.Kind == DeviceKind.Cpu)
            return (null, null, "");
        try
        {
            using ComputeDevice device = option.Open(parsed, 1, ComputeType.F32);
            if (device is CpuDevice)
                return (null, null, "");
            long? free = MemoryPlanner.DeviceBudget(device, budget.Of(parsed));
            return (device.Name, free, free is { } bytes ? $"of {ByteSize.Text(bytes)} free on {device.Name}" : $"on {device.Name}");
        }
        catch (NotSupportedException e)
        {
            throw new NotSupportedException($"{e.Message} A plan needs no GPU where --device-memory says its size.", e);
        }
    }

    private static StoredWeights Stored(string? model, string? shape, DType dtype)
    {
        if (shape is not null)
            return StoredWeights.Of(T5Shapes.Named(shape), dtype);
        using Checkpoint checkpoint = Checkpoint.Open(model!, new CheckpointOpenOptions { CheckFinite = false }); // One of the two is given: checked above.
        return StoredWeights.Of(checkpoint);
    }

    private static double Seconds(MemoryPlan plan, int examples, int threads)
    {
        using var cores = new CpuDevice(threads);
        return plan.Seconds(ShareOfPeak * FmaPeak.Measure(cores, 0.3), examples);
    }

    private static void WriteTable(TextWriter output, MemoryPlan plan, string where, double? seconds, bool onDevice)
    {
        output.WriteLine(MemoryPlanner.Describe(plan));
        foreach (MemoryLine line in plan.Lines)
            output.WriteLine($"{line.What,-18}{ByteSize.Text(line.Bytes),12}  {line.Detail}");
        output.WriteLine($"{"peak",-18}{ByteSize.Text(plan.Total),12}  {where}");
        if (seconds is { } time)
            output.WriteLine($"{"step",-18}{time,10:0.0##} s  {(onDevice ? "estimated at the ceiling given" : $"estimated at {ShareOfPeak:p0} of these cores' measured peak")}, weights in memory");
    }

    private static void WriteJson(TextWriter output, MemoryPlan plan, double? seconds) => JsonOutput.WriteObject(output, json =>
    {
        MemoryRequest r = plan.Request;
        json.WriteString("device", r.Device ?? "cpu");
        json.WriteString("weights", r.Residence.ToString().ToLowerInvariant());
        json.WriteString("forward", r.Forward.ToString().ToLowerInvariant());
        json.WriteString("activations", r.Activations.ToString().ToLowerInvariant());
        json.WriteString("tape", r.Tape.Name());
        json.WriteBoolean("spilled", r.Spilled);
        json.WriteNumber("examples_at_once", r.Examples);
        json.WriteStartObject("bytes");
        foreach (MemoryLine line in plan.Lines)
            json.WriteNumber(line.What, line.Bytes);
        json.WriteEndObject();
        json.WriteNumber("peak_bytes", plan.Total);
        if (seconds is { } time)
            json.WriteNumber("step_s", time);
    }, indented: true);

    // For the README: what a step of one and of eight examples takes, by size and format.
    private static void WriteShapes(TextWriter output, int threads)
    {
        output.WriteLine("| T5 v1.1 | " + string.Join(" | ", WeightFormats.Names) + " | int4, streamed |");
        output.WriteLine("|---|" + string.Concat(Enumerable.Repeat("---:|", WeightFormats.Names.Count + 1)));
        foreach (string shape in T5Shapes.Names)
        {
            T5Config config = T5Shapes.Named(shape);
            output.Write($"| {shape} |");
            foreach (string format in WeightFormats.Names)
                output.Write($" {Cell(StoredWeights.Of(config, WeightFormats.Parse(format)!.Value), WeightResidence.Mapped, threads)} |"); // A name of the list.
            output.WriteLine($" {Cell(StoredWeights.Of(config, DType.U4), WeightResidence.Streamed, threads)} |");
        }
    }

    private static string Cell(StoredWeights weights, WeightResidence residence, int threads)
    {
        string[] totals = [.. ((int[])[8, 1]).Select(examples => ByteSize.Text(MemoryPlan.Of(new MemoryRequest
        {
            Weights = weights,
            Residence = residence,
            Activations = Activations.Blocks,
            Examples = examples,
            Threads = threads == 0 ? Environment.ProcessorCount : threads,
        }).Total))];
        return $"{totals[0]} ({totals[1]})";
    }

    private static int Positive(ParseResult parsed, Option<int> option) => parsed.GetValue(option) is > 0 and var value ? value
        : throw new UsageException($"{option.Name} is {parsed.GetValue(option)}, expected 1 or more.");

    private static Option<int> Number(string name, string description, int value) => new(name) { Description = description, DefaultValueFactory = _ => value };

    private static Option<string> Words(string name, string description, params string[] words)
    {
        var option = new Option<string>(name) { Description = $"{description} auto: what the memory allows, else the program's defaults.", DefaultValueFactory = _ => "auto" };
        option.AcceptOnlyFromAmong(["auto", .. words]);
        return option;
    }

    private static T? Word<T>(string word)
        where T : struct, Enum => word == "auto" ? null : Enum.Parse<T>(word, ignoreCase: true);
}
