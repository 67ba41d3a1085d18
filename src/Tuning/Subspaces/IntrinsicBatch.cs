// Many intrinsic vectors tuned side by side: one decode, one pass of the model over all of them, one backward. Deliberately not: the model, the optimizers'
// choice, schedules.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Optimizers;

namespace IptNative.Tuning.Subspaces;

/// <summary>z, prompts and their gradients of several runs (tasks, seeds, restarts, members of a population).</summary>
/// <remarks>
/// <see cref="Prompts"/> is [runs, n*D]: a prompt table of runs prompts of n rows. Fill <see cref="PromptGradients"/> by the model's backward. A run that
/// stopped keeps its last z; its rows are decoded still, so that the others' numbers stay where they are.
/// </remarks>
public sealed class IntrinsicBatch : IDisposable
{
    private readonly PromptSubspace _subspace;
    private readonly DeviceBuffer _z, _dz, _prompts, _dPrompts;
    private readonly string?[] _stopped;
    private readonly float[] _scales;

    /// <summary>Takes memory.</summary>
    /// <param name="subspace">Frozen; the caller's.</param>
    /// <param name="start">[runs, d_I]: where each run begins; finite.</param>
    /// <param name="scales">Each run's scale, or empty for the header's.</param>
    /// <exception cref="ArgumentException">The start is no whole number of vectors, or not finite.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    public IntrinsicBatch(PromptSubspace subspace, ReadOnlySpan<float> start, ReadOnlySpan<float> scales = default)
    {
        ArgumentNullException.ThrowIfNull(subspace);
        int d = subspace.IntrinsicDim;
        if (start.Length == 0 || start.Length % d != 0)
            throw new ArgumentException($"intrinsic tuning: found {start.Length} numbers to start from, expected a multiple of d_I = {d}, one vector per run.", nameof(start));
        foreach (float value in start)
        {
            if (!float.IsFinite(value))
                throw new ArgumentException($"intrinsic tuning: found {value} in the vectors to start from, expected finite numbers.", nameof(start));
        }
        Runs = start.Length / d;
        subspace.CheckRows("IntrinsicBatch", Runs, scales);
        (_subspace, _stopped, _scales) = (subspace, new string?[Runs], scales.ToArray());
        ComputeDevice device = subspace.Device;
        _z = device.Allocate(DType.F32, start.Length, "intrinsic vectors");
        _dz = device.Allocate(DType.F32, start.Length, "gradients of intrinsic vectors");
        _prompts = device.Allocate(DType.F32, (long)Runs * subspace.PromptElements, "decoded prompts");
        _dPrompts = device.Allocate(DType.F32, (long)Runs * subspace.PromptElements, "gradients of decoded prompts");
        _z.Tensor.CopyFrom<float>(start);
        Elementwise.Fill(device, _dz.Tensor, start.Length, 0);
        Elementwise.Fill(device, _dPrompts.Tensor, _dPrompts.Tensor.Elements, 0);
    }

    /// <summary>Number of runs.</summary>
    public int Runs { get; }

    /// <summary>f32 [runs, n*D], decoded from z.</summary>
    public Tensor Prompts => _prompts.Tensor;

    /// <summary>f32 [runs, n*D], the gradient at <see cref="Prompts"/>; the model's backward writes it.</summary>
    public Tensor PromptGradients => _dPrompts.Tensor;

    /// <summary>Runs that go on.</summary>
    public int Running => _stopped.Count(s => s is null);

    /// <summary>What an optimizer of one run trains: a view of its row of z and of its gradient.</summary>
    /// <param name="run">0 to <see cref="Runs"/> - 1.</param>
    /// <returns>Named z; the optimizers AdamW and Adafactor take it as it is.</returns>
    public Parameter Parameter(int run) => new("z", new TensorShape(_subspace.IntrinsicDim), Row(_z.Tensor, run), Row(_dz.Tensor, run));

    /// <summary>A run's vector.</summary>
    /// <param name="run">0 to <see cref="Runs"/> - 1.</param>
    /// <returns>A copy.</returns>
    public float[] Vector(int run) => Row(_z.Tensor, run).ToArray<float>();

    /// <summary>The gradient at a run's vector after <see cref="Backward()"/>.</summary>
    /// <param name="run">0 to <see cref="Runs"/> - 1.</param>
    /// <returns>A copy.</returns>
    public float[] VectorGradient(int run) => Row(_dz.Tensor, run).ToArray<float>();

    /// <summary>Sets a run's vector: where an ask/tell optimizer wants to look.</summary>
    /// <param name="run">0 to <see cref="Runs"/> - 1.</param>
    /// <param name="z">d_I numbers.</param>
    public void SetVector(int run, ReadOnlySpan<float> z) => Row(_z.Tensor, run).CopyFrom<float>(z);

    /// <summary>Why a run stopped; null while it goes on.</summary>
    /// <param name="run">0 to <see cref="Runs"/> - 1.</param>
    /// <returns>The reason.</returns>
    public string? StoppedBecause(int run) => _stopped[run];

    /// <summary>Ends a run; the others go on.</summary>
    /// <param name="run">0 to <see cref="Runs"/> - 1.</param>
    /// <param name="reason">Kept for the report; the first one counts.</param>
    public void Stop(int run, string reason) => _stopped[run] ??= reason;

    /// <summary>Prompts from all vectors.</summary>
    public void Decode() => _subspace.Decode(_z.Tensor, Runs, _prompts.Tensor, _scales);

    /// <summary>Gradients at all vectors from <see cref="PromptGradients"/>; a run whose loss or gradient is not finite stops.</summary>
    /// <param name="losses">[runs], of this pass.</param>
    /// <param name="step">For the reason.</param>
    /// <exception cref="ArgumentException">Not one loss per run.</exception>
    public void Backward(ReadOnlySpan<double> losses, long step)
    {
        if (losses.Length != Runs)
            throw new ArgumentException($"intrinsic tuning: found {losses.Length} losses, expected one for each of {Runs} runs.", nameof(losses));
        ComputeDevice device = _subspace.Device;
        for (int run = 0; run < Runs; run++)
        {
            Tensor gradient = _dPrompts.Tensor.Slice((long)run * _subspace.PromptElements, _subspace.PromptElements);
            if (_stopped[run] is null && !double.IsFinite(losses[run]))
                Stop(run, $"step {step}: the loss is {losses[run]}, expected a finite number. Lower the learning rate.");
            else if (_stopped[run] is null && Reductions.FirstNonFinite(device, gradient, gradient.Elements) is >= 0 and long at)
                Stop(run, $"step {step}: the gradient of the prompt has a NaN or infinity in row {at / _subspace.Header.DModel}, expected finite numbers. Lower the learning rate.");
            // Rows do not mix in the product, but a stopped run's rows need not cost denormals or NaN arithmetic either.
            if (_stopped[run] is not null)
                Elementwise.Fill(device, gradient, gradient.Elements, 0);
        }
        Backward();
    }

    /// <summary>Gradients at all vectors from <see cref="PromptGradients"/>, whatever they are: for a caller that looks at every run's norm itself.</summary>
    public void Backward() => _subspace.DecodeBackward(_dPrompts.Tensor, Runs, _dz.Tensor, _scales);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DeviceBuffer buffer in (DeviceBuffer[])[_z, _dz, _prompts, _dPrompts])
            buffer.Dispose();
    }

    private Tensor Row(Tensor table, int run) => table.Slice((long)run * _subspace.IntrinsicDim, _subspace.IntrinsicDim);
}
