using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Backward;

/// <summary>How far bf16 products and a bf16 tape move loss and prompt gradient from float32.</summary>
public sealed class BF16ComputeTests
{
    // How much a model magnifies roundings is its own affair (a steep softmax much), so the measure is what happens to the float32 gradient when only the
    // weights are rounded: one of the two operands of each product, in one direction. Here four operands are, twice the error where they are independent;
    // and twice that, because a prompt of a few numbers is a small sample.
    private const double TimesRoundedWeights = 4;

    // The shipped checkpoint's weights lie in a read-only file. PyTorch's own bf16 gradient is 0.034 from its float32 one at T5 v1.1 small's shape.
    private const double ShippedError = 0.05;

    // Less than this and nothing was rounded: float32 passes differ by 1e-6.
    private const double SomethingWasRounded = 1e-4;

    public static TheoryData<string, Activations, bool, bool> Ways()
    {
        var data = new TheoryData<string, Activations, bool, bool>();
        foreach (string shape in (string[])[nameof(OddShapes.TiedRelu), nameof(OddShapes.OneHead), nameof(OddShapes.WideHeads), nameof(OddShapes.ThinHeads), "shipped"])
        {
            foreach (Activations activations in Enum.GetValues<Activations>())
                data.Add(shape, activations, true, false);
            data.Add(shape, Activations.Full, true, true);
            data.Add(shape, Activations.Full, false, true);
        }
        return data;
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void LossAndGradientStayClose(string shape, Activations activations, bool compute, bool tape)
    {
        using Checkpoint checkpoint = NativeForwardTests.Open(shape);
        (float[] expected, double loss) = Gradient(checkpoint, ComputeType.F32, activations, DType.F32);
        (float[] actual, double itsLoss) = Gradient(checkpoint, compute ? ComputeType.BF16 : ComputeType.F32, activations, tape ? DType.BF16 : DType.F32);
        double error = Distance(expected, actual), bound = shape == "shipped" ? ShippedError : TimesRoundedWeights * Distance(expected, OfRoundedWeights(checkpoint));
        Assert.True(error >= SomethingWasRounded && error <= bound, $"relative error {error:e2}, expected {SomethingWasRounded:e0} to {bound:e2}");
        Assert.Equal(loss, itsLoss, bound * loss);
    }

    [Fact]
    public void ARepeatedStepAllocatesNothing()
    {
        using Checkpoint checkpoint = NativeForwardTests.Open(nameof(OddShapes.WideHeads));
        using var device = new CpuDevice(1, ComputeType.BF16);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1, Device = device });
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = ForwardEngine.Native, Tape = DType.BF16 });
        using PromptMemory prompts = NativeForwardTests.Prompts(device, checkpoint.Config);
        using DeviceBuffer gradient = device.Allocate(DType.F32, prompts.Table.Values.Elements, "gradient");
        T5Batch batch = NativeForwardTests.Batch(checkpoint.Config);
        int[] groups = new int[batch.Count];
        double[] weights = [1], loss = [0];
        for (int i = 0; i < 2; i++)
            pass.Run(batch, prompts.Table, groups, weights, loss, gradient.Tensor);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10; i++)
            pass.Run(batch, prompts.Table, groups, weights, loss, gradient.Tensor);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void ABF16TapeNeedsOurOwnForwardPass()
    {
        using Checkpoint checkpoint = NativeForwardTests.Open(nameof(OddShapes.OneHead));
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1 });
        var e = Assert.Throws<ArgumentException>(() => new GradientPass(checkpoint, model, new GradientOptions { Forward = ForwardEngine.Ort, Tape = DType.BF16 }));
        Assert.StartsWith("tape: found bf16 and a forward pass by ONNX Runtime, expected f32, or bf16 with our own kernels. Use --forward native, or --tape f32.", e.Message, StringComparison.Ordinal);
    }

    // Beyond bf16's range a product is infinite, never a wrong finite number: the step names where.
    [Fact]
    public unsafe void ALargestFloatIsReportedAndNotComputedWith()
    {
        using Checkpoint checkpoint = NativeForwardTests.Open(nameof(OddShapes.ThinHeads));
        using var device = new CpuDevice(1, ComputeType.BF16);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1, Device = device });
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = ForwardEngine.Native });
        using PromptMemory prompts = NativeForwardTests.Prompts(device, checkpoint.Config);
        T5Batch batch = NativeForwardTests.Batch(checkpoint.Config);
        *(float*)checkpoint["decoder.block.0.layer.2.DenseReluDense.wo.weight"].Address = float.MaxValue;
        double[] loss = [0];
        pass.Run(batch, prompts.Table, new int[batch.Count], [1], loss, default);
        Assert.False(double.IsFinite(loss[0]));
        Assert.Equal("decoder.block.0.layer.2, forward", pass.FindNonFinite(batch, prompts.Table));
    }

    // Last, because the checkpoint is not the same afterwards.
    private static unsafe float[] OfRoundedWeights(Checkpoint checkpoint)
    {
        foreach (T5Parameter parameter in T5Parameters.Of(checkpoint.Config))
        {
            Weight weight = checkpoint[parameter.Name];
            var bits = new Span<uint>((void*)weight.Address, (int)weight.Shape.Elements);
            for (int i = 0; i < bits.Length; i++)
                bits[i] = (bits[i] + 0x7FFF + ((bits[i] >> 16) & 1)) & 0xFFFF_0000;
        }
        return Gradient(checkpoint, ComputeType.F32, Activations.Full, DType.F32).Gradient;
    }

    private static double Distance(float[] expected, float[] actual)
    {
        double own = 0, apart = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            own += (double)expected[i] * expected[i];
            apart += ((double)actual[i] - expected[i]) * ((double)actual[i] - expected[i]);
        }
        return Math.Sqrt(apart / own);
    }

    private static (float[] Gradient, double Loss) Gradient(Checkpoint checkpoint, ComputeType compute, Activations activations, DType tape)
    {
        using var device = new CpuDevice(1, compute);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1, Device = device });
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Activations = activations, Forward = ForwardEngine.Native, Tape = tape });
        using PromptMemory prompts = NativeForwardTests.Prompts(device, checkpoint.Config);
        using DeviceBuffer gradient = device.Allocate(DType.F32, prompts.Table.Values.Elements, "gradient");
        gradient.Tensor.CopyFrom<float>(new float[prompts.Table.Values.Elements]);
        T5Batch batch = NativeForwardTests.Batch(checkpoint.Config);
        double[] loss = [0];
        pass.Run(batch, prompts.Table, new int[batch.Count], [1.0 / 11], loss, gradient.Tensor);
        return (gradient.Tensor.ToArray<float>(), loss[0]);
    }
}
