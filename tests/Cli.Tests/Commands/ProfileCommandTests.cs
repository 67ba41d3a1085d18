using System.Text.Json;
using Xunit;

namespace IptNative.Cli.Tests.Commands;

public sealed class ProfileCommandTests
{
    private static readonly string[] Small = ["profile", "--model", CliProgram.Model, "--batch", "2", "--prompt", "5", "--source", "9", "--target", "3", "--steps", "2"];

    [Fact]
    public void JsonHoldsEveryFieldOfTheSchema()
    {
        using var json = JsonDocument.Parse(CliProgram.Run([.. Small, "--json"]).Returned(0).Output);
        JsonElement root = json.RootElement;
        Assert.Equal("iptnative.profile/1", root.GetProperty("schema").GetString());
        Assert.Equal("cpu", root.GetProperty("device").GetString());
        foreach (string name in (string[])["copy_bytes_per_s", "fma_flop_per_s", "launch_s"])
            Assert.True(root.GetProperty("ceilings").GetProperty(name).GetDouble() > 0, name);
        Assert.True(root.GetProperty("ceilings").GetProperty("bf16_flop_per_s").GetDouble() >= 0);
        double shares = root.GetProperty("between_ops_share").GetDouble();
        foreach (JsonElement op in root.GetProperty("ops").EnumerateArray())
        {
            shares += op.GetProperty("share").GetDouble();
            foreach (string name in (string[])["calls_per_step", "p20_s", "p50_s", "p80_s", "bytes", "flops", "gb_per_s", "gflop_per_s", "reached"])
                Assert.True(op.GetProperty(name).GetDouble() >= 0, name);
            Assert.Contains(op.GetProperty("bound").GetString(), (string[])["memory", "compute", "launch", "none"]);
        }
        Assert.Equal(1, shares, 9);
        Assert.InRange(root.GetProperty("products").GetProperty("share").GetDouble(), 0.01, 1);
        Assert.Equal(JsonValueKind.Array, root.GetProperty("under_half").ValueKind);
    }

    [Fact]
    public void TableNamesTheOpsUnderHalfAndTheProducts()
    {
        CliRun run = CliProgram.Run(Small).Returned(0);
        Assert.Contains(run.Lines, l => l.StartsWith("matrix products: ", StringComparison.Ordinal));
        Assert.Contains(run.Lines, l => l.StartsWith("under half of their ceiling", StringComparison.Ordinal));
        Assert.Contains(run.Lines, l => l.StartsWith("(between ops)", StringComparison.Ordinal));
        Assert.Contains("--out FOLDER", run.Lines[^1], StringComparison.Ordinal);
    }

    [Fact]
    public void BadInputIsSaid()
    {
        CliProgram.Run("profile", "--model", CliProgram.Model, "--shape", "base").Returned(2).Says("profile: found --model and --shape, expected one of them");
        CliProgram.Run("profile", "--model", CliProgram.Model, "--dtype", "int8").Returned(2).Says("profile: found --dtype with --model, expected one of them");
        CliProgram.Run("profile", "--model", CliProgram.Model, "--forward", "ort", "--compute", "bf16").Returned(2).Says("ONNX Runtime has no bf16 products on a CPU");
        CliProgram.Run("profile", "--model", CliProgram.Model, "--batch", "0").Returned(1).Says("profile: found batch 0, expected 1 or more");
        CliProgram.Run("profile", "--device", "gpu").Returned(2).Says("--device: found 'gpu', expected auto|cpu|cuda[:n]");
        CliProgram.Run("profile", "--model", Path.Combine(CliProgram.Root, "no", "such")).Returned(1).Says("such");
    }
}
