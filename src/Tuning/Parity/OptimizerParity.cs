// Replays the fixture's Adafactor traces: teacher-forced where the trajectory is chaotic (learning rate 0.3), free-running where it is not (0.003).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Optimizers;

namespace IptNative.Tuning.Parity;

/// <summary>Prompt tuning with Hugging Face's Adafactor.</summary>
internal sealed class OptimizerParity(ParityFixture fixture, Checkpoint checkpoint, FrozenT5 model, ParityTable table)
{
    private readonly ParityTolerance _gradient = ParityTolerance.Gradient(checkpoint.Config, checkpoint[T5Parameters.Shared].DType).NotBelow(fixture, "grad_prompt");
    private readonly ParityTolerance _float = ParityTolerance.Float32(checkpoint.Config, checkpoint[T5Parameters.Shared].DType).NotBelow(fixture, "logits");

    private readonly double _rounding = ParityTolerance.GradientRounding(fixture);

    public void All()
    {
        if (fixture.Has("adafactor_prompts"))
            TeacherForced("adafactor");
        else
            table.Skip("adafactor_prompts", "not in this fixture");
        if (fixture.Has("adafactor_lo_prompts"))
            FreeRunning("adafactor_lo");
        else
            table.Skip("adafactor_lo_prompts", "not in this fixture");
    }

    private void TeacherForced(string trace)
    {
        using var run = new Run(fixture, checkpoint, model, trace);
        float[] prompts = fixture.Floats($"{trace}_prompts"), gradients = fixture.Floats($"{trace}_grads");
        var loss = new double[run.Steps];
        var ours = new double[run.Steps * run.Elements];
        var updated = new double[run.Steps * run.Elements];
        for (int t = 0; t < run.Steps; t++)
        {
            // The model sees the fixture's prompt, the optimizer the fixture's gradient: neither inherits the other's rounding.
            run.SetPrompt(prompts.AsSpan(t * run.Elements, run.Elements));
            loss[t] = run.Gradient();
            ParityTable.Floats(run.GradientTensor).CopyTo(ours, t * run.Elements);
            run.SetGradient(gradients.AsSpan(t * run.Elements, run.Elements));
            run.Update();
            ParityTable.Floats(run.PromptTensor).CopyTo(updated, t * run.Elements);
        }
        table.Compare($"{trace}_loss", fixture.Values($"{trace}_loss"), loss, _float);
        table.Compare($"{trace}_grads", fixture.Values($"{trace}_grads"), ours, _gradient);
        var update = new ParityTolerance(1e-6, "one Adafactor update in float32");
        table.Compare($"{trace}_prompts", fixture.Values($"{trace}_prompts")[run.Elements..], updated, update);
        var state = new ParityTolerance(1e-6, $"{run.Steps} updates of a running mean in float32");
        table.Compare($"{trace}_row_final", fixture.Values($"{trace}_row_final"), run.State("exp_avg_sq_row"), state);
        table.Compare($"{trace}_col_final", fixture.Values($"{trace}_col_final"), run.State("exp_avg_sq_col"), state);
    }

    private void FreeRunning(string trace)
    {
        using var run = new Run(fixture, checkpoint, model, trace);
        (double[] loss, double[] path) = Path(run, trace, seed: null);
        // Adafactor divides by the gradient's size: a gradient's relative error reaches each update whole, and updates add up over the steps.
        var tolerance = new ParityTolerance(Math.Max(1e-4, run.Steps * _float.Relative / 2), $"{run.Steps} steps on our own; PyTorch's float32 and float64 part by up to 7e-5 here");
        double[] expected = fixture.Values($"{trace}_prompts")[run.Elements..];
        double gap = (fixture.Largest(trace, "max_abs_prompt_diff_f32_vs_f64_per_step") ?? 0) / ParityTable.MaxAbs(expected);
        table.Compare($"{trace}_loss", fixture.Values(fixture.Has($"{trace}_loss64") ? $"{trace}_loss64" : $"{trace}_loss"), loss, tolerance.NotBelow(fixture, $"{trace}_loss"));
        tolerance = tolerance.NotBelow(gap, "PyTorch's float32 and float64");
        // A unit of ReLU that turns on in one path alone bends it: where ours left the fixture's, its neighbours say how far rounding alone drives it.
        if (path.Length == expected.Length && ParityTable.Distance(expected, path) > tolerance.Relative)
            tolerance = tolerance.NotBelow(Enumerable.Range(1, ParityTolerance.Shakes).Max(seed => Shaken(trace, path, seed)), "paths of ours whose gradients differ by PyTorch's float32 rounding");
        table.Compare($"{trace}_prompts", expected, path, tolerance);
    }

    private double Shaken(string trace, double[] path, int seed)
    {
        using var run = new Run(fixture, checkpoint, model, trace);
        return ParityTable.Distance(path, Path(run, trace, seed).Path);
    }

    private (double[] Loss, double[] Path) Path(Run run, string trace, int? seed)
    {
        run.SetPrompt(fixture.Floats($"{trace}_prompts").AsSpan(0, run.Elements));
        var random = SplitMix64.Of(seed ?? 0);
        var loss = new double[run.Steps];
        var path = new double[run.Steps * run.Elements];
        for (int t = 0; t < run.Steps; t++)
        {
            loss[t] = run.Gradient();
            if (seed is not null)
                ParityTolerance.Shake(run.GradientTensor, _rounding, ref random);
            run.Update();
            ParityTable.Floats(run.PromptTensor).CopyTo(path, t * run.Elements);
        }
        return (loss, path);
    }

    /// <summary>One prompt with its gradient and optimizer on the fixture's batch.</summary>
    private sealed class Run : IDisposable
    {
        private readonly FrozenT5 _model;
        private readonly GradientPass _pass;
        private readonly T5Batch _batch;
        private readonly int[] _groups;
        private readonly double[] _weight;
        private readonly double[] _loss = new double[1];
        private readonly double _learningRate;
        private readonly DeviceBuffer _prompt;
        private readonly DeviceBuffer _gradient;
        private readonly PromptTable _table;
        private readonly Adafactor _adafactor;

        public Run(ParityFixture fixture, Checkpoint checkpoint, FrozenT5 model, string trace)
        {
            int d = model.Config.DModel, rows = fixture.Dim($"{trace}_prompts", 1);
            Steps = fixture.Dim($"{trace}_grads", 0);
            Elements = rows * d;
            _model = model;
            _pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = GradientParity.Forward(model) });
            _batch = fixture.Batch("input_ids", "labels", fixture.Lengths(), prompt: 0);
            _groups = new int[_batch.Count];
            _weight = [1.0 / GradientParity.Tokens(_batch)];
            _learningRate = fixture.Scalar(trace, "lr");
            _prompt = model.Device.Allocate(DType.F32, Elements, "prompt");
            _gradient = model.Device.Allocate(DType.F32, Elements, "prompt gradient");
            _table = new PromptTable(_prompt.Tensor, d, rows);
            _adafactor = new Adafactor(model.Device, [new Parameter("prompt", new TensorShape(rows, d), _prompt.Tensor, _gradient.Tensor)],
                new AdafactorOptions { Variant = AdafactorVariant.HuggingFace, WeightDecay = fixture.Scalar(trace, "weight_decay"), ClipThreshold = fixture.Scalar(trace, "clip_threshold") });
        }

        public int Steps { get; }

        public int Elements { get; }

        public Tensor PromptTensor => _prompt.Tensor;

        public Tensor GradientTensor => _gradient.Tensor;

        public void SetPrompt(ReadOnlySpan<float> values) => _prompt.Tensor.CopyFrom(values);

        public void SetGradient(ReadOnlySpan<float> values) => _gradient.Tensor.CopyFrom(values);

        public double Gradient()
        {
            Elementwise.Fill(_model.Device, _gradient.Tensor, Elements, 0);
            _loss[0] = 0;
            _pass.Run(_batch, _table, _groups, _weight, _loss, _gradient.Tensor);
            return _loss[0];
        }

        public void Update() => _adafactor.Step(_learningRate);

        public double[] State(string moment) => ParityTable.Floats(_adafactor.State.Single(s => s.Name.EndsWith(moment, StringComparison.Ordinal)).Value);

        public void Dispose()
        {
            _adafactor.Dispose();
            _pass.Dispose();
            _gradient.Dispose();
            _prompt.Dispose();
        }
    }
}
