using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Backward;

/// <summary>A step in lanes has the bits of the step op by op, which whoever asks for each pass' own time gets.</summary>
public sealed class GradientLanesTests
{
    private static readonly int[] Lengths = [7, 0, 20, 1];

    // 40 examples of at most 77 rows are one part a lane; 150 are several, of which no two are equal.
    [Theory]
    [InlineData(2, 4, ComputeType.F32, Activations.Full, false)]
    [InlineData(2, 40, ComputeType.F32, Activations.Blocks, false)]
    [InlineData(3, 150, ComputeType.F32, Activations.Full, false)]
    [InlineData(3, 41, ComputeType.F32, Activations.Sublayers, true)]
    [InlineData(2, 40, ComputeType.BF16, Activations.Full, false)]
    public void ItsBitsAreThoseOfTheStepOpByOp(int threads, int examples, ComputeType compute, Activations activations, bool bf16Tape)
    {
        using Checkpoint checkpoint = NativeForwardTests.Open("shipped");
        using var device = new CpuDevice(threads, compute);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = threads, Device = device });
        var options = new GradientOptions { Forward = ForwardEngine.Native, Activations = activations, Tape = bf16Tape ? DType.BF16 : DType.F32 };
        using var lanes = new GradientPass(checkpoint, model, options);
        using var opByOp = new GradientPass(checkpoint, model, options with { TimesPasses = true });
        using var prompts = new Step(device, checkpoint.Config.DModel, checkpoint.Config.VocabSize, examples);
        (float[] gradient, float[] inputs, double[] losses) = prompts.Run(opByOp);
        Assert.Contains(gradient, g => g != 0);
        for (int repeat = 0; repeat < 3; repeat++)
        {
            (float[] itsGradient, float[] itsInputs, double[] itsLosses) = prompts.Run(lanes);
            Assert.Equal(losses, itsLosses);
            Assert.True(Same(gradient, itsGradient), "prompt gradients differ in their bits");
            Assert.True(Same(inputs, itsInputs), "input gradients differ in their bits");
        }
        Assert.Equal((opByOp.SourceRows, opByOp.TargetRows), (lanes.SourceRows, lanes.TargetRows));
        // Each lane keeps the tape of its own part; what both keep whole is the gradient of the encoder's input.
        if (examples == 150)
            Assert.True(lanes.Bytes < opByOp.Bytes, $"{lanes.Bytes} bytes in lanes, {opByOp.Bytes} op by op");
    }

    [Fact]
    public void LossesAloneAreThoseOfTheStepOpByOp()
    {
        using Checkpoint checkpoint = NativeForwardTests.Open("shipped");
        using var device = new CpuDevice(2);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 2, Device = device });
        using var lanes = new GradientPass(checkpoint, model, new GradientOptions { Forward = ForwardEngine.Native });
        using var opByOp = new GradientPass(checkpoint, model, new GradientOptions { Forward = ForwardEngine.Native, TimesPasses = true });
        using var prompts = new Step(device, checkpoint.Config.DModel, checkpoint.Config.VocabSize, 9);
        Assert.Equal(prompts.Losses(opByOp), prompts.Losses(lanes));
    }

    [Fact]
    public void ARepeatedStepAllocatesNothing()
    {
        using Checkpoint checkpoint = NativeForwardTests.Open("shipped");
        using var device = new CpuDevice(2);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 2, Device = device });
        using var lanes = new GradientPass(checkpoint, model, new GradientOptions { Forward = ForwardEngine.Native });
        using var prompts = new Step(device, checkpoint.Config.DModel, checkpoint.Config.VocabSize, 12);
        // A lane takes its memory when a part first comes to it, and parts go to whoever is free.
        for (int i = 0; i < 5; i++)
            prompts.Once(lanes);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10; i++)
            prompts.Once(lanes);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4096);
    }

    private static bool Same(float[] a, float[] b) => MemoryMarshal.AsBytes(a.AsSpan()).SequenceEqual(MemoryMarshal.AsBytes(b.AsSpan()));

    /// <summary>Examples of several runs in no order, some of them templates with their prompt in two stretches, one without a prompt.</summary>
    private sealed class Step : IDisposable
    {
        private readonly T5Batch _batch = new();
        private readonly PromptMemory _prompts;
        private readonly DeviceBuffer _gradient;
        private readonly CpuDevice _device;
        private readonly int[] _groups;
        private readonly int _d;
        private readonly double[] _losses = new double[Lengths.Length];
        private readonly double[] _weights = [0.1, 0.3, 0.05, 0.2];

        public Step(CpuDevice device, int d, int vocabulary, int examples)
        {
            var random = new Random(examples);
            (_device, _d) = (device, d);
            _prompts = new PromptMemory(device, d, [.. Enumerable.Range(0, Lengths.Sum() * d).Select(_ => (float)(2 * random.NextDouble() - 1))], Lengths);
            _gradient = device.Allocate(DType.F32, _prompts.Table.Values.Elements, "gradient");
            _groups = [.. Enumerable.Range(0, examples).Select(i => i * 7 % Lengths.Length)];
            for (int i = 0; i < examples; i++)
            {
                int prompt = i == 3 ? -1 : _groups[i];
                int[] input = Ids(1 + random.Next(56)), answer = Ids(1 + random.Next(5));
                if (prompt >= 0 && Lengths[prompt] == 7 && i % 3 == 0)
                    _batch.AddTemplate([.. Enumerable.Repeat(T5Batch.Place, 3), .. input, .. Enumerable.Repeat(T5Batch.Place, 4)], answer, prompt);
                else
                    _batch.Add(input, answer, prompt, Math.Min(i % 3, input.Length));
            }

            int[] Ids(int count) => [.. Enumerable.Range(0, count).Select(_ => random.Next(vocabulary))];
        }

        public void Once(GradientPass pass)
        {
            Array.Clear(_losses);
            Elementwise.Fill(_device, _gradient.Tensor, _gradient.Tensor.Elements, 0);
            pass.Run(_batch, _prompts.Table, _groups, _weights, _losses, _gradient.Tensor);
        }

        public (float[] Gradient, float[] Inputs, double[] Losses) Run(GradientPass pass)
        {
            Once(pass);
            return (_gradient.Tensor.ToArray<float>(), pass.InputGradient.ToArray<float>(), [.. _losses]);
        }

        public double[] Losses(GradientPass pass)
        {
            Array.Clear(_losses);
            pass.Run(_batch, _prompts.Table, _groups, _weights, _losses, default);
            return [.. _losses];
        }

        public void Dispose()
        {
            _prompts.Dispose();
            _gradient.Dispose();
        }
    }
}
