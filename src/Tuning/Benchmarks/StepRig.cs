// A prompt-tuning step ready to be taken again and again: model, passes, prompt, optimizer and one batch of random tokens. Not: timing over steps, printing.
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Optimizers;
using IptNative.Tuning.Memory;

namespace IptNative.Tuning.Benchmarks;

/// <summary>The same step each time; only the prompt moves.</summary>
internal sealed class StepRig : IDisposable
{
    /// <summary>The timeline's region around both passes over a part of the batch.</summary>
    public const string PassRegion = "passes";

    /// <summary>The timeline's region around the optimizer.</summary>
    public const string OptimizerRegion = "optimizer";

    private readonly FrozenT5 _model;
    private readonly GradientPass _pass;
    private readonly DeviceBuffer _prompt;
    private readonly DeviceBuffer _gradient;
    private readonly PromptTable _table;
    private readonly Adafactor _adafactor;
    private readonly List<T5Batch> _batches = [];
    private readonly int[] _groups;
    private readonly double[] _weights;
    private readonly double[] _loss = [0];

    /// <summary>Takes the memory of a step but for what grows in the first one.</summary>
    /// <param name="options">What is computed.</param>
    /// <param name="plan">The settings.</param>
    /// <param name="checkpoint">The weights; outlives this object.</param>
    /// <param name="device">Where the step runs; outlives this object.</param>
    public StepRig(StepBenchmarkOptions options, MemoryPlan plan, Checkpoint checkpoint, ComputeDevice device)
    {
        T5Config config = checkpoint.Config;
        MemoryRequest settings = plan.Request;
        Device = device;
        _model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device, Threads = options.Threads, AllowSpinning = false });
        _pass = new GradientPass(checkpoint, _model, new GradientOptions { Device = device, TimesPasses = true, Activations = settings.Activations, Tape = options.Tape, SpillFolder = options.SpillFolder, Forward = settings.Forward, Weights = settings.Residence });
        long elements = (long)options.Prompt * config.DModel;
        _prompt = Device.Allocate(DType.F32, elements, "prompt");
        _gradient = Device.Allocate(DType.F32, elements, "prompt gradient");
        var random = new Random(0);
        float[] start = new float[elements];
        for (int i = 0; i < start.Length; i++)
            start[i] = random.NextSingle() - 0.5f;
        _prompt.Tensor.CopyFrom<float>(start);
        _table = new PromptTable(_prompt.Tensor, config.DModel, options.Prompt);
        _adafactor = new Adafactor(Device, [new Parameter("prompt", new TensorShape(options.Prompt, config.DModel), _prompt.Tensor, _gradient.Tensor)], new AdafactorOptions());
        int[] lengths = SourceLengthTable.Of(options.Lengths, options.Batch, options.Source);
        for (int b = 0; b < options.Batch; b++)
        {
            if (b % settings.Examples == 0)
                _batches.Add(new T5Batch());
            _batches[^1].Add(Ids(lengths[b]), Ids(options.Target), prompt: 0);
            var one = new T5Flops(config, 1, options.Prompt + lengths[b], options.Target);
            Flops += one.Forward + one.InputGradient;
        }
        _groups = new int[options.Batch];
        _weights = [1.0 / (options.Batch * options.Target)];

        // Ids below 3 are special, and the last hundred are sentinels.
        int[] Ids(int count)
        {
            int[] ids = new int[count];
            for (int i = 0; i < count; i++)
                ids[i] = random.Next(3, Math.Max(4, config.VocabSize - 100));
            return ids;
        }
    }

    public ComputeDevice Device { get; }

    /// <summary>Operations of the floor: forward and input gradient, recomputing not counted.</summary>
    public double Flops { get; }

    /// <summary>Of the last step: embeddings to the decoder's last block.</summary>
    public double ForwardSeconds { get; private set; }

    /// <summary>Of the last step: lm_head and loss to the prompt's gradient.</summary>
    public double BackwardSeconds { get; private set; }

    /// <summary>Of the last step.</summary>
    public double OptimizerSeconds { get; private set; }

    /// <summary>Of the last step, each part of the batch: seconds of its backward pass.</summary>
    public List<double> PartBackwardSeconds { get; } = [];

    /// <summary>Of the last step.</summary>
    public double Loss => _loss[0];

    /// <summary>Throws where a number of the options is impossible.</summary>
    /// <param name="command">For the message.</param>
    /// <param name="options">To be checked.</param>
    /// <exception cref="ArgumentException">One of them is below 1.</exception>
    public static void Check(string command, StepBenchmarkOptions options)
    {
        foreach ((string name, int value) in ((string, int)[])[("batch", options.Batch), ("prompt", options.Prompt), ("source", options.Source), ("target", options.Target), ("steps", options.Steps)])
        {
            if (value < 1)
                throw new ArgumentException($"{command}: found {name} {value}, expected 1 or more.", nameof(options));
        }
    }

    /// <summary>Takes the step.</summary>
    public void Step()
    {
        Elementwise.Fill(Device, _gradient.Tensor, _gradient.Tensor.Elements, 0);
        _loss[0] = 0;
        ForwardSeconds = BackwardSeconds = 0;
        PartBackwardSeconds.Clear();
        foreach (T5Batch batch in _batches)
        {
            using OpScope trace = OpTrace.Region(PassRegion);
            _pass.Run(batch, _table, _groups.AsSpan(0, batch.Count), _weights, _loss, _gradient.Tensor);
            ForwardSeconds += _pass.ForwardSeconds;
            BackwardSeconds += _pass.BackwardSeconds;
            PartBackwardSeconds.Add(_pass.BackwardSeconds);
        }
        long begin = Stopwatch.GetTimestamp();
        using (OpTrace.Region(OptimizerRegion))
            _adafactor.Step(0.3);
        Device.Synchronize();
        OptimizerSeconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
    }

    public void Dispose()
    {
        _adafactor.Dispose();
        _gradient.Dispose();
        _prompt.Dispose();
        _pass.Dispose();
        _model.Dispose();
    }
}
