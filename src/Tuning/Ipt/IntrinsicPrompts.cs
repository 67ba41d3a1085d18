// Intrinsic subspace tuning seen from the training loop: z is the parameter, the prompts are decoded from it. Deliberately not: which tasks, which optimizer.
using IptNative.Kernels.Devices;
using IptNative.Model.Forward;
using IptNative.Optimizers;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;

namespace IptNative.Tuning.Ipt;

/// <summary>One intrinsic vector per run, all in one frozen subspace.</summary>
internal sealed class IntrinsicPrompts : ITunedPrompts
{
    private readonly IntrinsicBatch _batch;
    private readonly Parameter[][] _parameters;

    /// <summary>Takes memory and decodes the start.</summary>
    /// <param name="subspace">Frozen; the caller's.</param>
    /// <param name="start">[runs, d_I], finite.</param>
    /// <param name="scales">Each run's scale, or empty for the header's.</param>
    public IntrinsicPrompts(PromptSubspace subspace, ReadOnlySpan<float> start, ReadOnlySpan<float> scales = default)
    {
        _batch = new IntrinsicBatch(subspace, start, scales);
        int[] lengths = new int[_batch.Runs];
        lengths.AsSpan().Fill(subspace.Header.PromptLength);
        Table = new PromptTable(_batch.Prompts, subspace.Header.DModel, lengths);
        _parameters = [.. Enumerable.Range(0, _batch.Runs).Select(r => (Parameter[])[_batch.Parameter(r)])];
        MakePrompts();
    }

    public PromptTable Table { get; }

    public Tensor Gradients => _batch.PromptGradients;

    public IReadOnlyList<Parameter> Parameters(int run) => _parameters[run];

    public float[] Vector(int run) => _batch.Vector(run);

    public void MakePrompts() => _batch.Decode();

    public void TakeGradients() => _batch.Backward();

    public void Dispose() => _batch.Dispose();
}
