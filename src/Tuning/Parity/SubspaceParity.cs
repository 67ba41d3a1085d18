// Replays the fixture's Intrinsic Prompt Tuning: decoding, the two IST traces, MSF's first gradients and its ten steps.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Tuning.Subspaces;

namespace IptNative.Tuning.Parity;

/// <summary>The subspace with the model behind it.</summary>
internal sealed class SubspaceParity(ParityFixture fixture, Checkpoint checkpoint, FrozenT5 model, ParityTable table)
{
    private const double Smoothing = 0.1;
    private const double IstRate = 0.01;
    private const double MsfRate = 1e-3;
    private const double MsfMaxNorm = 0.1;

    private readonly DType _weights = checkpoint[T5Parameters.Shared].DType;
    private readonly ParityTolerance _float = ParityTolerance.Float32(checkpoint.Config, checkpoint[T5Parameters.Shared].DType);
    private readonly ParityTolerance _gradient = ParityTolerance.Gradient(checkpoint.Config, checkpoint[T5Parameters.Shared].DType);

    private readonly double _rounding = ParityTolerance.GradientRounding(fixture);

    public void All()
    {
        string[] names = ["z0_decoded_prompt", "ist_code_z", "ist_ce_z", "msf_loss"];
        string path = Path.Combine(fixture.Folder, "ae.safetensors"), pickled = Path.Combine(fixture.Folder, "ae.pt");
        if (!File.Exists(path) || !fixture.Has("z0"))
        {
            foreach (string name in names)
                table.Skip(name, "not in this fixture");
            return;
        }
        using (AutoencoderSubspace subspace = Read(path))
        {
            table.Compare("z0_decoded_prompt", fixture.Values("z0_decoded_prompt"), Wide(subspace.Decode(fixture.Floats("z0")).Values), new ParityTolerance(1e-6, "two small matrices and a tanh in float32"));
            Ist(subspace, "ist_code", TokenLoss.Plain with { LabelSmoothing = Smoothing }, mean: false, IstRecipe.Code);
            Ist(subspace, "ist_ce", TokenLoss.Plain, mean: true, IstRecipe.CrossEntropy);
        }
        Msf(File.Exists(pickled) ? pickled : path);
    }

    private AutoencoderSubspace Read(string path) => IptAutoencoderFile.Read(model.Device, path, model.Config.DModel);

    private void Ist(AutoencoderSubspace subspace, string trace, TokenLoss loss, bool mean, Func<double, int, IstRecipe> recipe)
    {
        if (!fixture.Has($"{trace}_z"))
        {
            table.Skip($"{trace}_z", "not in this fixture");
            return;
        }
        int steps = fixture.Dim($"{trace}_loss", 0);
        using var examples = new Examples(fixture, checkpoint, model, loss, prompts: 1, mean, subspace.Header.PromptLength);
        IstTrace ours = SubspaceReplay.Ist(subspace, fixture.Floats("z0"), recipe(IstRate, steps), steps, examples.Run);
        // As Adafactor, AdamW divides by the gradient's size: its relative error reaches each update whole, and updates add up.
        var tolerance = new ParityTolerance(Math.Max(2e-6, steps * _float.Relative / 2), $"{steps} steps on our own; PyTorch's float32 and float64 part by 4e-7 here");
        table.Compare($"{trace}_loss", fixture.Values(fixture.Has($"{trace}_loss64") ? $"{trace}_loss64" : $"{trace}_loss"), [.. ours.Losses], tolerance.NotBelow(fixture, $"{trace}_loss"));
        table.Compare($"{trace}_z", fixture.Values(fixture.Has($"{trace}_z64") ? $"{trace}_z64" : $"{trace}_z"), [.. ours.Vectors.SelectMany(Wide)], tolerance.NotBelow(fixture, $"{trace}_z"));
    }

    private void Msf(string start)
    {
        if (!fixture.Has("msf_loss"))
        {
            table.Skip("msf_loss", "not in this fixture");
            return;
        }
        int rows = fixture.Dim("msf_task_prompts", 0);
        if (rows < 2)
        {
            table.Skip("msf_loss", $"the fixture has {rows} task prompt; MSF is of two tasks or more");
            return;
        }
        int steps = fixture.Dim("msf_loss", 0);
        MsfTrace ours = Replay(start, rows, steps, seed: null);
        foreach ((string name, double[] gradient) in Tensors("msf_grad0"))
            table.Compare(name, gradient, Ours(ours.FirstGradients, name), _gradient);
        double[] expected = fixture.Values("msf_loss");
        string[] columns = ["msf_loss", "msf_reconstruction", "msf_grad_norm"];
        for (int c = 0; c < columns.Length; c++)
            table.Compare($"{columns[c]}, first step", [expected[c]], [ours.Losses[0][c]], c == 2 ? _gradient : _float);
        if (_weights != DType.F32)
        {
            foreach (string name in (string[])[.. columns, "msf_final"])
                table.Skip(name, $"{_weights.Name()} weights turn the signs of small gradients, and with them whole first steps of AdamW");
            return;
        }
        // Of 12,000 numbers some have gradients near 0, whose first AdamW steps are the sign of a rounding.
        var tolerance = new ParityTolerance(2e-4, $"{steps} steps on our own in float32");
        // From step to step the norm moves by up to a half of itself where the losses move by some hundredths: it magnifies the same difference as much more.
        var steep = new ParityTolerance(1e-2, $"{steps} steps on our own in float32, at a gradient that turns by half of itself in a step");
        var shaken = new Lazy<MsfTrace[]>(() => [.. Enumerable.Range(1, ParityTolerance.Shakes).Select(seed => Replay(start, rows, steps, seed))]);
        for (int c = 0; c < columns.Length; c++)
        {
            int column = c;
            Path(columns[c], [.. expected.Where((_, i) => i % 3 == column)], trace => [.. trace.Losses.Select(l => l[column])], c == 2 ? steep : tolerance);
        }
        foreach ((string name, double[] value) in Tensors("msf_final"))
            Path(name, value, trace => Ours(trace.Final, name), tolerance);

        void Path(string name, double[] wanted, Func<MsfTrace, double[]> of, ParityTolerance bound)
        {
            double[] found = of(ours);
            // The fixture has no float64 trace that would say how far rounding alone drives this path: where that matters, it is measured.
            if (wanted.Length == found.Length && ParityTable.Distance(wanted, found) > bound.Relative)
                bound = bound.NotBelow(shaken.Value.Max(other => ParityTable.Distance(found, of(other))), "paths of ours whose gradients differ by PyTorch's float32 rounding");
            table.Compare(name, wanted, found, bound);
        }
    }

    /// <summary>One run of MSF from a saved start; with a <paramref name="seed"/> every gradient of the model is off by as much as PyTorch's float32 is.</summary>
    private MsfTrace Replay(string start, int rows, int steps, int? seed)
    {
        using AutoencoderSubspace subspace = Read(start);
        using var examples = new Examples(fixture, checkpoint, model, TokenLoss.Plain with { LabelSmoothing = Smoothing }, rows, mean: false, subspace.Header.PromptLength);
        PromptGradient gradient = examples.Run;
        var random = SplitMix64.Of(seed ?? 0);
        return SubspaceReplay.Msf(subspace, fixture.Floats("msf_task_prompts"), fixture.Scalar("msf", "alpha"), MsfRate, MsfMaxNorm, steps, seed is null ? gradient : Shaken);

        void Shaken(Tensor prompts, int count, Tensor dPrompts, Span<double> losses)
        {
            examples.Run(prompts, count, dPrompts, losses);
            ParityTolerance.Shake(dPrompts, _rounding, ref random);
        }
    }

    // The tensors of one of the fixture's files, named after file and tensor; none where the file is not there.
    private List<(string Name, double[] Values)> Tensors(string file)
    {
        string path = Path.Combine(fixture.Folder, $"{file}.safetensors");
        if (!File.Exists(path))
        {
            table.Skip(file, "not in this fixture");
            return [];
        }
        using SafetensorsFile expected = SafetensorsFile.Open(path);
        return [.. expected.Names.Order(StringComparer.Ordinal).Select(name => ($"{file} {name}", Wide(expected.ReadFloats(name))))];
    }

    private static double[] Ours(IReadOnlyDictionary<string, float[]> tensors, string name) =>
        tensors.TryGetValue(name[(name.IndexOf(' ', StringComparison.Ordinal) + 1)..], out float[]? values) ? Wide(values) : [];

    private static double[] Wide(float[] values) => Array.ConvertAll(values, v => (double)v);

    /// <summary>The fixture's batch: every example with prompt 0, or example b with prompt b.</summary>
    private sealed class Examples : IDisposable
    {
        private readonly FrozenT5 _model;
        private readonly GradientPass _pass;
        private readonly T5Batch _batch = new();
        private readonly int[] _groups;
        private readonly double[] _weights;
        private readonly int[] _lengths;

        public Examples(ParityFixture fixture, Checkpoint checkpoint, FrozenT5 model, TokenLoss loss, int prompts, bool mean, int promptLength)
        {
            _model = model;
            T5Batch examples = fixture.Batch("input_ids", "labels", fixture.Lengths(), prompt: 0);
            _groups = new int[examples.Count];
            for (int b = 0; b < examples.Count; b++)
            {
                _groups[b] = prompts == 1 ? 0 : b;
                _batch.Add(examples.InputIds(b), examples.Labels(b), _groups[b]);
            }
            _weights = [.. Enumerable.Repeat(mean ? 1.0 / GradientParity.Tokens(_batch) : 1, prompts)];
            _lengths = [.. Enumerable.Repeat(promptLength, prompts)];
            _pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = GradientParity.Forward(model), Loss = loss });
        }

        public void Run(Tensor prompts, int rows, Tensor dPrompts, Span<double> losses)
        {
            Elementwise.Fill(_model.Device, dPrompts, dPrompts.Elements, 0);
            losses.Clear();
            _pass.Run(_batch, new PromptTable(prompts, _model.Config.DModel, _lengths), _groups, _weights, losses, dPrompts);
        }

        public void Dispose() => _pass.Dispose();
    }
}
