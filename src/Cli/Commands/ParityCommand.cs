// `iptnative parity`: our numbers beside those of Hugging Face's PyTorch code, quantity by quantity.
using System.CommandLine;
using IptNative.Cli.Terminal;
using IptNative.Tuning.Parity;

namespace IptNative.Cli.Commands;

internal static class ParityCommand
{
    public static Command Create()
    {
        var fixture = new Argument<string>("fixture") { Description = "Folder of a fixture, for example tests/Goldens/t5v11." };
        var checkpoint = new Option<string?>("--checkpoint") { Description = "Weights to start from; without it the fixture's own folder decides." };
        var threads = new ThreadsOption();
        var asJson = new Option<bool>("--json") { Description = "One JSON object instead of a table." };
        var command = new Command("parity", "Replay a fixture made by Hugging Face's PyTorch code and compare every quantity.") { fixture, checkpoint, threads, asJson };
        command.WithExamples(
            "iptnative parity tests/Goldens/t5v11",
            "iptnative parity tests/Goldens/t5v11 --checkpoint tests/Goldens/t5v11/pytorch_model.bin --json");
        command.SetRun((parsed, _) =>
        {
            ParityReport report;
            using (new ProgressLine("replaying"))
                report = ParityRun.Replay(parsed.GetValue(fixture)!, parsed.GetValue(checkpoint), threads.Of(parsed));
            using TextWriter output = StandardOutput.Open();
            if (parsed.GetValue(asJson))
                WriteJson(output, report);
            else
                WriteTable(output, report);
            return report.Passed ? ExitCode.Done : ExitCode.Failed;
        });
        return command;
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
