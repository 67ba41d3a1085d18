// What the planner chooses and refuses. Whether its numbers are those of a run: tests/Cli.Tests/Commands/MemoryPlanTests.
using IptNative.Kernels;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Tuning.Memory;
using Xunit;

namespace IptNative.Tuning.Tests.Memory;

public sealed class MemoryPlannerTests
{
    private static readonly MemoryFreedom Everything = new(null, null, null, 8);

    [Fact]
    public void LessMemoryIsFilledWithSlowerSettings()
    {
        MemoryRequest request = Base(DType.I8);
        double last = 0;
        foreach (long budget in (long[])[4_000_000_000, 1_000_000_000, 700_000_000, 500_000_000, 350_000_000, 200_000_000])
        {
            MemoryPlan plan = MemoryPlanner.Fit(request, Everything, budget);
            Assert.True(1.1 * plan.Total <= budget, $"{MemoryPlanner.Describe(plan)} does not fit into {budget}");
            Assert.Equal(plan.Total, plan.Lines.Sum(l => l.Bytes));
            double slowness = (2 + MemoryPlan.Recomputed(plan.Request.Activations)) * (1 + 192.0 / (plan.Request.Examples * 228)) * (plan.Request.Residence == WeightResidence.Streamed ? 1.15 : 1);
            Assert.True(slowness >= last, $"{MemoryPlanner.Describe(plan)} would be faster than what more memory gave");
            last = slowness;
        }
        MemoryPlan rich = MemoryPlanner.Fit(request, Everything, 4_000_000_000);
        Assert.Equal((Activations.Full, WeightResidence.Mapped, ForwardEngine.Native, 8), (rich.Request.Activations, rich.Request.Residence, rich.Request.Forward, rich.Request.Examples));
    }

    [Fact]
    public void WhatTheUserChoseStays()
    {
        var free = new MemoryFreedom(Activations.Sublayers, WeightResidence.Streamed, null, 3);
        MemoryPlan plan = MemoryPlanner.Fit(Base(DType.BF16), free, 2_000_000_000);
        Assert.Equal((Activations.Sublayers, WeightResidence.Streamed, ForwardEngine.Native, 3), (plan.Request.Activations, plan.Request.Residence, plan.Request.Forward, plan.Request.Examples));
    }

    [Fact]
    public void ARefusalNamesTheSmallestChangeThatFits()
    {
        MemoryRequest request = Base(DType.I8);
        string activations = Refusal(new(Activations.Full, WeightResidence.Mapped, ForwardEngine.Native, 8), 500_000_000);
        Assert.Contains("a step does not fit into 500 MB: mapped weights, native forward, full activations, 1 example at once:", activations, StringComparison.Ordinal);
        Assert.Contains("Smallest change that fits: --activations auto (", activations, StringComparison.Ordinal);
        Assert.Contains("Smallest change that fits: --weights streamed (", Refusal(new(null, WeightResidence.Mapped, ForwardEngine.Native, 8), 300_000_000), StringComparison.Ordinal);
        string hopeless = Refusal(Everything, 50_000_000);
        Assert.Matches("Smallest change that fits: --memory-budget [0-9]+MB \\(streamed weights, native forward, blocks activations, 1 example at once", hopeless);
        // And that budget is then enough.
        string budget = hopeless.Split("--memory-budget ")[1].Split(' ')[0];
        MemoryPlanner.Fit(request, Everything, ByteSize.Parse(budget));

        string Refusal(MemoryFreedom free, long bytes) => Assert.Throws<InsufficientMemoryException>(() => MemoryPlanner.Fit(request, free, bytes)).Message;
    }

    /// <summary>A GPU cannot stream weights: what helps there is to keep less or to store them narrower, and the message says which of it does.</summary>
    [Fact]
    public void ARefusalOfADeviceNamesTheSmallestChangeThatFits()
    {
        var request = new MemoryRequest { Weights = StoredWeights.Of(T5Shapes.Named("xl"), DType.F32), Device = "cuda:0" };
        var free = new MemoryFreedom(null, WeightResidence.Resident, ForwardEngine.Native, 8);
        MemoryPlan roomy = MemoryPlanner.Fit(request, free, 80_000_000_000);
        Assert.Equal((Activations.Full, 8), (roomy.Request.Activations, roomy.Request.Examples));
        Assert.DoesNotContain(roomy.Lines, l => l.What == "program");
        Assert.StartsWith("weights on cuda:0, native forward, full activations, 8 examples at once: ", MemoryPlanner.Describe(roomy), StringComparison.Ordinal);
        string bf16 = Refusal(request, 10_000_000_000);
        Assert.StartsWith("a step does not fit into 10.0 GB of cuda:0: weights on cuda:0, native forward, blocks activations, 1 example at once: ", bf16, StringComparison.Ordinal);
        Assert.Contains("Smallest change that fits: weights exported with --dtype bf16 (weights on cuda:0, native forward, ", bf16, StringComparison.Ordinal);
        Assert.Contains("Smallest change that fits: weights exported with --dtype int4 (", Refusal(request, 3_800_000_000), StringComparison.Ordinal);
        Assert.EndsWith("Nothing smaller fits either: use shorter inputs, a device with more memory, or --device cpu, which can stream weights.", Refusal(request, 500_000_000), StringComparison.Ordinal);

        string Refusal(MemoryRequest asked, long bytes) => Assert.Throws<InsufficientMemoryException>(() => MemoryPlanner.Fit(asked, free, bytes)).Message;
    }

    /// <summary>ONNX Runtime on a device: no float32 copies of narrow weights there, but arenas; they are the first thing that goes.</summary>
    [Fact]
    public void OnnxRuntimesArenasAreCountedOnADevice()
    {
        var request = new MemoryRequest { Weights = StoredWeights.Of(T5Shapes.Named("base"), DType.BF16), Device = "cuda:0", Forward = ForwardEngine.Ort };
        MemoryPlan ort = MemoryPlan.Of(request), native = MemoryPlan.Of(request with { Forward = ForwardEngine.Native });
        Assert.DoesNotContain(ort.Lines, l => l.What == "float32 copies");
        long arenas = ort.Lines.Single(l => l.What == "ONNX Runtime").Bytes;
        Assert.Equal(native.Total + arenas, ort.Total);
        // Attention's scores and their softmax alone, of 8 examples of 228 positions and 12 heads.
        Assert.InRange(arenas, 2 * 8 * 12 * 228 * 228 * 4L, 1_000_000_000);
        Assert.True(arenas < MemoryPlan.Of(request with { Examples = 9 }).Lines.Single(l => l.What == "ONNX Runtime").Bytes);
        var free = new MemoryFreedom(Activations.Full, WeightResidence.Resident, ForwardEngine.Ort, 1);
        long least = MemoryPlan.Of(request with { Examples = 1 }).Total;
        Assert.Contains("Smallest change that fits: --forward native (", Assert.Throws<InsufficientMemoryException>(() => MemoryPlanner.Fit(request, free, least)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void StreamingDoesNotGrowWithTheLayers()
    {
        MemoryPlan xxl = MemoryPlan.Of(Base(DType.U4) with { Weights = StoredWeights.Of(T5Shapes.Named("xxl"), DType.U4), Residence = WeightResidence.Streamed, Examples = 1, Source = 84, Target = 8, Activations = Activations.Blocks });
        Assert.InRange(xxl.Total, 300_000_000, 3_000_000_000);
        Assert.True(xxl.Request.Weights.Bytes > 9_000_000_000);
    }

    [Fact]
    public void FormatsOfACheckpointAndOfAShapeAgree()
    {
        using Checkpoint checkpoint = Checkpoint.Open(TinyModel.Folder);
        StoredWeights a = StoredWeights.Of(checkpoint), b = StoredWeights.Of(checkpoint.Config, DType.F32);
        Assert.Equal((b.Bytes, b.LargestBytes, b.EmbeddingBytes, b.Formats, 0L, false), (a.Bytes, a.LargestBytes, a.EmbeddingBytes, a.Formats, a.ExpandedBytes, a.IsQuantised));
    }

    [Theory]
    [InlineData("6GiB", 6L << 30)]
    [InlineData("700MB", 700_000_000)]
    [InlineData("1.5 gb", 1_500_000_000)]
    [InlineData("12B", 12)]
    public void SizesAreRead(string text, long bytes) => Assert.Equal(bytes, ByteSize.Parse(text));

    [Theory]
    [InlineData("6")]
    [InlineData("GiB")]
    [InlineData("-1GB")]
    [InlineData("0MB")]
    [InlineData("1e5GB")]
    [InlineData("6 gigs")]
    public void OtherSizesAreRefused(string text) =>
        Assert.Equal($"memory: found '{text}', expected a number and a unit, for example 6GiB, 700MB or 1.5GB. (Parameter 'text')", Assert.Throws<ArgumentException>(() => ByteSize.Parse(text)).Message);

    private static MemoryRequest Base(DType format) => new() { Weights = StoredWeights.Of(T5Shapes.Named("base"), format), Threads = 2 };
}
