// Whether a plan's number is the one that a run then takes, in a process of its own, and what a user sees of plans and budgets.
using System.Text.Json;
using Xunit;

namespace IptNative.Cli.Tests.Commands;

public sealed class MemoryPlanTests
{
    [Theory]
    [InlineData("int8", "mapped", "blocks", "native")]
    [InlineData("bf16", "mapped", "full", "native")]
    [InlineData("int4", "streamed", "sublayers", "native")]
    [InlineData("f32", "mapped", "full", "ort")]
    public void PredictionsAreWithinTenPercent(string dtype, string weights, string activations, string forward)
    {
        CliRun run = CliProgram.Run("bench", "step", "--shape", "small", "--dtype", dtype, "--weights", weights, "--activations", activations, "--forward", forward,
            "--batch", "3", "--prompt", "50", "--source", "100", "--steps", "1", "--threads", "2", "--json").Returned(0);
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

    [Fact]
    public void AStepThatCannotFitIsRefusedBeforeAnythingIsWritten()
    {
        CliProgram.Run("bench", "step", "--shape", "xxl", "--dtype", "int4", "--weights", "mapped", "--memory-budget", "3GB", "--batch", "1").Returned(1).Says("Smallest change that fits: --weights streamed (");
        CliProgram.Run("plan", "--shape", "base", "--memory-budget", "40MB").Returned(1).Says("Smallest change that fits: --memory-budget ");
        CliProgram.Run("plan", "--shape", "base", "--memory-budget", "much").Returned(2).Says("--memory-budget is 'much', expected a number and a unit");
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
        Assert.Equal(7, CliProgram.Run("plan", "--table").Returned(0).Lines.Length); // a head, a rule, five sizes
    }
}
