using System.Text.Json;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Tuning.Benchmarks;
using Xunit;

namespace IptNative.Tuning.Tests.Benchmarks;

public sealed class ProfileTests
{
    // Every op that a native f32 step of a gated T5 calls, forward and backward; a new one must be counted here and in ProfileCosts.
    private static readonly string[] StepOps =
    [
        "AdafactorUpdate.RunFull", "CrossEntropy.ForwardBackwardInPlace", "Elementwise.Fill", "Elementwise.Scale", "EmbeddingGather.Forward",
        "GatedGelu.Backward", "GatedGelu.Forward", "Gemm A B", "Gemm A B^T", "PackedAttention.Backward", "PackedAttention.Forward",
        "PromptGather.BackwardPackedAccumulate", "PromptGather.ForwardPacked", "RelativePositionBias.ForwardByDistance",
        "RmsNorm.Backward", "RmsNorm.BackwardAccumulate", "RmsNorm.Forward", "RmsNorm.InverseRms",
    ];

    private static ProfileResult Profile(ForwardEngine forward = ForwardEngine.Native) => ProfileRunner.Run(
        new StepBenchmarkOptions { Batch = 3, Prompt = 7, Source = 11, Target = 5, Steps = 2, Threads = 2, Forward = forward, Activations = Activations.Full },
        TinyModel.Folder, TestContext.Current.CancellationToken);

    [Fact]
    public void EveryOpOfTheStepIsARowThatIsCounted()
    {
        ProfileResult result = Profile();
        // The bias is made in the first step of a length and then kept.
        Assert.Equal(StepOps.Except(["RelativePositionBias.ForwardByDistance"]), result.Rows.Select(r => r.Op).Distinct().Order(StringComparer.Ordinal));
        Assert.All(result.Rows, r =>
        {
            Assert.NotEqual(ProfileRunner.NoBound, r.Bound);
            Assert.True(r.Bytes > 0 && r.CallsPerStep > 0 && r.P20 > 0 && r.P20 <= r.P50 && r.P50 <= r.P80, $"{r}");
        });
    }

    [Fact]
    public void SharesSumToTheStepAndProductsToTheirCounts()
    {
        ProfileResult result = Profile();
        Assert.Equal(1, result.Rows.Sum(r => r.Share) + result.BetweenOps, 9);
        // What lies between ops is bookkeeping; a machine that is busy elsewhere may hold the thread there, but not for most of the step.
        Assert.InRange(result.BetweenOps, 0, 0.6);
        // Encoder, forward: q, k, v, o and the feed-forward's three, each over batch * (prompt + source) rows.
        int layers = result.Plan.Request.Weights.Config.NumLayers;
        string rows = $"[{3 * (7 + 11)}, ";
        Assert.Equal(7 * layers + 2 * result.Plan.Request.Weights.Config.NumDecoderLayers,
            result.Rows.Where(r => r.Op == "Gemm A B^T" && r.Shape.StartsWith(rows, StringComparison.Ordinal)).Sum(r => r.CallsPerStep));
        Assert.InRange(result.Products.Share, 0.01, 1);
        Assert.Equal(result.Ceilings.FmaFlopsPerSecond * 1e-9, result.Products.Peak, 6);
    }

    [Fact]
    public void ForwardByOnnxRuntimeIsTwoRowsWithoutACeiling()
    {
        ProfileResult result = Profile(ForwardEngine.Ort);
        ProfileRow[] passes = [.. result.Rows.Where(r => r.Op.StartsWith("ONNX Runtime", StringComparison.Ordinal))];
        Assert.Equal(["ONNX Runtime decoder", "ONNX Runtime encoder"], passes.Select(r => r.Op).Order(StringComparer.Ordinal));
        Assert.All(passes, r => Assert.Equal(ProfileRunner.NoBound, r.Bound));
        Assert.DoesNotContain(result.Rows, r => r.Op == "GatedGelu.Forward");
        Assert.DoesNotContain(result.UnderHalf, r => r.Op.StartsWith("ONNX", StringComparison.Ordinal));
    }

    [Fact]
    public void TimelineNestsAndHoldsBothPasses()
    {
        ProfileResult result = Profile();
        Assert.Equal("step", result.Timeline[0].Name);
        Assert.Contains(result.Timeline, b => b.Name == "encoder.block.0.layer.0.SelfAttention backward");
        ProfileBar forward = result.Timeline.Single(b => b.Name == "forward"), backward = result.Timeline.Single(b => b.Name == "backward");
        Assert.True(forward.Begin + forward.Seconds <= backward.Begin + 1e-9);
        // Every bar lies inside one of the depth above it.
        const double Tick = 1e-6;
        foreach (ProfileBar bar in result.Timeline.Where(b => b.Depth > 0))
            Assert.Contains(result.Timeline, b => b.Depth == bar.Depth - 1 && b.Begin <= bar.Begin + Tick && bar.Begin + bar.Seconds <= b.Begin + b.Seconds + Tick);
        Assert.All(result.Timeline.Where(b => b.Name.EndsWith(" forward", StringComparison.Ordinal)), b => Assert.True(b.Begin < backward.Begin));
    }

    [Fact]
    public void FilesAreATraceAndAPageOfItsOwn()
    {
        ProfileResult result = Profile() with { Model = "</script><b>" };
        string folder = Directory.CreateTempSubdirectory("iptnative-profile-").FullName;
        try
        {
            ProfileTimeline.Write(result, folder);
            using var trace = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, ProfileTimeline.TraceFile)));
            JsonElement[] events = [.. trace.RootElement.GetProperty("traceEvents").EnumerateArray()];
            Assert.Equal(result.Timeline.Count + 1, events.Length);
            Assert.All(events.Skip(1), e =>
            {
                Assert.Equal("X", e.GetProperty("ph").GetString());
                Assert.True(e.GetProperty("dur").GetDouble() >= 0);
            });
            string page = File.ReadAllText(Path.Combine(folder, ProfileTimeline.PageFile));
            Assert.Equal(1, page.Split("</script>").Length - 1);
            Assert.DoesNotContain("http", page, StringComparison.Ordinal);
            Assert.Contains("GatedGelu.Backward", page, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void FloorIsTheCeilingThatBinds()
    {
        var ceilings = new ProfileCeilings(10e9, 100e9, 300e9, 1e-6);
        Assert.Equal((1e-3, "memory"), ceilings.Floor(new OpCost("", 10e6, 1e6), bf16: false));
        Assert.Equal((1e-2, "compute"), ceilings.Floor(new OpCost("", 10e6, 1e9), bf16: false));
        Assert.Equal((1e9 / 300e9, "compute"), ceilings.Floor(new OpCost("", 10e6, 1e9), bf16: true));
        Assert.Equal((1e-6, "launch"), ceilings.Floor(new OpCost("", 100, 100), bf16: false));
    }

    [Fact]
    public void ImpossibleNumbersAreRefused()
    {
        ArgumentException e = Assert.Throws<ArgumentException>(() => ProfileRunner.Run(new StepBenchmarkOptions { Batch = 0 }, TinyModel.Folder, default));
        Assert.Contains("profile: found batch 0, expected 1 or more", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void RecorderCountsWhatItHasNoRoomForAndKeepsTheDepth()
    {
        using var device = new CpuDevice(1);
        using DeviceBuffer x = device.Allocate(DType.F32, 17, "x");
        var recorder = new OpRecorder(device, capacity: 2);
        OpTrace.Start(recorder);
        try
        {
            Assert.Throws<InvalidOperationException>(() => OpTrace.Start(new OpRecorder(device)));
            using (OpTrace.Region("outer"))
            {
                Elementwise.Fill(device, x.Tensor, 17, 1);
                Elementwise.Fill(device, x.Tensor, 17, 2);
            }
        }
        finally
        {
            OpTrace.Stop();
        }
        Elementwise.Fill(device, x.Tensor, 17, 3);
        Assert.Equal((2, 1), (recorder.Count, recorder.Dropped));
        Assert.Equal(("outer", 0, true), (recorder.Events[0].Name, recorder.Events[0].Depth, recorder.Events[0].IsRegion));
        Assert.Equal(("Elementwise.Fill", 1, 17L), (recorder.Events[1].Name, recorder.Events[1].Depth, recorder.Events[1].D0));
        Assert.True(recorder.Events[0].End >= recorder.Events[1].End);
    }

    [Fact]
    public void OpsOfOtherThreadsAreNotRecordedAndNothingIsAllocated()
    {
        using var device = new CpuDevice(1);
        using DeviceBuffer x = device.Allocate(DType.F32, 17, "x");
        var recorder = new OpRecorder(device);
        OpTrace.Start(recorder);
        try
        {
            var other = new Thread(() => Elementwise.Fill(device, x.Tensor, 17, 1));
            other.Start();
            other.Join();
            Assert.Equal(0, recorder.Count);
            Elementwise.Fill(device, x.Tensor, 17, 1);
            long before = GC.GetAllocatedBytesForCurrentThread();
            Elementwise.Fill(device, x.Tensor, 17, 1);
            Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
            Assert.Equal(2, recorder.Count);
        }
        finally
        {
            OpTrace.Stop();
        }
    }
}
