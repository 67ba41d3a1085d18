// Whether a plan's number is the one that a run then takes, in a process of its own, and what a user sees of plans and budgets.
using System.Text.Json;
using Xunit;

namespace IptNative.Cli.Tests.Commands;

public sealed class MemoryPlanTests
{
    [Theory]
    [InlineData("int8", "mapped", "blocks", "native")]
    [InlineData("bf16", "mapped", "full", "native")]
    [InlineData("bf16", "mapped", "full", "native", "--tape", "bf16", "--compute", "bf16")]
    [InlineData("int8", "mapped", "full", "native", "--spill", "TEMP")]
    [InlineData("int4", "streamed", "sublayers", "native", "--spill", "TEMP", "--tape", "bf16")]
    [InlineData("int4", "streamed", "sublayers", "native")]
    [InlineData("f32", "mapped", "full", "ort")]
    public void PredictionsAreWithinTenPercent(string dtype, string weights, string activations, string forward, params string[] more)
    {
        string folder = Directory.CreateTempSubdirectory("iptnative-plan-").FullName;
        CliRun run = CliProgram.Run(["bench", "step", "--shape", "small", "--dtype", dtype, "--weights", weights, "--activations", activations, "--forward", forward,
            "--batch", "3", "--prompt", "50", "--source", "100", "--steps", "1", "--threads", "2", "--json", .. more.Select(m => m == "TEMP" ? folder : m)]).Returned(0);
        Assert.Empty(Directory.EnumerateFileSystemEntries(folder));
        Directory.Delete(folder);
        JsonElement json = JsonDocument.Parse(run.Output).RootElement;
        double peak = json.GetProperty("peak_bytes").GetDouble(), planned = json.GetProperty("planned_bytes").GetDouble();
        Assert.True(Math.Abs(planned / peak - 1) <= 0.1, $"planned {planned / 1e6:f0} MB, measured {peak / 1e6:f0} MB");
    }

    [Fact]
    public void ABudgetIsKeptAndItsChoiceIsSaid()
    {
        CliRun run = CliProgram.Run("bench", "step", "--shape", "small", "--dtype", "int8", "--memory-budget", "190MB", "--batch", "4", "--prompt", "20", "--source", "44", "--steps", "1", "--threads", "2", "--json").Returned(0);
        JsonElement json = JsonDocument.Parse(run.Output).RootElement;
        Assert.True(json.GetProperty("peak_bytes").GetDouble() <= 190e6, run.Output);
        Assert.True(json.GetProperty("planned_bytes").GetDouble() <= 190e6, run.Output);
        Assert.Contains(json.GetProperty("activations").GetString(), (string[])["blocks", "sublayers", "full"]);
    }

    // Dev and test answers are generated while the step's memory is held: they are part of the plan, and as many at once as there is room for.
    [Fact]
    public void ATrainingRunKeepsItsBudgetAnswersIncluded()
    {
        string folder = Directory.CreateTempSubdirectory("iptnative-budget-").FullName;
        string package = Path.Combine(folder, "int8");
        CliProgram.Run("export", "--checkpoint", CliProgram.Model, "--out", package, "--dtype", "int8").Returned(0);
        string[] train = ["train", Path.Combine(CliProgram.Root, "examples", "quickstart.json"), "--set", $"model={package}", "--set", "training.steps=2", "--set", "training.eval_every=2", "--set", "training.runs=1", "--set", "evaluation.baselines=false", "--set", "threads=2"];
        string refusal = CliProgram.Run([.. train, "--output", Path.Combine(folder, "refused"), "--memory-budget", "60MB"]).Returned(1, afterNotes: true).Says("a step does not fit into 60 MB").Error;
        string enough = refusal.Split("--memory-budget ")[1].Split(' ')[0];
        CliRun run = CliProgram.Run([.. train, "--output", Path.Combine(folder, "run"), "--memory-budget", enough]).Returned(0).Says($"memory plan for {enough}: ");
        using JsonDocument result = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "run", "result.json")));
        double peak = result.RootElement.GetProperty("peak_bytes").GetDouble(), budget = double.Parse(enough[..^2], System.Globalization.CultureInfo.InvariantCulture) * 1e6;
        Assert.True(peak <= budget, $"took {peak / 1e6:f0} MB of {enough}\n{run.Error}");
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void AStepThatCannotFitIsRefusedBeforeAnythingIsWritten()
    {
        CliProgram.Run("bench", "step", "--shape", "xxl", "--dtype", "int4", "--weights", "mapped", "--memory-budget", "3GB", "--batch", "1").Returned(1).Says("Smallest change that fits: --weights streamed (");
        CliProgram.Run("plan", "--shape", "base", "--memory-budget", "40MB").Returned(1).Says("Smallest change that fits: --memory-budget ");
        CliProgram.Run("plan", "--shape", "base", "--memory-budget", "much").Returned(2).Says("--memory-budget is 'much', expected a number and a unit");
        CliProgram.Run("plan", "--table", "--json").Returned(2).Says("plan: found --table with --json, expected --table alone");
        CliProgram.Run("plan", "--model", CliProgram.Model, "--dtype", "int8").Returned(2).Says("plan: found --dtype with --model, expected one of them");
        CliProgram.Run("plan", "--shape", "base", "--forward", "ort", "--compute", "bf16").Returned(2).Says("ONNX Runtime has no bf16 products on a CPU");
        CliProgram.Run("bench", "step", "--shape", "small", "--forward", "ort", "--compute", "bf16").Returned(2).Says("ONNX Runtime has no bf16 products on a CPU");
        CliProgram.Run("plan").Returned(2).Says("either --model DIR or --shape NAME");
    }

    [Fact]
    public void APlanIsATable()
    {
        CliRun model = CliProgram.Run("plan", "--model", CliProgram.Model, "--threads", "1").Returned(0);
        Assert.StartsWith("mapped weights, native forward, full activations, 8 examples at once: ", model.Output, StringComparison.Ordinal);
        Assert.Contains("activation tape", model.Output, StringComparison.Ordinal);
        Assert.Contains("of these cores' measured peak", model.Output, StringComparison.Ordinal);
        JsonElement device = JsonDocument.Parse(CliProgram.Run("plan", "--shape", "xxl", "--dtype", "int4", "--batch", "1", "--device-memory", "16GiB", "--json").Returned(0).Output).RootElement;
        Assert.True(device.GetProperty("peak_bytes").GetInt64() <= 16L << 30);
        Assert.Matches("step +[0-9.]+ s +estimated at the ceiling given, weights in memory", CliProgram.Run("plan", "--shape", "xl", "--dtype", "bf16", "--device-memory", "24GiB", "--device-tflops", "40").Returned(0).Output);
        CliProgram.Run("plan", "--shape", "xl", "--device-tflops", "40").Returned(2).Says("expected a positive number beside --device-memory");
        Assert.Equal("cuda:0", device.GetProperty("device").GetString());
        string spilled = CliProgram.Run("plan", "--shape", "large", "--dtype", "int8", "--tape", "bf16", "--spill", "--threads", "1").Returned(0).Output;
        Assert.StartsWith("mapped weights, native forward, full activations in bf16 on disk, 8 examples at once: ", spilled, StringComparison.Ordinal);
        Assert.Contains("on disk: full, 1824 source and 64 target rows, f32, bf16 inside sublayers", spilled, StringComparison.Ordinal);
        CliProgram.Run("plan", "--shape", "base", "--spill", "--forward", "ort").Returned(2).Says("found --forward ort with --spill, expected --forward native");
        CliProgram.Run("plan", "--shape", "base", "--weights", "streamed", "--forward", "ort").Returned(2).Says("found --forward ort with --weights streamed, expected --forward native");
        CliProgram.Run("bench", "step", "--shape", "small", "--spill", "/tmp", "--forward", "ort").Returned(1).Says("Use --forward native.");
        CliRun ort = CliProgram.Run("plan", "--shape", "base", "--dtype", "bf16", "--forward", "ort", "--device", "cuda:1", "--device-memory", "8GiB").Returned(0);
        Assert.StartsWith("weights on cuda:1, ort forward, full activations, 8 examples at once: ", ort.Output, StringComparison.Ordinal);
        Assert.Contains("arenas of both sessions", ort.Output, StringComparison.Ordinal);
        Assert.Contains("on a GPU of 8,590 MB, 600 MB of it left to CUDA itself", ort.Output, StringComparison.Ordinal);
        CliProgram.Run("plan", "--shape", "base", "--forward", "ort", "--device-memory", "2GiB").Returned(1).Says("Smallest change that fits: --forward native");
        CliProgram.Run("plan", "--shape", "base", "--device", "cuda:4095").Returned(1).Says("A plan needs no GPU where --device-memory says its size.");
        CliProgram.Run("plan", "--shape", "base", "--device", "cpu", "--device-memory", "2GiB").Returned(2).Says("found --device cpu with --device-memory");
        CliProgram.Run("plan", "--shape", "base", "--device-memory", "2GiB", "--weights", "streamed").Returned(2).Says("found --weights streamed with cuda:0");
        CliProgram.Run("plan", "--shape", "base", "--dtype", "int8", "--device-memory", "2GiB", "--forward", "ort").Returned(2).Says("expected f32, bf16 or f16 weights");
        Assert.Equal(7, CliProgram.Run("plan", "--table").Returned(0).Lines.Length); // a head, a rule, five sizes
    }
}
