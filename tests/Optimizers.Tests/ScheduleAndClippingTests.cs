// Schedules against transformers' rates, clipping against torch's rule and against the norm that the fixture recorded.
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests;
using Xunit;

namespace IptNative.Optimizers.Tests;

public sealed class ScheduleAndClippingTests
{
    [Fact]
    public void LinearScheduleGivesTheFixturesRates()
    {
        // 0.06 of 20 steps: a warm-up of 1.2 steps, unrounded, as the code of IPT has it.
        var schedule = new LearningRateSchedule(ScheduleShape.Linear, 0.01, 0.06 * 20, 20);
        schedule.Validate();
        JsonArray expected = JsonNode.Parse(File.ReadAllText(Goldens.PathOf("expected.json")))!["ist_code"]!["lr_per_step"]!.AsArray(); // present: the fixture is in the repository
        Assert.Equal(20, expected.Count);
        for (int t = 0; t < 20; t++)
            Assert.Equal((double)expected[t]!, schedule.At(t), 1e-17); // the same operations in double, perhaps in another order
    }

    [Theory]
    [InlineData(ScheduleShape.Constant, 0, 0, 0.5)]
    [InlineData(ScheduleShape.Constant, 0, 1000, 0.5)]
    [InlineData(ScheduleShape.Constant, 4, 0, 0)]
    [InlineData(ScheduleShape.Constant, 4, 3, 0.375)]
    [InlineData(ScheduleShape.Constant, 4, 4, 0.5)]
    [InlineData(ScheduleShape.Linear, 4, 2, 0.25)]
    [InlineData(ScheduleShape.Linear, 4, 7, 0.25)]
    [InlineData(ScheduleShape.Linear, 4, 10, 0)]
    [InlineData(ScheduleShape.Linear, 4, 11, 0)]
    public void RatesAreThoseOfTransformers(ScheduleShape shape, double warmup, long step, double expected) =>
        Assert.Equal(expected, new LearningRateSchedule(shape, 0.5, warmup, 10).At(step));

    [Fact]
    public void RefusesNumbersThatMakeNoSchedule()
    {
        Assert.Contains("BaseRate is -1", Assert.Throws<ArgumentException>(() => new LearningRateSchedule(ScheduleShape.Constant, -1, 0, 1).Validate()).Message);
        Assert.Contains("WarmupSteps is NaN", Assert.Throws<ArgumentException>(() => new LearningRateSchedule(ScheduleShape.Constant, 1, double.NaN, 1).Validate()).Message);
        Assert.Contains("TotalSteps is 5 with 6 steps of warm-up", Assert.Throws<ArgumentException>(() => new LearningRateSchedule(ScheduleShape.Linear, 1, 6, 5).Validate()).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => default(LearningRateSchedule).At(-1));
    }

    [Fact]
    public void NormOfAllGradientsIsTheFixtures()
    {
        // The first-step gradients of the autoencoder, and their norm as clip_grad_norm_ returned it (float32 there, so some eps of it).
        byte[] file = File.ReadAllBytes(Goldens.PathOf("msf_grad0.safetensors"));
        int header = (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        using var device = new CpuDevice(2);
        var parameters = new List<TestParameter>();
        foreach ((string name, JsonNode? entry) in JsonNode.Parse(file.AsSpan(8, header))!.AsObject())
        {
            if (name == "__metadata__")
                continue;
            int[] range = [.. entry!["data_offsets"]!.AsArray().Select(o => (int)o!)];
            ReadOnlySpan<float> data = MemoryMarshal.Cast<byte, float>(file.AsSpan(8 + header + range[0], range[1] - range[0]));
            var parameter = new TestParameter(device, name, data.Length);
            data.CopyTo(parameter.Gradient);
            parameters.Add(parameter);
        }
        Parameter[] all = [.. parameters.Select(p => p.Parameter)];
        double expected = Goldens.Read<float>("msf_loss")[2];
        Assert.Equal(expected, GradientClipping.Norm(device, all), 16 * TensorAssert.Eps * expected);
        Assert.Equal(expected, GradientClipping.Clip(device, all, 0.1), 16 * TensorAssert.Eps * expected);
        // max / (norm + 1e-6): a hair below 0.1; every element rounds by half an eps.
        Assert.Equal(0.1 * expected / (expected + 1e-6), GradientClipping.Norm(device, all), 2 * TensorAssert.Eps * 0.1);
        foreach (TestParameter parameter in parameters)
            parameter.Dispose();
    }

    [Fact]
    public void LeavesSmallAndBrokenGradientsAlone()
    {
        using var device = new CpuDevice(1);
        using var x = new TestParameter(device, "x", 2);
        float[] small = [3, 4];
        small.CopyTo(x.Gradient);
        Assert.Equal(5, GradientClipping.Clip(device, [x.Parameter], 6));
        Assert.Equal(small, x.Gradient.ToArray());
        Assert.Equal(5, GradientClipping.Clip(device, [x.Parameter], double.PositiveInfinity));
        x.Gradient[1] = float.NaN;
        Assert.True(double.IsNaN(GradientClipping.Clip(device, [x.Parameter], 1)));
        x.Gradient[1] = float.NegativeInfinity;
        Assert.Equal(double.PositiveInfinity, GradientClipping.Clip(device, [x.Parameter], 1));
        Assert.Equal(3, x.Gradient[0]);
        Assert.Throws<ArgumentOutOfRangeException>(() => GradientClipping.Clip(device, [x.Parameter], 0));
    }
}
