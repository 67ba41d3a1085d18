// What holds for every optimizer: bit-exact resume, independence of neighbours and threads, no allocation, refusals.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using Xunit;

namespace IptNative.Optimizers.Tests;

/// <summary>Nothing else runs beside these: a collection that another test's garbage sets off counts the rest of this thread's allocation window as used.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class CountsAllocations
{
    public const string Name = "counts allocations";
}

[Collection(CountsAllocations.Name)]
public sealed class OptimizerTests
{
    public static TheoryData<string> Kinds => ["t5x full", "t5x factored", "hf", "adamw torch", "adamw hf"];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void ResumesBitForBit(string kind)
    {
        using var device = new CpuDevice(2);
        float[] through = Train(device, kind, steps: 12, resumeAfter: -1);
        Assert.Equal(through, Train(device, kind, steps: 12, resumeAfter: 5));
        Assert.Equal(through, Train(device, kind, steps: 12, resumeAfter: 0));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void DoesNotDependOnThreads(string kind)
    {
        using var one = new CpuDevice(1);
        using var three = new CpuDevice(3);
        Assert.Equal(Train(one, kind, 4, -1), Train(three, kind, 4, -1));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void ARunBesideOthersIsItsSoloRun(string kind)
    {
        const int Runs = 3, Rows = 130, Columns = 129;
        using var device = new CpuDevice(2);
        float[] solo = Train(device, kind, steps: 4, resumeAfter: -1);
        using DeviceBuffer values = device.Allocate(DType.F32, Runs * Rows * Columns, "table"), gradients = device.Allocate(DType.F32, Runs * Rows * Columns, "table");
        var optimizers = new Optimizer[Runs];
        var random = new Random(99);
        for (int run = 0; run < Runs; run++)
        {
            Tensor value = values.Tensor.Slice(run * Rows * Columns, Rows * Columns), gradient = gradients.Tensor.Slice(run * Rows * Columns, Rows * Columns);
            optimizers[run] = Create(device, kind, new Parameter("prompt", new TensorShape(Rows, Columns), value, gradient));
            if (run != 1)
                TestParameter.Random(random, Rows * Columns).CopyTo(TestParameter.Span(value));
        }
        // The middle run gets the solo run's start and gradients, the others their own, other rates and another clipping.
        var source = new Random(1);
        TestParameter.Random(source, Rows * Columns).CopyTo(TestParameter.Span(optimizers[1].Parameters[0].Value));
        for (int t = 0; t < 4; t++)
        {
            for (int run = 0; run < Runs; run++)
                TestParameter.Random(run == 1 ? source : random, Rows * Columns).CopyTo(TestParameter.Span(optimizers[run].Parameters[0].Gradient));
            for (int run = 0; run < Runs; run++)
            {
                GradientClipping.Clip(device, optimizers[run].Parameters, run == 1 ? 50 : 0.1);
                optimizers[run].Step(run == 1 ? 0.1 : 0.7);
            }
        }
        Assert.Equal(solo, TestParameter.Span(optimizers[1].Parameters[0].Value).ToArray());
        foreach (Optimizer optimizer in optimizers)
            optimizer.Dispose();
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void AStepAllocatesNothing(string kind)
    {
        using var device = new CpuDevice(1);
        using var x = new TestParameter(device, "x", 130, 129);
        x.Value.Fill(1);
        x.Gradient.Fill(0.5f);
        using Optimizer optimizer = Create(device, kind, x.Parameter);
        optimizer.Step(0.1);
        GradientClipping.Clip(device, optimizer.Parameters, 0.1);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 5; i++)
        {
            GradientClipping.Clip(device, optimizer.Parameters, 0.01);
            optimizer.Step(0.1);
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void RefusesWhatDoesNotFitAndSaysWhy()
    {
        using var device = new CpuDevice(1);
        using var x = new TestParameter(device, "prompt", 3, 4);
        using var cube = new TestParameter(device, "cube", 2, 3, 4);
        Parameter p = x.Parameter;
        Assert.Contains("AdamW: found no parameter, expected at least one.", Refusal([]));
        Assert.Contains("AdamW: found two parameters named 'prompt', expected unique names.", Refusal([p, p]));
        Assert.Contains("AdamW: parameter 'cube' has shape [2, 3, 4], expected a vector or matrix with at least one element.", Refusal([cube.Parameter]));
        Assert.Equal("AdamW: the gradient of 'prompt' holds 11 f32 on cpu, expected [3, 4] = 12 f32 on cpu.", Refusal([p with { Gradient = p.Gradient.Slice(0, 11) }]));
        using var optimizer = new AdamW(device, [p], new AdamWOptions());
        Assert.Contains(
            "AdamW.Step: found a learning rate of NaN at step 0, expected a finite number, 0 or more.",
            Assert.Throws<ArgumentOutOfRangeException>(() => optimizer.Step(double.NaN)).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => optimizer.Restore(-1));
        Assert.Equal(0, optimizer.Steps);
        Assert.Equal(2 * 12 * sizeof(float), optimizer.Bytes);

        string Refusal(Parameter[] parameters) => Assert.Throws<ArgumentException>(() => new AdamW(device, parameters, new AdamWOptions())).Message;
    }

    private static float[] Train(CpuDevice device, string kind, int steps, int resumeAfter)
    {
        using var x = new TestParameter(device, "prompt", 130, 129);
        var random = new Random(1);
        TestParameter.Random(random, 130 * 129).CopyTo(x.Value);
        Optimizer optimizer = Create(device, kind, x.Parameter);
        for (int t = 0; t < steps; t++)
        {
            if (t == resumeAfter)
            {
                float[][] saved = [.. optimizer.State.Select(s => TestParameter.Span(s.Value).ToArray())];
                long done = optimizer.Steps;
                optimizer.Dispose();
                optimizer = Create(device, kind, x.Parameter);
                for (int i = 0; i < saved.Length; i++)
                    saved[i].CopyTo(TestParameter.Span(optimizer.State[i].Value));
                optimizer.Restore(done);
            }
            TestParameter.Random(random, 130 * 129).CopyTo(x.Gradient);
            GradientClipping.Clip(device, optimizer.Parameters, 50);
            optimizer.Step(0.1);
        }
        optimizer.Dispose();
        return x.Value.ToArray();
    }

    private static Optimizer Create(CpuDevice device, string kind, Parameter parameter) => kind switch
    {
        "t5x full" => new Adafactor(device, [parameter], new AdafactorOptions { MinDimSizeToFactor = 200 }),
        "t5x factored" => new Adafactor(device, [parameter], new AdafactorOptions()),
        "hf" => new Adafactor(device, [parameter], new AdafactorOptions { Variant = AdafactorVariant.HuggingFace }),
        "adamw torch" => new AdamW(device, [parameter], new AdamWOptions { WeightDecay = 0.1 }),
        _ => new AdamW(device, [parameter], new AdamWOptions { Variant = AdamWVariant.HuggingFace, WeightDecay = 0.1 }),
    };
}
