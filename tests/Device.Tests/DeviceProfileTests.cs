// `profile` and the plan of a device with memory of its own: the same rows as on the CPU, timed by the device's clock, and bytes that are what was taken.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Backward;
using IptNative.Tuning.Benchmarks;
using IptNative.Tuning.Memory;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class DeviceProfileTests
{
    [Fact]
    public void EveryOpOfTheStepIsARowByTheDevicesClock()
    {
        using var model = new SmallModel();
        // So little is free that the yardsticks are short.
        using ComputeDevice device = HostAcceleratorDevice.Create(memory: 300_000_000);
        using var cpu = new CpuDevice(1);
        var options = new StepBenchmarkOptions { Batch = 1, Prompt = 2, Source = 3, Target = 1, Steps = 1, Threads = 1, Forward = ForwardEngine.Native };
        ProfileResult there = ProfileRunner.Run(options, model.Model, TestContext.Current.CancellationToken, device);
        ProfileResult here = ProfileRunner.Run(options, model.Model, TestContext.Current.CancellationToken, cpu);
        Assert.Equal("ilgpu", there.Device);
        Assert.Equal(0, there.Threads);
        Assert.Equal(Rows(here), Rows(there));
        Assert.Equal(1, there.Rows.Sum(r => r.Share) + there.BetweenOps, 9);
        Assert.All(there.Rows, r => Assert.True(r.P50 > 0, $"{r}"));
        Assert.True(there.Ceilings is { CopyBytesPerSecond: > 0, FmaFlopsPerSecond: > 0, BF16FlopsPerSecond: > 0, LaunchSeconds: > 0 }, $"{there.Ceilings}");
        for (int i = 1; i < there.Timeline.Count; i++)
            Assert.True(there.Timeline[i].Begin >= 0 && there.Timeline[i].Seconds >= 0, $"{there.Timeline[i]}");

        static string[] Rows(ProfileResult r) => [.. r.Rows.Select(row => $"{row.Op} {row.Shape} x {row.CallsPerStep}").Order(StringComparer.Ordinal)];
    }

    /// <summary>The plan counts by the same sizes as the code takes memory by; what it allows for code is nothing here.</summary>
    [Theory]
    [InlineData(Activations.Full, 3)]
    [InlineData(Activations.Blocks, 3)]
    [InlineData(Activations.Sublayers, 1)]
    public void ThePlanIsWhatIsTaken(Activations activations, int batch)
    {
        using var model = new SmallModel();
        using ComputeDevice device = HostAcceleratorDevice.Create();
        using var checkpoint = Model.Checkpoints.Checkpoint.Open(model.Model);
        var options = new StepBenchmarkOptions { Batch = batch, Prompt = 3, Source = 5, Target = 2, Activations = activations, Threads = 1 };
        MemoryPlan plan = StepBenchmark.Plan(options, StoredWeights.Of(checkpoint), device);
        using (var rig = new StepRig(options, plan, checkpoint, device))
            rig.Step();
        long planned = plan.Total - plan.Lines.Single(l => l.What == "device code").Bytes;
        // Scratch is taken by the megabyte; ids, biases and Adafactor's sums are not counted.
        Assert.InRange(device.PeakBytes, 0.9 * planned, 1.1 * planned + (1 << 20) + 20_000);
    }
}
