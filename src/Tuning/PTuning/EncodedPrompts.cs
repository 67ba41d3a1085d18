// P-tuning seen from the training loop: an encoder's weights are the parameters, the prompts are what it makes of them. Deliberately not: the network.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Forward;
using IptNative.Optimizers;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Training;

namespace IptNative.Tuning.PTuning;

/// <summary>One prompt encoder per run.</summary>
public sealed class EncodedPrompts : ITunedPrompts
{
    private readonly PromptMemory _memory;
    private readonly DeviceBuffer _gradients;
    private readonly PromptEncoder[] _encoders;

    /// <summary>Makes an encoder for each run and its first prompt.</summary>
    /// <param name="device">Where steps are computed.</param>
    /// <param name="initial">What each run's virtual tokens start from.</param>
    /// <param name="seeds">Each run's, for its encoder's weights.</param>
    /// <param name="kind">LSTM and MLP, or MLP.</param>
    /// <param name="hidden">h; 0 takes d_model.</param>
    /// <param name="layers">LSTM layers.</param>
    /// <exception cref="ArgumentException">There are no prompts, their widths differ, or a size is impossible.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    public EncodedPrompts(ComputeDevice device, IReadOnlyList<Prompt> initial, IReadOnlyList<int> seeds, PromptEncoderKind kind, int hidden, int layers)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(initial);
        ArgumentNullException.ThrowIfNull(seeds);
        _memory = new PromptMemory(device, initial);
        _gradients = device.Allocate(DType.F32, Table.Values.Elements, "prompt gradients");
        _encoders = [.. initial.Select((p, i) => new PromptEncoder(device, new PromptEncoderShape(kind, p.Length, p.DModel, hidden == 0 ? p.DModel : hidden, layers), p.Values, seeds[i]))];
        MakePrompts();
    }

    /// <inheritdoc/>
    public PromptTable Table => _memory.Table;

    /// <inheritdoc/>
    public Tensor Gradients => _gradients.Tensor;

    /// <inheritdoc/>
    public IReadOnlyList<Parameter> Parameters(int run) => _encoders[run].Parameters;

    /// <inheritdoc/>
    public void MakePrompts()
    {
        for (int run = 0; run < _encoders.Length; run++)
            _encoders[run].Forward(_memory.Of(run));
    }

    /// <inheritdoc/>
    public void TakeGradients()
    {
        for (int run = 0; run < _encoders.Length; run++)
            _encoders[run].Backward(_gradients.Tensor.Slice((long)Table.First(run) * Table.DModel, (long)Table.Length(run) * Table.DModel));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (PromptEncoder encoder in _encoders)
            encoder.Dispose();
        _gradients.Dispose();
        _memory.Dispose();
    }
}
