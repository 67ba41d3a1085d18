// `iptnative parity`: our numbers beside those of Hugging Face's PyTorch code, quantity by quantity.
using System.CommandLine;
using IptNative.Cli.Terminal;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Parity;

namespace IptNative.Cli.Commands;

internal static class ParityCommand
{
    public static Command Create()
    {
        var fixture = new Argument<string?>("fixture") { Description = "Folder of a fixture, for example tests/Goldens/t5v11.", Arity = ArgumentArity.ZeroOrOne };
        var checkpoint = new Option<string?>("--checkpoint") { Description = "Weights to start from; without it the fixture's own folder decides." };
        var dtype = new Option<string?>("--dtype") { Description = "Compare gradients on a weight format with those on its expansion, and with the checkpoint's own; all: every format. Needs no fixture." };
        dtype.AcceptOnlyFromAmong(["all", .. WeightFormats.Names]);
        var threads = new ThreadsOption();
        var device = new DeviceOption();
        var asJson = new Option<bool>("--json") { Description = "One JSON object instead of a table." };
        var command = new Command("parity", "Replay a fixture made by Hugging Face's PyTorch code and compare every quantity.") { fixture, checkpoint, dtype, threads, device, asJson };
        command.WithExamples(
            "iptnative parity tests/Goldens/t5v11",
            "iptnative parity tests/Goldens/t5v11 --checkpoint tests/Goldens/t5v11/pytorch_model.bin --json",
            "iptnative parity tests/Goldens/t5v11 --device cuda:0",
            "iptnative parity --checkpoint models/t5-gym-tiny --dtype all");
        command.SetRun((parsed, _) =>
        {
            using ComputeDevice? gpu = device.OpenGpu(parsed, ComputeType.F32);
            if (parsed.GetValue(dtype) is { } format)
            {
                string weights = parsed.GetValue(checkpoint) ?? parsed.GetValue(fixture) ?? throw new UsageException("parity --dtype: no checkpoint was given, expected one: --checkpoint models/t5-gym-tiny.");
                return Formats(weights, format, threads.Of(parsed), gpu, parsed.GetValue(asJson));
            }
            string folder = parsed.GetValue(fixture) ?? throw new UsageException("parity: no fixture was given, expected its folder, for example tests/Goldens/t5v11; or --checkpoint and --dtype, which compare weight formats.");
            ParityReport report;
            using (new ProgressLine("replaying"))
                report = ParityRun.Replay(folder, parsed.GetValue(checkpoint), threads.Of(parsed), gpu);
            using TextWriter output = StandardOutput.Open();
            if (parsed.GetValue(asJson))
                WriteJson(output, report);
            else
                WriteTable(output, report);
            return report.Passed ? ExitCode.Done : ExitCode.Failed;
        });
        return command;
    }

    private static int Formats(string checkpoint, string format, int threads, ComputeDevice? device, bool asJson)
    {
        string[] names = format == "all" ? [.. WeightFormats.Names] : [format];
        IReadOnlyList<FormatDistance> rows;
        using (new ProgressLine("comparing formats"))
            rows = FormatParity.Measure(checkpoint, [.. names.Select(n => WeightFormats.Parse(n)!.Value)], threads, Path.GetTempPath(), device); // Checked by the option.
        using TextWriter output = StandardOutput.Open();
        if (asJson)
        {
            JsonOutput.WriteObject(output, json =>
            {
                json.WriteString("checkpoint", checkpoint);
                json.WriteBoolean("passed", rows.All(r => r.Passed));
                json.WriteStartArray("formats");
                foreach (FormatDistance row in rows)
                {
                    json.WriteStartObject();
                    json.WriteString("dtype", row.Format);
                    json.WriteNumber("weight_bytes", row.WeightBytes);
                    json.WriteNumber("to_expanded", row.ToExpanded);
                    json.WriteNumber("cosine", row.Cosine);
                    json.WriteNumber("relative_error", row.RelativeError);
                    json.WriteNumber("loss_difference", row.LossDifference);
                    json.WriteEndObject();
                }
                json.WriteEndArray();
            }, indented: true);
        }
        else
        {
            output.WriteLine($"prompt gradients on {checkpoint}: the format's kernels against float32 on its expanded weights, then against the original weights");
            output.WriteLine($"{"format",-8}{"weights",12}{"to expanded",14}{"tolerance",11}        {"cosine",10}{"rel. error",12}{"loss",10}");
            foreach (FormatDistance row in rows)
                output.WriteLine($"{row.Format,-8}{Tuning.Memory.ByteSize.Text(row.WeightBytes),12}{row.ToExpanded,14:0.0e+00}{FormatDistance.Tolerance,11:0.0e+00}  {(row.Passed ? "ok" : "FAILED"),-6}{row.Cosine,10:0.00000}{row.RelativeError,12:0.00000}{Signed.Text(row.LossDifference, 5),10}");
        }
        return rows.All(r => r.Passed) ? ExitCode.Done : ExitCode.Failed;
    }

    private static void WriteTable(TextWriter output, ParityReport report)
    {
        output.WriteLine($"fixture {report.Fixture}, weights {report.Checkpoint} ({report.WeightDType})");
        output.WriteLine($"{"quantity",-36}{"max abs",10}{"max rel",10}{"tolerance",11}  ");
        foreach (ParityRow row in report.Rows)
        {
            output.WriteLine(row.Status == ParityStatus.Skipped
                ? $"{row.Name,-36}{"",31}  skipped: {row.Reason}"
                : $"{row.Name,-36}{row.MaxAbs,10:0.0e+00}{row.MaxRel,10:0.0e+00}{row.Tolerance,11:0.0e+00}  {(row.Status == ParityStatus.Passed ? "ok" : $"FAILED at {row.Worst}")}: {row.Reason}");
        }
        output.WriteLine($"{report.Count(ParityStatus.Passed)} passed, {report.Count(ParityStatus.Failed)} failed, {report.Count(ParityStatus.Skipped)} skipped");
    }

    private static void WriteJson(TextWriter output, ParityReport report) => JsonOutput.WriteObject(output, json =>
    {
        json.WriteString("fixture", report.Fixture);
        json.WriteString("checkpoint", report.Checkpoint);
        json.WriteString("dtype", report.WeightDType);
        json.WriteBoolean("passed", report.Passed);
        json.WriteStartArray("quantities");
        foreach (ParityRow row in report.Rows)
        {
            json.WriteStartObject();
            json.WriteString("name", row.Name);
            json.WriteString("status", row.Status.ToString().ToLowerInvariant());
            json.WriteString("reason", row.Reason);
            if (row.Status != ParityStatus.Skipped)
            {
                // JSON has no NaN: a quantity that is not finite is null.
                Number("max_abs", row.MaxAbs);
                Number("max_rel", row.MaxRel);
                Number("tolerance", row.Tolerance);
                json.WriteString("worst", row.Worst);
            }
            json.WriteEndObject();
        }
        json.WriteEndArray();

        void Number(string name, double value)
        {
            if (double.IsFinite(value))
                json.WriteNumber(name, value);
            else
                json.WriteNull(name);
        }
    }, indented: true);
}
