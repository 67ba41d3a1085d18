// One step of a small model on any device: ragged texts and prompts, two groups.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Device.Tests;

internal sealed class Step : IDisposable
{
    private static readonly int[] Lengths = [2, 0, 3];

    private readonly ComputeDevice _device;
    private readonly FrozenT5 _model;
    private readonly DeviceBuffer _prompts;
    private readonly DeviceBuffer _gradient;

    public Step(Checkpoint checkpoint, ComputeDevice device, GradientOptions options, RuntimePlace? ort = null)
    {
        _device = device;
        T5Config config = checkpoint.Config;
        if (ort is not null)
            RuntimePlace.Provide(device, ort);
        // The model itself is the host's: it generates.
        _model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1, Device = device as CpuDevice });
        Pass = new GradientPass(checkpoint, _model, options with { Device = device, Forward = ort is null ? ForwardEngine.Native : ForwardEngine.Ort });
        var random = new Random(8);
        float[] values = [.. Enumerable.Range(0, Lengths.Sum() * config.DModel).Select(_ => (float)(2 * random.NextDouble() - 1))];
        _prompts = device.Allocate(DType.F32, values.Length, "prompts");
        _prompts.Tensor.CopyFrom<float>(values);
        _gradient = device.Allocate(DType.F32, values.Length, "prompt gradient");
        Table = new PromptTable(_prompts.Tensor, config.DModel, Lengths);
        // One example without a prompt, one prompt of no rows, one in the middle of its text.
        Batch.Add(Ids(4), Ids(2), 0, 2);
        Batch.Add(Ids(1), Ids(3), 2);
        Batch.Add(Ids(3), Ids(1));
        Batch.Add(Ids(2), [.. Ids(1), T5Batch.Ignore], 1);

        int[] Ids(int n) => [.. Enumerable.Range(0, n).Select(_ => random.Next(config.VocabSize))];
    }

    public GradientPass Pass { get; }

    public PromptTable Table { get; }

    public T5Batch Batch { get; } = new();

    public int[] Groups { get; } = [0, 1, 1, 0];

    public (float[] Gradient, double[] Loss) Run()
    {
        _gradient.Tensor.CopyFrom<float>(new float[_gradient.Tensor.Elements]);
        double[] loss = [0, 0];
        Pass.Run(Batch, Table, Groups, [0.5, 1.0 / 3], loss, _gradient.Tensor);
        return (_gradient.Tensor.ToArray<float>(), loss);
    }

    public void Dispose()
    {
        Pass.Dispose();
        _model.Dispose();
        _gradient.Dispose();
        _prompts.Dispose();
    }
}
