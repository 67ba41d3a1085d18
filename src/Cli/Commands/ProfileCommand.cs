// `iptnative profile`: where a training step's time goes, op by op, against what this device can do at best.
using System.CommandLine;
using System.Text.Json;
using IptNative.Cli.Terminal;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Tuning.Benchmarks;

namespace IptNative.Cli.Commands;

internal static class ProfileCommand
{
    /// <summary>Of the JSON: grows with every change that a reader must know of.</summary>
    private const string Schema = "iptnative.profile/1";

    public static Command Create()
    {
        var defaults = new StepBenchmarkOptions();
        var device = new DeviceOption();
        var model = new Option<string?>("--model") { Description = "Package or checkpoint folder; its own shape and formats count." };
        var shape = new Option<string?>("--shape") { Description = "A published T5 v1.1 size in place of a model, on random weights; base where neither is given." };
        shape.AcceptOnlyFromAmong([.. T5Shapes.Names]);
        var dtype = new Option<string>("--dtype") { Description = "Weight format of the shape.", DefaultValueFactory = _ => "f32" };
        dtype.AcceptOnlyFromAmong([.. WeightFormats.Names]);
        Option<string> compute = ComputeOption.Create();
        var forward = new Option<string>("--forward") { Description = "Who computes the forward pass: our own kernels, each of which is then a row, or ONNX Runtime, whose passes are one row each.", DefaultValueFactory = _ => "native" };
        forward.AcceptOnlyFromAmong("native", "ort");
        var activations = new Option<string>("--activations") { Description = "What the forward pass keeps.", DefaultValueFactory = _ => "full" };
        activations.AcceptOnlyFromAmong("blocks", "sublayers", "full");
        var lengths = new Option<string>("--lengths") { Description = "Source lengths: fixed, or gym: 25 tokens in the mean, 96 the longest. --source does not count then.", DefaultValueFactory = _ => "fixed" };
        lengths.AcceptOnlyFromAmong("fixed", "gym");
        Option<int> batch = Number("--batch", "Examples.", defaults.Batch), prompt = Number("--prompt", "Prompt rows.", defaults.Prompt),
            source = Number("--source", "Source tokens beside the prompt.", defaults.Source), target = Number("--target", "Target tokens.", defaults.Target),
            steps = Number("--steps", "Recorded steps, each beside one that is not; the first of all is neither.", defaults.Steps);
        var threads = new ThreadsOption();
        var folder = new Option<string?>("--out") { Description = $"Folder for one step's timeline: {ProfileTimeline.PageFile}, a flame view, and {ProfileTimeline.TraceFile}, in Chrome's trace format." };
        var products = new Option<string?>("--products") { Description = $"On a GPU with cuBLAS: times the step's products by it and by our kernels, and writes the table that {ProductTable.Variable}=FILE chooses by." };
        var asJson = new Option<bool>("--json") { Description = "One JSON object instead of a table." };
        var command = new Command("profile", "Time every op of a training step and hold it against what the device can do at best.")
        {
            device, model, shape, dtype, compute, forward, activations, lengths, batch, prompt, source, target, steps, threads, folder, products, asJson,
        };
        command.WithExamples(
            "iptnative profile --model models/t5-gym-tiny --out profile",
            "iptnative profile --shape base --steps 3",
            "iptnative profile --shape base --dtype bf16 --compute bf16 --json");
        command.SetRun((parsed, cancel) =>
        {
            string? package = parsed.GetValue(model);
            if (package is not null && parsed.GetValue(shape) is not null)
                throw new UsageException("profile: found --model and --shape, expected one of them: a model has its own shape.");
            if (package is not null && parsed.GetResult(dtype) is { Implicit: false })
                throw new UsageException("profile: found --dtype with --model, expected one of them: a model's weights have formats of their own. 'export --dtype' writes it in another one.");
            ForwardEngine engine = Enum.Parse<ForwardEngine>(parsed.GetValue(forward)!, ignoreCase: true);
            ComputeType precision = ComputeOption.Read(parsed, compute);
            using ComputeDevice used = device.Open(parsed, threads.Of(parsed), precision);
            if (used is CpuDevice)
                ForwardOption.Require(engine, precision);
            ProfileResult result = ProfileRunner.Run(
                new StepBenchmarkOptions
                {
                    Shape = parsed.GetValue(shape) ?? defaults.Shape,
                    DType = WeightFormats.Parse(parsed.GetValue(dtype)!)!.Value, // Checked by the option.
                    Compute = precision,
                    Forward = engine,
                    Activations = Enum.Parse<Activations>(parsed.GetValue(activations)!, ignoreCase: true),
                    Lengths = Enum.Parse<SourceLengths>(parsed.GetValue(lengths)!, ignoreCase: true),
                    Batch = parsed.GetValue(batch),
                    Prompt = parsed.GetValue(prompt),
                    Source = parsed.GetValue(source),
                    Target = parsed.GetValue(target),
                    Steps = parsed.GetValue(steps),
                    Threads = threads.Of(parsed),
                },
                package,
                cancel,
                used,
                parsed.GetValue(products) is not null);
            if (parsed.GetValue(products) is { } table)
                ProductTable.Write(table, result.ProductChoices);
            if (parsed.GetValue(folder) is { } place)
                ProfileTimeline.Write(result, place);
            using TextWriter output = StandardOutput.Open();
            if (parsed.GetValue(asJson))
                JsonOutput.WriteObject(output, json => WriteJson(json, result), indented: true);
            else
                WriteTable(output, result, parsed.GetValue(folder));
            return ExitCode.Done;
        });
        return command;
    }

    private static Option<int> Number(string name, string description, int value) => new(name) { Description = description, DefaultValueFactory = _ => value };

    private static void WriteTable(TextWriter output, ProfileResult r, string? folder)
    {
        StepBenchmarkOptions o = r.Options;
        ProfileCeilings c = r.Ceilings;
        output.WriteLine($"{r.Model}, {Name(o.Compute)} products, {Name(r.Plan.Request.Forward)} forward, {Name(r.Plan.Request.Activations)} activations, batch {o.Batch}, {o.Prompt} + {(o.Lengths == SourceLengths.Gym ? "gym" : o.Source)} source tokens, {o.Target} target tokens; {r.Device}{(r.Threads > 0 ? $", {r.Threads} threads" : "")}");
        output.WriteLine($"ceilings    copy {c.CopyBytesPerSecond * 1e-9:f1} GB/s, f32 multiply-add {c.FmaFlopsPerSecond * 1e-9:f0} GFLOP/s, {(r.Threads > 0 ? "bf16 machine code" : "tensor cores")} {(c.BF16FlopsPerSecond > 0 ? $"{c.BF16FlopsPerSecond * 1e-9:f0} GFLOP/s" : "not on this machine")}, launch {c.LaunchSeconds * 1e6:f1} us");
        output.WriteLine($"step        {r.StepSeconds * 1e3:f1} ms, median of {o.Steps}; {r.UnrecordedSeconds * 1e3:f1} ms while nothing is recorded");
        output.WriteLine();
        int op = Math.Max(2, r.Rows.Max(x => x.Op.Length)), shape = Math.Max(5, r.Rows.Max(x => x.Shape.Length));
        output.WriteLine($"{"op".PadRight(op)}  {"shape".PadRight(shape)} calls   p20 us   p50 us   p80 us   GB/s GFLOP/s  bound    of it  share");
        foreach (ProfileRow row in r.Rows)
        {
            bool counted = row.Bound != ProfileRunner.NoBound;
            output.WriteLine($"{row.Op.PadRight(op)}  {row.Shape.PadRight(shape)} {row.CallsPerStep,5} {row.P20 * 1e6,8:f1} {row.P50 * 1e6,8:f1} {row.P80 * 1e6,8:f1} {(counted ? $"{row.GBPerSecond,6:f1} {row.GflopPerSecond,7:f1}" : $"{"",6} {"",7}")}  {row.Bound,-7} {(counted ? $"{row.Reached,6:p0}" : $"{"",6}")} {row.Share,6:p1}");
        }
        output.WriteLine($"{"(between ops)".PadRight(op)}  {"".PadRight(shape)} {"",5} {"",8} {"",8} {"",8} {"",6} {"",7}  {"",7} {"",6} {r.BetweenOps,6:p1}");
        output.WriteLine();
        output.WriteLine($"matrix products: {r.Products.Share:p1} of the step, {r.Products.GflopPerSecond:f0} GFLOP/s, {r.Products.Reached:p0} of the {Name(o.Compute)} ceiling");
        foreach (ProductMeasurement p in r.ProductChoices)
            output.WriteLine($"  {p.Shape}: cuBLAS {p.LibrarySeconds * 1e6:f1} us, our kernel {p.OwnSeconds * 1e6:f1} us, {p.LibrarySeconds / p.OwnSeconds:p0} of its speed");
        ProfileRow[] low = [.. r.UnderHalf];
        output.WriteLine(low.Length == 0 ? "under half of their ceiling: none" : $"under half of their ceiling, {low.Sum(x => x.Share):p1} of the step together:");
        foreach (ProfileRow row in low)
            output.WriteLine($"  {row.Op} {row.Shape}: {row.Reached:p0} of {row.Bound}, {row.Share:p1} of the step");
        output.WriteLine(folder is null ? "timeline: --out FOLDER writes one step's" : $"timeline: {Path.Combine(folder, ProfileTimeline.PageFile)} and {ProfileTimeline.TraceFile} beside it");
    }

    private static void WriteJson(Utf8JsonWriter json, ProfileResult r)
    {
        json.WriteString("schema", Schema);
        json.WriteString("device", r.Device);
        json.WriteNumber("threads", r.Threads);
        json.WriteStartObject("ceilings");
        json.WriteNumber("copy_bytes_per_s", r.Ceilings.CopyBytesPerSecond);
        json.WriteNumber("fma_flop_per_s", r.Ceilings.FmaFlopsPerSecond);
        json.WriteNumber("bf16_flop_per_s", r.Ceilings.BF16FlopsPerSecond);
        json.WriteNumber("launch_s", r.Ceilings.LaunchSeconds);
        json.WriteEndObject();
        json.WriteString("model", r.Model);
        json.WriteString("compute", Name(r.Options.Compute));
        json.WriteString("forward", Name(r.Plan.Request.Forward));
        json.WriteString("activations", Name(r.Plan.Request.Activations));
        BenchCommand.WriteSizes(json, r.Options);
        json.WriteNumber("step_s", r.StepSeconds);
        json.WriteNumber("unrecorded_step_s", r.UnrecordedSeconds);
        json.WriteNumber("between_ops_share", r.BetweenOps);
        json.WriteStartObject("products");
        json.WriteNumber("share", r.Products.Share);
        json.WriteNumber("gflop_per_s", r.Products.GflopPerSecond);
        json.WriteNumber("ceiling_gflop_per_s", r.Products.Peak);
        json.WriteNumber("reached", r.Products.Reached);
        json.WriteEndObject();
        json.WriteStartArray("ops");
        foreach (ProfileRow row in r.Rows)
        {
            json.WriteStartObject();
            json.WriteString("op", row.Op);
            json.WriteString("shape", row.Shape);
            json.WriteNumber("calls_per_step", row.CallsPerStep);
            json.WriteNumber("p20_s", row.P20);
            json.WriteNumber("p50_s", row.P50);
            json.WriteNumber("p80_s", row.P80);
            json.WriteNumber("bytes", row.Bytes);
            json.WriteNumber("flops", row.Flops);
            json.WriteNumber("gb_per_s", row.GBPerSecond);
            json.WriteNumber("gflop_per_s", row.GflopPerSecond);
            json.WriteString("bound", row.Bound);
            json.WriteNumber("reached", row.Reached);
            json.WriteNumber("share", row.Share);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteStartArray("product_choices");
        foreach (ProductMeasurement p in r.ProductChoices)
        {
            json.WriteStartObject();
            json.WriteString("shape", p.Shape.ToString());
            json.WriteNumber("cublas_s", p.LibrarySeconds);
            json.WriteNumber("own_s", p.OwnSeconds);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteStartArray("under_half");
        foreach (ProfileRow row in r.UnderHalf)
            json.WriteStringValue($"{row.Op} {row.Shape}");
        json.WriteEndArray();
    }

    private static string Name<T>(T value)
        where T : struct, Enum => value.ToString().ToLowerInvariant();
}
