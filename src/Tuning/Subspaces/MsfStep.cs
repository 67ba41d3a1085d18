// One step of multi-task subspace finding around the model's own pass. Deliberately not: batches, the language model, schedules, files.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Optimizers;

namespace IptNative.Tuning.Subspaces;

/// <summary>L = [distillation] L_LM(P*) + [reconstruction] alpha mean((S* - S)^2), S = P / scale.</summary>
/// <remarks>Source: Qin et al. 2021, equation 3; the code's flags Distil_loss and AE_loss.</remarks>
public sealed record MsfObjective
{
    /// <summary>The language-model loss of the reconstructed prompts counts.</summary>
    public bool Distillation { get; init; } = true;

    /// <summary>The distance to the trained prompts counts.</summary>
    public bool Reconstruction { get; init; } = true;

    /// <summary>Weight of the reconstruction loss, in standardised units; 0 or more. IPT's code: 200, on prompts that are not standardised.</summary>
    public double Alpha { get; init; } = 200;

    internal void Validate()
    {
        if (!Distillation && !Reconstruction)
            throw new ArgumentException("MSF: both distillation and reconstruction are off, expected at least one of them: nothing would be learnt.");
        if (!(Alpha >= 0 && double.IsFinite(Alpha)))
            throw new ArgumentException($"MSF: alpha is {Alpha}, expected a finite number, 0 or more.");
    }
}

/// <summary>Reconstruct, then (the caller) the model forward and backward, then Backward and Update.</summary>
/// <remarks>
/// A row is one distinct prompt of the batch, however many examples use it: its share is their number over the batch's, and the model's gradient is already
/// summed over them. Nothing as large as a weight is made: gradients stay in factors, see docs/derivations/subspace.md.
/// </remarks>
public sealed class MsfStep : IDisposable
{
    private readonly AutoencoderSubspace _subspace;
    private readonly MsfObjective _objective;
    private readonly GrowingTensor _standard, _reconstructed, _projected, _z, _gradient, _dz, _dProjected;
    private readonly GradientFactors[] _factors;
    private double[] _distances = [];
    private float[] _weights = [];
    private int _rows;
    private bool _hasGradient;

    /// <summary>Takes the optimizer's state.</summary>
    /// <param name="subspace">Trained in place; the caller's.</param>
    /// <param name="objective">The loss.</param>
    /// <param name="options">AdamW's settings.</param>
    /// <exception cref="ArgumentException">A setting makes no sense, or the subspace names fewer than two source tasks.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room for the moments.</exception>
    public MsfStep(AutoencoderSubspace subspace, MsfObjective objective, AdamWOptions options)
    {
        ArgumentNullException.ThrowIfNull(subspace);
        ArgumentNullException.ThrowIfNull(objective);
        objective.Validate();
        SubspaceFile.RequireTasks("multi-task subspace finding", subspace.Header.SourceTasks);
        (_subspace, _objective) = (subspace, objective);
        Optimizer = new FactoredAdamW(subspace.Device, subspace.Parameters(), options);
        _factors = new GradientFactors[Optimizer.Parameters.Count];
        GrowingTensor Grow(string purpose) => new(subspace.Device, DType.F32, purpose);
        (_standard, _reconstructed, _projected, _z) = (Grow("standardised prompts"), Grow("reconstructed prompts"), Grow("intrinsic vectors"), Grow("intrinsic vectors"));
        (_gradient, _dz, _dProjected) = (Grow("gradient of prompts"), Grow("gradient of intrinsic vectors"), Grow("gradient of intrinsic vectors"));
    }

    /// <summary>Its state goes into a checkpoint.</summary>
    public FactoredAdamW Optimizer { get; }

    /// <summary>False where the model need not be run at all.</summary>
    public bool NeedsModel => _objective.Distillation;

    /// <summary>P* = Proj_b(Proj(P)) for the prompts of a batch.</summary>
    /// <param name="prompts">f32 [rows, n*D], trained prompts in the model's units; kept.</param>
    /// <param name="rows">Distinct prompts, 1 or more.</param>
    /// <param name="reconstructed">f32 [rows, n*D], overwritten: what the model gets.</param>
    /// <param name="scales">Each task's scale, or empty for the header's.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    public void Reconstruct(Tensor prompts, int rows, Tensor reconstructed, ReadOnlySpan<float> scales = default)
    {
        _subspace.CheckRows("Reconstruct", rows, scales);
        _subspace.Check("Reconstruct", prompts, "prompts", rows, _subspace.PromptElements);
        _subspace.Check("Reconstruct", reconstructed, "reconstructed", rows, _subspace.PromptElements);
        long elements = (long)rows * _subspace.PromptElements, small = (long)rows * _subspace.IntrinsicDim;
        Tensor standard = _standard.Take(elements), star = _reconstructed.Take(elements), z = _z.Take(small);
        Elementwise.Copy(_subspace.Device, _subspace.Inverse(prompts, rows, scales), standard, elements);
        _subspace.Project(standard, _projected.Take(small), z, rows);
        _subspace.DecodeRows(z, rows, star);
        _subspace.Multiply(star, reconstructed, rows, scales);
        (_rows, _hasGradient) = (rows, false);
    }

    /// <summary>The gradient of the whole objective, from the model's.</summary>
    /// <param name="dPrompts">f32 [rows, n*D], the gradient of L_LM at the reconstructed prompts, in the model's units; kept. Empty where distillation is off.</param>
    /// <param name="shares">Each row's share of the batch's examples; they sum to 1.</param>
    /// <param name="scales">As in Reconstruct.</param>
    /// <returns>alpha mean((S* - S)^2); measured even where reconstruction is off.</returns>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="InvalidOperationException">There was no Reconstruct.</exception>
    public double Backward(Tensor dPrompts, ReadOnlySpan<float> shares, ReadOnlySpan<float> scales = default)
    {
        if (_rows == 0)
            throw new InvalidOperationException("MsfStep.Backward: found no reconstructed prompts. Call Reconstruct first.");
        if (shares.Length != _rows)
            throw new ArgumentException($"MsfStep.Backward: found {shares.Length} shares, expected one for each of {_rows} prompts.", nameof(shares));
        int rows = _rows, n = _subspace.PromptElements;
        _subspace.CheckRows("Backward", rows, scales);
        ComputeDevice device = _subspace.Device;
        long elements = (long)rows * n, small = (long)rows * _subspace.IntrinsicDim;
        Tensor standard = _standard.Take(elements), star = _reconstructed.Take(elements), gradient = _gradient.Take(elements);
        if (_objective.Distillation)
        {
            _subspace.Check("Backward", dPrompts, "dPrompts", rows, n);
            // forward: P* = scale S*, so: dS* = scale dP*.
            _subspace.Multiply(dPrompts, gradient, rows, scales);
        }
        else
        {
            Elementwise.Fill(device, gradient, elements, 0);
        }
        if (_distances.Length != rows)
            (_distances, _weights) = (new double[rows], new float[rows]);
        SquaredError.Forward(device, star, standard, rows, n, _distances);
        double loss = 0;
        for (int r = 0; r < rows; r++)
        {
            loss += _objective.Alpha * shares[r] * _distances[r] / n;
            _weights[r] = (float)(_objective.Alpha * shares[r] / n);
        }
        if (_objective.Reconstruction)
            SquaredError.BackwardAccumulate(device, star, standard, _weights, gradient, rows, n);

        Tensor z = _z.Take(small), projected = _projected.Take(small), dz = _dz.Take(small), dProjected = _dProjected.Take(small), ones = _subspace.Ones(rows);
        _subspace.DecodeRowsBackward(gradient, rows, dz);
        // forward: z = f(W1 s + b1), so: d(W1 s + b1) = dz f'.
        Activation.Backward(device, _subspace.Header.ProjActivation, projected, z, dz, dProjected, small);
        Collect("W1", dProjected, standard, ones);
        Collect("W2", _subspace.InnerGradient(rows), z, ones);
        Collect("W3", gradient, _subspace.Hidden(rows), ones);
        _hasGradient = true;
        return loss;
    }

    /// <summary>One clipped AdamW step of Proj and Proj_b; nothing changes where the norm is not finite: the caller must stop.</summary>
    /// <param name="learningRate">Finite, 0 or more.</param>
    /// <param name="maxNorm">Above 0; infinity only measures.</param>
    /// <returns>The norm of all gradients together before clipping.</returns>
    /// <exception cref="InvalidOperationException">There was no Backward since the last Reconstruct.</exception>
    public double Update(double learningRate, double maxNorm = double.PositiveInfinity)
    {
        RequireGradient("Update");
        double norm = Optimizer.Step(_factors, _rows, learningRate, maxNorm);
        if (double.IsFinite(norm))
            _subspace.Header = _subspace.Header with { Trained = true };
        _hasGradient = false;
        return norm;
    }

    /// <summary>A tensor's whole gradient, multiplied out: for comparisons, not for training.</summary>
    /// <param name="name">W1.weight, W1.bias, ...</param>
    /// <returns>Row-major.</returns>
    /// <exception cref="ArgumentException">There is no such tensor.</exception>
    /// <exception cref="InvalidOperationException">There was no Backward since the last Reconstruct.</exception>
    public float[] Gradient(string name)
    {
        RequireGradient("Gradient");
        for (int i = 0; i < _factors.Length; i++)
        {
            FactoredParameter p = Optimizer.Parameters[i];
            if (p.Name != name)
                continue;
            using DeviceBuffer product = _subspace.Device.Allocate(DType.F32, p.Value.Elements, $"gradient of {name}");
            Gemm.Run(_subspace.Device, new GemmArgs { Compute = ComputeType.F32, A = _factors[i].Left, TransA = true, B = _factors[i].Right, C = product.Tensor, M = p.Rows, N = p.Columns, K = _rows });
            return product.Tensor.ToArray<float>();
        }
        throw new ArgumentException($"MsfStep.Gradient: found no tensor '{name}', expected one of {string.Join(", ", Optimizer.Parameters.Select(p => p.Name))}.", nameof(name));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Optimizer.Dispose();
        foreach (GrowingTensor tensor in (GrowingTensor[])[_standard, _reconstructed, _projected, _z, _gradient, _dz, _dProjected])
            tensor.Dispose();
    }

    private void Collect(string layer, Tensor dOutput, Tensor input, Tensor ones)
    {
        for (int i = 0; i < _factors.Length; i++)
        {
            string name = Optimizer.Parameters[i].Name;
            if (name == $"{layer}.weight")
                _factors[i] = new GradientFactors(dOutput, input);
            else if (name == $"{layer}.bias")
                _factors[i] = new GradientFactors(ones, dOutput);
        }
    }

    private void RequireGradient(string what)
    {
        if (!_hasGradient)
            throw new InvalidOperationException($"MsfStep.{what}: found no gradient. Call Reconstruct and Backward first.");
    }
}
