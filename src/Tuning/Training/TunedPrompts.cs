// What is tuned, seen from the training loop: prompts that a step reads, gradients that it leaves, and the parameters behind them.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Forward;
using IptNative.Optimizers;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Training;

/// <summary>Prompts of the runs side by side, one a run, and what they are made from.</summary>
public interface ITunedPrompts : IDisposable
{
    /// <summary>One prompt per run.</summary>
    PromptTable Table { get; }

    /// <summary>f32 [rows of the table, d_model]: where a step adds the prompts' gradients.</summary>
    Tensor Gradients { get; }

    /// <summary>What an optimizer updates for one run; names are unique within the run.</summary>
    /// <param name="run">0 to Table.Count - 1.</param>
    /// <returns>The same tensors every time.</returns>
    IReadOnlyList<Parameter> Parameters(int run);

    /// <summary>Makes the prompts from their parameters, before each step and evaluation.</summary>
    void MakePrompts();

    /// <summary>Makes the parameters' gradients from the prompts', after each step.</summary>
    void TakeGradients();
}

/// <summary>Prompt tuning: the prompt is its own parameter.</summary>
public sealed class DirectPrompts : ITunedPrompts
{
    private readonly PromptMemory _memory;
    private readonly DeviceBuffer _gradients;
    private readonly Parameter[][] _parameters;

    /// <summary>Copies the prompts into device memory.</summary>
    /// <param name="device">Where steps are computed.</param>
    /// <param name="initial">One prompt per run, of any lengths.</param>
    /// <exception cref="ArgumentException">There are none, or their widths differ.</exception>
    public DirectPrompts(ComputeDevice device, IReadOnlyList<Prompt> initial)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(initial);
        _memory = new PromptMemory(device, initial);
        _gradients = device.Allocate(DType.F32, Table.Values.Elements, "prompt gradients");
        _parameters = new Parameter[Table.Count][];
        for (int run = 0; run < Table.Count; run++)
        {
            var shape = new TensorShape(Table.Length(run), Table.DModel);
            _parameters[run] = [new Parameter("prompt", shape, _memory.Of(run), _gradients.Tensor.Slice((long)Table.First(run) * Table.DModel, shape.Elements))];
        }
    }

    /// <inheritdoc/>
    public PromptTable Table => _memory.Table;

    /// <inheritdoc/>
    public Tensor Gradients => _gradients.Tensor;

    /// <inheritdoc/>
    public IReadOnlyList<Parameter> Parameters(int run) => _parameters[run];

    /// <inheritdoc/>
    public void MakePrompts()
    {
        // They are what is tuned.
    }

    /// <inheritdoc/>
    public void TakeGradients()
    {
        // Likewise.
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _memory.Dispose();
        _gradients.Dispose();
    }
}
